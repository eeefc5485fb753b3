"""Who leads in PostgreSQL: one server at a time, by a lease of the database that each commit renews."""

import contextlib
import os
import socket
import types
from pathlib import Path
from typing import Any

import pytest
import trio

from bunqueue_trio.config import BEATS_A_LEASE
from bunqueue_trio.engine.trails import Line
from bunqueue_trio.errors import StartupError, StoreError, TakenOver
from bunqueue_trio.storage.awaited import NoteLeader, nobody_asks
from bunqueue_trio.storage.cluster import DoorFigures
from tests.storage.ledger import NOW, Ledger, keep, loaded, make_job
from tests.storage.retention_contract import prune_all

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres import standby
from bunqueue_trio.storage.postgres.announcer import Announcer
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query, Row
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.standby import take_over
from bunqueue_trio.storage.postgres.store import PostgresStore
from bunqueue_trio.storage.postgres.terms import Seen
from tests.storage.postgres_stores import Open
from tests.storage.postgres_stores import open_ as open_
from tests.storage.postgres_stores import place as place
from tests.storage.postgres_stores import sql as sql
from tests.storage.postgres_stores import store as store


def test_a_second_server_does_not_lead_while_the_first_is_alive(store: PostgresStore, open_: Open):
    other = open_(leads=False)
    assert f"process {os.getpid()}" in str(other.take())
    store.close()
    assert other.take() is None


class SlowAnswers:
    """A connection whose answers take that long."""

    is_open = False

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s

    async def ask_soon(self, query: Query, wait_s: float) -> list[Row]:
        with trio.move_on_after(wait_s):
            await trio.sleep(self._takes_s)
            return [(0, None)]
        raise StoreError("the database did not answer")

    def close(self) -> None: ...


async def test_a_leader_waits_for_a_slow_database_and_has_time_for_another_try_where_that_is_silent(
    store: PostgresStore, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
):
    """On a busy machine the answer to a word took a sixth of the lease, and all changes were refused for nothing."""
    monkeypatch.setattr("bunqueue_trio.storage.postgres.store._now", trio.current_time)
    writer = store._writer
    for takes_s, is_answered in ((0.3 * store.lease_s, True), (1000, False)):
        began = store._beat_at = trio.current_time()
        await trio.sleep(store.lease_s / BEATS_A_LEASE)
        monkeypatch.setattr(store, "_writer", SlowAnswers(takes_s))
        with contextlib.nullcontext() if is_answered else pytest.raises(StoreError):
            await store.beat()
        assert trio.current_time() - began < 0.6 * store.lease_s
    writer.close()


def test_it_leads_when_nothing_was_heard_of_the_first_for_its_lease(open_: Open, sql: Any):
    first = open_(lease_s=1000)
    other = open_(lease_s=1, leads=False)
    sql("UPDATE bq.leader SET beat = clock_timestamp() - interval '900 s'")
    assert other.take() is not None, "it is the lease of the first that counts"
    sql("UPDATE bq.leader SET beat = clock_timestamp() - interval '1001 s'")
    assert other.take() is None
    with pytest.raises(TakenOver, match="another server has taken over"):
        Ledger(first).write([make_job(1)])
    assert loaded(other) == {}


def test_who_leads_no_more_as_far_as_anybody_can_tell_is_followed_after_its_last_word(open_: Open):
    first = open_(lease_s=1000)
    other = open_(leads=False)
    last = other.seen().beat
    Ledger(first).write([make_job(1)])
    assert other.take(last_word=last) is not None, "it has said something since"
    assert other.take(last_word=other.seen().beat) is None
    with pytest.raises(TakenOver, match="another server has taken over"):
        Ledger(first).write([make_job(2)])


def test_a_commit_is_heard_of_too(open_: Open, sql: Any):
    first = open_(lease_s=10)
    sql("UPDATE bq.leader SET beat = clock_timestamp() - interval '9.99 s'")
    Ledger(first).write([make_job(1)])
    assert open_(leads=False).take() is not None


def test_whoever_was_taken_over_writes_and_deletes_nothing(store: PostgresStore, open_: Open, sql: Any):
    ledger = Ledger(store)
    ledger.completed(3)
    ledger.tell(1)
    ledger.tell(1)
    ledger.write(trails=[Line("actions", "", NOW, b"{}")])
    sql("UPDATE bq.leader SET beat = '-infinity'")
    second = open_()
    for keeping in (keep(completed=0), keep(events=0, events_since=NOW * 2), keep(actions=0)):
        with pytest.raises(TakenOver):
            prune_all(store, keeping)
    store._beat_at = 0
    with pytest.raises(TakenOver):
        trio.run(store.beat)
    with pytest.raises(TakenOver):
        list(store.load())
    store.close()  # which lets nobody else lead: it does not lead itself
    assert second.finished_totals["completed"] == 3
    assert [row[0] for row in sql("SELECT count(*) FROM bq.finished")] == [3]
    Ledger(second).write([make_job(9)])


def test_a_beat_says_that_it_is_alive_and_one_is_enough(open_: Open, sql: Any):
    store = open_(lease_s=10)
    sql("UPDATE bq.leader SET beat = clock_timestamp() - interval '9 s'")
    trio.run(store.beat)
    assert sql("SELECT clock_timestamp() - beat > '8 s' FROM bq.leader") == [(True,)], "it was heard of just now"
    store._beat_at -= 5
    trio.run(store.beat)
    assert sql("SELECT clock_timestamp() - beat < '8 s' FROM bq.leader") == [(True,)]


def test_it_leads_for_sure_as_long_as_nobody_else_can(open_: Open):
    store = open_(lease_s=10)
    assert store.leads()
    led = store.leading()
    assert (led.term, 0 < led.lease_left_s <= 10, led.remembered, led.batches) == (1, True, 0, 0)
    assert (led.lease_s, led.remembers_s) == (10, None)
    store._beat_at -= 9.95
    assert not store.leads(), "by a clock that goes faster somebody may lead"
    assert store.leading().lease_left_s == 0
    Ledger(store).write([make_job(1)])
    assert store.leads()
    assert store.leading().remembered == store._tail.bytes > 0


def test_a_long_start_is_heard_of(open_: Open, sql: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.storage.postgres.store.STORE_PAGE_ROWS", 2)
    store = open_()
    Ledger(store).write([make_job(seq) for seq in range(1, 6)])
    sql("UPDATE bq.leader SET beat = clock_timestamp() - interval '9 s'")
    store._beat_at -= 5
    assert [job.seq for job in store.load()] == [1, 2, 3, 4, 5]
    assert sql("SELECT clock_timestamp() - beat < '8 s' FROM bq.leader") == [(True,)]


async def test_a_standby_waits_and_leads_when_the_first_ends(url: str, open_: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.storage.postgres.standby.STANDBY_S", 0.01)
    first = open_()
    Ledger(first).write([make_job(1)])
    with trio.move_on_after(0.1) as patience:
        await take_over(url, 10)
    assert patience.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, first.close)
        second = await take_over(url, 10)
    assert list(loaded(second)) == ["job-1"]
    second.close()


async def test_a_standby_learns_where_the_leader_is_reached(
    url: str, place: Place, open_: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.storage.postgres.standby.STANDBY_S", 0.01)
    first, told, known = open_(), [], trio.Event()
    announcer = first.announcer()

    def note_leader(where: str | None, key: bytes) -> None:
        told.append((where, key))
        if where is not None:
            known.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_over, url, 10, lambda: note_leader)
        while not told:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        key = await announcer.key()
        assert (told[0], len(key)) == ((None, key), 32)
        assert announcer.own_host() == "127.0.0.1", "over a Unix socket"
        await announcer.tell("10.0.0.7:6791")
        with trio.fail_after(60):
            await known.wait()
        assert told[-1] == ("10.0.0.7:6791", key)
        nursery.cancel_scope.cancel()
    announcer.close()
    first.close()
    open_()
    looking = Announcer(place)
    assert looking.look() == (None, key), "the next leader is somewhere else"
    await announcer.tell("10.0.0.7:6791")
    assert looking.look() == (None, key), "who leads no more is not to be found"
    looking.close()
    announcer.close()


async def test_the_own_address_is_that_of_the_way_to_the_database(place: Place, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as way:
        link = DatabaseLink(place.conninfo)
        monkeypatch.setattr(
            link, "_connection", types.SimpleNamespace(pgconn=types.SimpleNamespace(socket=way.fileno()))
        )
        assert link.own_host() == "127.0.0.1"


class Watched:
    """A leader's row as a standby sees it in virtual time: what it answers, look by look, and when it was taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Seen | Exception) -> None:
        self.looks = 0
        self.taken_at: list[float] = []
        self._answers = answers
        monkeypatch.setattr(PostgresStore, "seen", lambda _: self._seen())
        monkeypatch.setattr(PostgresStore, "take", lambda _, last_word="": self._take())
        monkeypatch.setattr(PostgresStore, "skip_event_ids", lambda _: None)
        monkeypatch.setattr(Announcer, "wait", lambda *_: ("there", b""))

    def _seen(self) -> Seen:
        answer = self._answers[self.looks % len(self._answers)]
        self.looks += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _take(self) -> None:
        self.taken_at.append(trio.from_thread.run_sync(trio.current_time))


SILENT = Seen("the first", 1, 7, "life then", False, 10.0)


async def test_a_server_gives_the_leader_time_however_old_its_last_word_is(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """The database may have been away, and have come back without its newest transactions, which only the leader has."""
    watched = Watched(monkeypatch, SILENT)
    (await take_over(url, 3)).close()
    assert 10 <= watched.taken_at[0] < 11, "its lease, whatever that of who waits is; and nobody was asked before"


async def test_a_leader_that_has_ended_is_followed_when_it_has_missed_a_word(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """Its machine says so; not when the database has lost what a later leader wrote, which may still be there."""
    watched = Watched(monkeypatch, SILENT)
    gone = DoorFigures(is_gone=True)
    (await take_over(url, 3, lambda: lambda *_: gone)).close()
    word_s = SILENT.lease_s / BEATS_A_LEASE
    assert 1.5 * word_s <= watched.taken_at[0] < 1.5 * word_s + 0.2, "it looks often then"
    later = SILENT._replace(term=2, holder="the one that lives")
    watched = Watched(monkeypatch, later, *[SILENT] * 100)
    (await take_over(url, 3, lambda: lambda *_: gone)).close()
    assert watched.taken_at[0] >= SILENT.lease_s


async def test_the_end_of_a_leader_is_seen_between_two_looks_and_its_hurry_has_an_end(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """One whose address is wrong is not asked for ten times a second for ever."""
    words = [SILENT._replace(batch=n) for n in range(1000)]
    watched, ended_at, looked_at = Watched(monkeypatch, *words), 5 + standby.STANDBY_S / 2, list[float]()

    def seen(_: PostgresStore) -> Seen:
        looked_at.append(trio.from_thread.run_sync(trio.current_time))
        if looked_at[-1] > 25:
            raise StartupError("enough")
        return watched._seen()

    monkeypatch.setattr(PostgresStore, "seen", seen)
    with pytest.raises(StartupError, match="enough"):
        await take_over(url, 3, lambda: lambda *_: DoorFigures(is_gone=trio.current_time() >= ended_at))
    first = min(at for at in looked_at if at >= ended_at)
    assert first - ended_at <= 2 * standby.STANDBY_S / 5
    hurried, calm = (sum(begin <= at < begin + 2.8 for at in looked_at) for begin in (ended_at, ended_at + 10))
    assert hurried > 20
    assert calm <= 2.8 / standby.STANDBY_S + 1, "after its own lease"


async def test_a_leader_that_is_about_to_serve_is_found_soon_and_one_that_never_says_where_is_not_asked_for_for_ever(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """Clients of who waits had a pause of up to a second more, for nothing."""
    Watched(monkeypatch, *[SILENT._replace(batch=n) for n in range(1000)])
    looked_at: list[float] = []

    def wait(*_: object) -> tuple[str | None, bytes]:
        now = trio.from_thread.run_sync(trio.current_time)
        looked_at.append(now)
        if now > 40:
            raise StartupError("enough")
        return (None if now > 20 else "there"), b""

    monkeypatch.setattr(Announcer, "wait", wait)
    with pytest.raises(StartupError, match="enough"):
        await take_over(url, 3)
    before, hurried, calm = (sum(begin <= at < begin + 2.8 for at in looked_at) for begin in (10, 20.5, 30))
    assert hurried > 20
    assert before == calm <= 2.8 / standby.STANDBY_S + 1


async def test_who_cannot_see_where_the_leader_is_does_not_take_it_for_dead(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """The one that has ended may not be the one that leads by now, and is busy with its start."""
    watched = Watched(monkeypatch, SILENT)
    looks = 0

    def wait(*_: object) -> tuple[None, bytes]:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise StoreError("gone")
        return None, b""

    monkeypatch.setattr(Announcer, "wait", wait)
    (await take_over(url, 3, lambda: lambda *_: DoorFigures(is_gone=True))).close()
    assert watched.taken_at[0] >= SILENT.lease_s


async def test_who_has_let_go_is_followed_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    watched = Watched(monkeypatch, SILENT._replace(is_free=True))
    (await take_over(url, 10)).close()
    assert watched.taken_at == [0]


async def test_errors_put_off_a_failover_by_no_more_than_they_last(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """A bad connection of its own is no reason to begin anew."""
    watched = Watched(monkeypatch, *[SILENT] * 8, StoreError("gone"))
    (await take_over(url, 10)).close()
    assert 10 < watched.taken_at[0] < 14


async def test_time_in_which_nothing_was_seen_is_not_silence(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """A database that was away for longer than the lease, between two looks of the same."""
    watched = Watched(monkeypatch, SILENT, *[StoreError("gone")] * 100, *[SILENT] * 100)
    (await take_over(url, 10)).close()
    assert watched.taken_at[0] >= 50 + 10


def test_who_stood_still_has_not_seen_the_leader_be_silent():
    silence = standby.Silence()
    silence.note(SILENT, 0.0)
    silence.note(SILENT, 40.0)
    assert silence.seconds == 2 * standby.STANDBY_S
    silence.note(SILENT._replace(beat="life later"), 40.5)
    assert silence.seconds == 0, "a word"


async def test_a_database_that_has_lost_a_later_leader_is_not_believed_that_nobody_leads(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """That leader may write again that it leads."""
    free = Seen("the one before", 0, 7, "life before", True, 0.0)
    watched = Watched(monkeypatch, *[SILENT] * 3, *[free] * 100)
    (await take_over(url, 10)).close()
    assert 11 <= watched.taken_at[0] < 13
    watched = Watched(monkeypatch, free)
    (await take_over(url, 10)).close()
    assert watched.looks == 1, "who has seen nothing else follows at once"


async def test_a_start_waits_for_a_database_that_comes_up_within_half_a_minute(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """As after the start of a machine; until then it answers as one that waits to lead."""
    waits: list[float] = []
    seen = PostgresStore.seen

    def come_up(self: PostgresStore) -> Seen:
        if trio.from_thread.run_sync(trio.current_time) < began + 25:
            raise StoreError("connection refused")
        return seen(self)

    monkeypatch.setattr(PostgresStore, "seen", come_up)
    began = trio.current_time()

    def wait() -> NoteLeader:
        waits.append(trio.current_time())
        return nobody_asks

    (await take_over(url, 10, wait)).close()
    assert waits == [began]


async def test_a_database_that_does_not_come_up_is_reported_with_the_setting_that_names_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    began = trio.current_time()
    with pytest.raises(StoreError, match=r"^STORE: .*No such file or directory"):
        await take_over(f"postgres://bq@/postgres?host={tmp_path}", 10)
    assert trio.current_time() - began >= 30


async def test_a_database_that_comes_up_without_tables_is_one_line(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    answers, seen = [StoreError("connection refused")], PostgresStore.seen

    def come_up(self: PostgresStore) -> Seen:
        if answers:
            raise answers.pop()
        return seen(self)

    monkeypatch.setattr(PostgresStore, "seen", come_up)
    with pytest.raises(StartupError, match="run `bunqueue-trio migrate` once"):
        await take_over(f"{url}&schema=nobody_made_it" if "?" in url else f"{url}?schema=nobody_made_it", 10)


async def test_a_database_that_cannot_be_reached_is_a_warning_that_comes_again(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, logs
):
    """Who has mistyped its name hears of it also where only warnings are shown; a leader is no trouble."""
    wrong = StoreError('database "jobz" does not exist')
    Watched(monkeypatch, SILENT, wrong)

    def seen(_: PostgresStore) -> Seen:
        at = trio.from_thread.run_sync(trio.current_time) - begun
        if at > 200:
            raise StartupError("enough")
        if at < 5:
            return SILENT
        raise wrong

    begun = trio.current_time()
    monkeypatch.setattr(PostgresStore, "seen", seen)
    with pytest.raises(StartupError, match="enough"):
        await take_over(url, 10)
    told = [(entry["log_level"], entry.get("error")) for entry in logs]
    assert told == [("info", None), *[("warning", str(wrong))] * 4], "once a minute"
