"""What only a store in PostgreSQL does: one server leads, a lost answer costs nothing, and a lost tail is written again."""

import os
import socket
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from bunqueue_trio.engine.job import State
from bunqueue_trio.engine.trails import LOG, Line
from bunqueue_trio.errors import StartupError, StoreError, TakenOver
from bunqueue_trio.storage.awaited import NoteLeader, Question, nobody_asks
from bunqueue_trio.storage.store import StoredEvent
from tests.storage.ledger import NOW, Ledger, ended, event, keep, loaded, make_job
from tests.storage.retention_contract import prune_all

pytest.importorskip("psycopg", reason="psycopg is not installed")

import psycopg

from bunqueue_trio.storage.postgres import link as links
from bunqueue_trio.storage.postgres import standby
from bunqueue_trio.storage.postgres.announcer import Announcer
from bunqueue_trio.storage.postgres.link import Link, Query
from bunqueue_trio.storage.postgres.place import Place, parse_place
from bunqueue_trio.storage.postgres.standby import take_over
from bunqueue_trio.storage.postgres.store import PostgresStore
from bunqueue_trio.storage.postgres.terms import TAKE_AGAIN, Seen, own_name

Open = Callable[..., PostgresStore]


@pytest.fixture
def place(url: str) -> Place:
    return parse_place(url)


@pytest.fixture
def open_(place: Place) -> Iterator[Open]:
    """Makes stores that are closed at the end."""
    opened: list[PostgresStore] = []

    def open_one(lease_s: float = 10, *, leads: bool = True) -> PostgresStore:
        opened.append(PostgresStore(place, lease_s))
        if leads:
            assert opened[-1].take() is None
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_: Open) -> PostgresStore:
    return open_()


@pytest.fixture
def sql(place: Place) -> Iterator[Callable[..., Any]]:
    """Asks the database beside every store."""
    link = Link(place.conninfo)
    yield lambda text, *values: link.ask(Query(place.qualified(text), values))
    link.close()


def lose_answers(patch: pytest.MonkeyPatch, times: int = 1) -> None:
    """Let the connection break when the next answers have come, and nobody has heard them."""
    heard, left = Link._rows, [times]

    def rows(self: Link) -> Any:
        found = heard(self)
        if left[0]:
            left[0] -= 1
            self.close()
            raise StoreError("the connection broke")
        return found

    patch.setattr(Link, "_rows", rows)


def cut(link: Link) -> None:
    """Let the connection break, which nobody notices before it is used."""
    assert link._connection is not None
    with socket.socket(fileno=os.dup(link._connection.pgconn.socket)) as end:
        end.shutdown(socket.SHUT_RDWR)


# --- who leads ------------------------------------------------------------------------------------


def test_a_second_server_does_not_lead_while_the_first_is_alive(store: PostgresStore, open_: Open):
    other = open_(leads=False)
    assert f"process {os.getpid()}" in str(other.take())
    store.close()
    assert other.take() is None


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
    store._beat_at -= 10.1
    assert not store.leads(), "somebody may lead"
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


async def test_a_standby_is_told_where_the_leader_is_reached(
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
        link = Link(place.conninfo)
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
        monkeypatch.setattr(PostgresStore, "take", lambda _: self._take())
        monkeypatch.setattr(PostgresStore, "skip_event_ids", lambda _: None)
        monkeypatch.setattr(Announcer, "wait", lambda *_: (None, b""))

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


async def test_a_database_that_does_not_come_up_is_told_with_the_setting_that_names_it(
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


# --- answers that are lost -------------------------------------------------------------------------


def test_a_batch_whose_answer_was_lost_is_there_once(
    store: PostgresStore, open_: Open, monkeypatch: pytest.MonkeyPatch
):
    ledger = Ledger(store)
    ledger.completed(1)
    batch = ledger.batch(
        [make_job(7, "completed-1"), ended(make_job(8))], reused=["completed-1"], events=[event(make_job(7))],
        trails=[Line(LOG, "completed-1", NOW, b"1")],
    )  # fmt: skip
    lose_answers(monkeypatch, 2)
    for _ in range(2):
        with pytest.raises(StoreError):
            store.commit(batch)
    store.commit(batch)
    assert list(loaded(store)) == ["completed-1"]
    assert store.finished_counts == {("q", "completed"): 1}, "the record that made room is counted once"
    assert (store.last_event_id, store.trail(LOG, "completed-1", None, 9, newest=True).total) == (1, 1)
    ledger.completed(1)
    store.close()
    assert open_().finished_counts == {("q", "completed"): 2}


async def test_a_batch_whose_writer_was_cancelled_is_there_once(store: PostgresStore):
    ledger = Ledger(store)
    for seq, patience in enumerate((0, 0.0005, 0.002, 0, 0.0005, 0.002), 1):
        batch = ledger.batch([make_job(seq)])
        with trio.move_on_after(patience):
            await store.write(batch, quick=seq <= 3)
            continue
        await store.write(batch, quick=seq <= 3)
    assert len(loaded(store)) == 6
    assert store._batch == 6


def test_what_was_deleted_without_an_answer_is_counted_anew(store: PostgresStore, monkeypatch: pytest.MonkeyPatch):
    Ledger(store).completed(5)
    with monkeypatch.context() as patch:
        ask, lost = Link.ask, []

        def ask_and_lose(self: Link, query: Query, wait_s: float = 10) -> Any:
            rows = ask(self, query, wait_s)
            if "prune_finished" in query.text and not lost:
                lost.append(1)
                raise StoreError("the connection broke")
            return rows

        patch.setattr(Link, "ask", ask_and_lose)
        with pytest.raises(StoreError):
            store.prune(keep(completed=2))
    assert store.finished_totals["completed"] == 5
    assert store.prune(keep(completed=2)) == 0
    assert store.finished_totals["completed"] == 2


@pytest.mark.parametrize("how", ["at once", "awaited"])
def test_a_connection_that_is_ended_is_made_anew(store: PostgresStore, sql: Any, how: str):
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    # Those of other tests go on.
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%bq.%'")
    batch = ledger.batch([make_job(2)])

    def write() -> None:
        if how == "at once":
            store.commit(batch)
        else:
            trio.run(lambda: store.write(batch, quick=True))

    with pytest.raises(StoreError):
        write()
    write()
    assert len(loaded(store)) == 2


async def test_no_wait_is_without_an_end(place: Place):
    link = Link(place.conninfo)
    link.connect()
    with pytest.raises(StoreError, match=r"did not answer within 50 ms"):
        link.ask(Query("SELECT pg_sleep(5)"), 0.05)
    assert not link.is_open, "its answer would be taken for another's"
    link.connect()
    with pytest.raises(StoreError, match=r"did not answer within 50 ms"):
        await link.ask_soon(Query("SELECT pg_sleep(5)"), 0.05)
    assert not link.is_open


def test_what_a_connection_needs_first_is_told_when_it_is_missing(place: Place):
    link = Link(place.conninfo, Query("SELECT nothing FROM nowhere", name="it"))
    with pytest.raises(AssertionError, match="nowhere"):
        link.ask(Query("SELECT 1"))
    assert not link.is_open


def test_a_pooler_that_gives_every_transaction_to_another_session_is_no_trouble(store: PostgresStore):
    """Neither one that has not prepared the commit, nor one that somebody else has prepared it in."""
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    store._writer.run_script("DEALLOCATE ALL")
    ledger.write([make_job(2)])
    store._writer.connect()
    store._writer._keeps_names = True
    store._writer.run_script("DEALLOCATE ALL")
    trio.run(partial(store.write, ledger.batch([make_job(3)]), quick=True))
    connect = psycopg.connect

    def of_another(*args: Any, **options: Any) -> Any:
        connection = connect(*args, **options)
        connection.pgconn.prepare(store._commit.name.encode(), store._commit.text.encode())
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg, "connect", of_another)
        store._writer.connect()
    ledger.write([make_job(4)])
    assert len(loaded(store)) == 4


def test_a_missing_right_is_for_the_operator_to_mend(place: Place, sql: Any):
    sql("CREATE ROLE guest LOGIN")
    link = Link(place.conninfo.replace("bq@", "guest@"))
    try:
        with pytest.raises(StoreError, match="permission denied"):
            link.ask(Query(place.qualified("SELECT * FROM bq.job")))
        assert link.ask(Query("SELECT 1")) == [(1,)], "to say no is an answer"
    finally:
        link.close()
        sql("DROP ROLE guest")


def test_a_connection_that_was_cut_is_told_whenever_that_is_found(store: PostgresStore):
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    cut(store._writer)
    batch = ledger.batch([make_job(2)])
    with pytest.raises(StoreError):
        store.commit(batch)
    store._writer.connect()
    assert store._writer._connection is not None
    store._writer._connection.pgconn.finish()
    with pytest.raises(StoreError):
        store.commit(batch)
    store.commit(batch)
    assert len(loaded(store)) == 2


def test_a_store_is_closed_although_the_database_is_gone(store: PostgresStore, sql: Any, open_: Open):
    cut(store._writer)
    store.close()
    assert open_(leads=False).take() is not None, "its lease goes on"


async def test_a_query_too_large_for_one_step_is_sent_in_several(place: Place, monkeypatch: pytest.MonkeyPatch):
    waits: list[int] = []
    either = links._wait_either

    async def wait(descriptor: int) -> None:
        waits.append(descriptor)
        await either(descriptor)

    monkeypatch.setattr(links, "_wait_either", wait)
    link = Link(place.conninfo)
    size = 30_000_000
    for _ in range(2):
        rows = await link.ask_soon(Query("SELECT octet_length($1::bytea)", (b"x" * size,)))
        assert rows == link.ask(Query("SELECT octet_length($1::bytea)", (b"y" * size,))) == [(size,)]
    assert waits
    link.close()


def test_what_the_engine_should_never_have_asked_is_a_fault_of_ours(store: PostgresStore):
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    with pytest.raises(AssertionError, match="the store contradicts the engine"):
        ledger.write([make_job(1)])
    Ledger(store).write([make_job(2)])
    assert len(loaded(store)) == 2


# --- a database that has gone back ------------------------------------------------------------------


@pytest.mark.parametrize("how", ["at once", "awaited"])
def test_what_a_database_has_lost_is_written_again(store: PostgresStore, sql: Any, how: str):
    ledger = Ledger(store)
    for seq in range(1, 6):
        ledger.write([make_job(seq)], events=[event(make_job(seq))])
    sql("DELETE FROM bq.job WHERE seq > 2")
    sql("DELETE FROM bq.event_batch WHERE last_id > 2")
    sql("UPDATE bq.leader SET batch = 2")
    batch = ledger.batch([make_job(6)], events=[event(make_job(6))])
    if how == "at once":
        store.commit(batch)
    else:
        trio.run(lambda: store.write(batch, quick=True))
    assert len(loaded(store)) == 6
    assert [each.id for each in store.events_after(0, 100)] == [1, 2, 3, 4, 5, 6]


async def test_a_leader_with_nothing_to_write_writes_it_again_as_soon_as_it_says_that_it_is_alive(
    store: PostgresStore, sql: Any
):
    """It may be stopped before it has something to write, and nobody else remembers it."""
    ledger = Ledger(store)
    for seq in range(1, 4):
        ledger.write([make_job(seq)])
    sql("DELETE FROM bq.job WHERE seq > 1")
    sql("UPDATE bq.leader SET batch = 1")
    store._beat_at -= 5
    await store.beat()
    assert [row[0] for row in sql("SELECT batch FROM bq.leader")] == [3]
    assert len(loaded(store)) == 3
    sql("UPDATE bq.leader SET batch = 1")
    store._tail._batches.clear()
    store._beat_at -= 5
    with pytest.raises(TakenOver, match="it is not remembered any more"):
        await store.beat()


BEFORE = "UPDATE bq.leader SET term = {}, life = '{}', batch = {}, link = NULL, holder = 'who was before'"


def gone_back_before(sql: Any, store: PostgresStore) -> None:
    """Let the database be as it was when ``store`` began to lead."""
    sql(BEFORE.format(*store._tail.before))
    sql("DELETE FROM bq.job WHERE seq > 1")


@pytest.mark.parametrize("how", ["at once", "awaited", "a beat"])
def test_a_takeover_that_the_database_has_lost_is_written_again_with_all_behind_it(
    how: str, store: PostgresStore, open_: Open, sql: Any
):
    Ledger(store).write([make_job(1)])
    store.close()
    second = open_()
    announcer = second.announcer()
    trio.run(announcer.tell, "here:1")
    announcer.close()
    ledger = Ledger(second)
    ledger.write([make_job(2)])
    gone_back_before(sql, second)
    with pytest.raises(StoreError, match="about to be written again"):
        second.lead(second._writer)  # as whoever deletes does: it is not the end
    if how == "a beat":
        second._beat_at -= 5
        trio.run(second.beat)
    else:
        batch = ledger.batch([make_job(3)])
        second.commit(batch) if how == "at once" else trio.run(partial(second.write, batch, quick=True))
    assert len(loaded(second)) == 2 + (how != "a beat")
    [row] = sql("SELECT term, life::text, link, holder FROM bq.leader")
    assert row == (*second._leader, "here:1", own_name())
    ledger.write([make_job(4)])


def test_a_takeover_that_is_lost_is_not_written_over_what_others_have_done(store: PostgresStore, open_: Open, sql: Any):
    Ledger(store).write([make_job(1)])
    store.close()
    second = open_()
    term, life, batch = second._tail.before
    for row in ((term, life, batch + 1), (term, life, 0), (term, "00000000-0000-4000-8000-000000000000", batch)):
        sql(BEFORE.format(*row))
        second._beat_at -= 5
        with pytest.raises(TakenOver):
            trio.run(second.beat)
    gone_back_before(sql, second)
    with pytest.MonkeyPatch.context() as patch:  # another one is quicker
        patch.setattr("bunqueue_trio.storage.postgres.store.TAKE_AGAIN", f"{TAKE_AGAIN} WHERE term < 0")
        second._beat_at -= 5
        with pytest.raises(StoreError, match="may have taken over"):
            trio.run(second.beat)


def test_who_is_taken_over_while_it_writes_again_tries_once_more_and_ends(store: PostgresStore, sql: Any):
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    sql("UPDATE bq.leader SET batch = 0")
    sql("DELETE FROM bq.job")
    forgotten = store._forgotten

    def late(fenced: Any) -> Any:
        queries = forgotten(fenced)
        sql("UPDATE bq.leader SET term = term + 1, life = gen_random_uuid(), holder = 'another one'")
        return queries

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_forgotten", late)
        with pytest.raises(StoreError, match="may have taken over"):
            trio.run(partial(store.write, ledger.batch([make_job(2)]), quick=True))
    with pytest.raises(TakenOver, match="another one"):
        trio.run(partial(store.write, ledger.batch([make_job(2)]), quick=True))


def test_where_a_leader_is_reached_is_said_again_when_the_database_has_lost_that(store: PostgresStore, sql: Any):
    announcer = store.announcer()
    trio.run(announcer.tell, "here:1")
    announcer.close()
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    sql("UPDATE bq.leader SET link = NULL, batch = 0")
    sql("DELETE FROM bq.job")
    ledger.write([make_job(2)])
    assert sql("SELECT link, batch FROM bq.leader") == [("here:1", 2)]
    sql("UPDATE bq.leader SET link = NULL")
    store._beat_at -= 5
    trio.run(store.beat)
    assert sql("SELECT link, batch FROM bq.leader") == [("here:1", 2)]


def test_what_it_has_deleted_is_deleted_again_when_the_database_has_lost_that(store: PostgresStore, sql: Any):
    ledger = Ledger(store)
    ledger.completed(4)
    ledger.write()
    prune_all(store, keep(completed=1))
    columns = "queue, state, finished_at, data, options, priority, created_at, run_at, attempts, stalls, progress"
    sql(f"INSERT INTO bq.finished SELECT n, 'again-' || n, {columns} FROM bq.finished, generate_series(1, 3) AS n")
    sql("UPDATE bq.leader SET batch = batch - 1")
    ledger.write()
    prune_all(store, keep(completed=1))
    assert store.finished_totals["completed"] == 1
    assert sql("SELECT count(*) FROM bq.finished") == [(1,)]


def test_no_id_of_an_event_means_two_things(store: PostgresStore, open_: Open, sql: Any):
    """Readers may have been told of events that the database has lost, and come back with their ids."""
    store.skip_event_ids()
    assert store.last_event_id == 0, "nobody was before the first"
    Ledger(store).write(events=[event(make_job(1))])
    bases = []
    for _ in range(2):  # neither of which has written anything that the database has not lost
        sql("UPDATE bq.leader SET beat = '-infinity'")
        other = open_()
        other.skip_event_ids()
        bases.append(other.last_event_id)
        assert other.ids_skipped == other.last_event_id - 1
        assert abs(other.last_event_id // 1000 - other.epoch_ms()) < 60_000
    assert 1 < bases[0] < bases[1] < 2**53, "JavaScript reads it exactly"


def test_events_are_kept_by_their_number_whatever_their_ids(store: PostgresStore, open_: Open, sql: Any):
    Ledger(store).write(events=[event(make_job(1))])
    Ledger(store).write(events=[event(make_job(1))])
    sql("UPDATE bq.leader SET beat = '-infinity'")
    other = open_()
    other.skip_event_ids()
    ledger = Ledger(other)
    ledger.write(events=[event(make_job(1))])
    prune_all(other, keep(events=3))
    assert other.first_event_id() == 1
    ledger.write(events=[event(make_job(1))])
    prune_all(other, keep(events=3))
    assert [other.first_event_id(), len(other.events_after(0, 9))] == [2, 3]
    prune_all(other, keep(events=1))
    assert [len(other.events_after(0, 9)), other.first_event_id()] == [1, other.last_event_id]


READS: dict[str, tuple[Any, ...]] = {
    "find": ("job",), "outcomes": (("job",),), "traces": ("a", "b", 9), "records": ("q", State.COMPLETED, None, 9), "first_seen": ("q", "x"),
    "trail": ("log", "job", None, 9), "events_after": (0, 9), "first_event_id": (), "last_event_at": (), "load_facts": (), "stored": (0, 9, 9),
}  # fmt: skip


@pytest.mark.parametrize("kind", READS)
def test_nothing_is_read_of_a_database_that_is_not_as_this_server_has_left_it(
    kind: str, store: PostgresStore, open_: Open, sql: Any
):
    """One that has gone back lacks what is about to be written again: who reads meanwhile must not take that for all there is."""
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    ledger.write([make_job(2)], events=[event(make_job(2))])
    named = {"newest": True} if kind == "trail" else {}
    question = Question(kind, READS[kind], tuple(named.items()))
    question.ask(store)
    trio.run(store.look_up, question)
    for change in ("SET batch = 1", "SET batch = 2, term = term + 1", "SET term = term - 1, life = gen_random_uuid()"):
        sql(f"UPDATE bq.leader {change}")
        with pytest.raises(StoreError, match="not as this server has left it"):
            question.ask(store)
        with pytest.raises(StoreError, match="not as this server has left it"):
            trio.run(store.look_up, question)
    sql("DELETE FROM bq.leader")
    with pytest.raises(StoreError, match="not as this server has left it"):
        trio.run(store.look_up, question)


def test_an_audit_reads_the_rows_in_their_order(store: PostgresStore):
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    ledger.write([make_job(2)])
    assert [row.seq for row in store.stored(0, 9, 9)] == [1, 2]
    assert store.stored(2, 9, 9) == []


def test_one_that_has_lost_more_than_is_remembered_ends_the_server(
    store: PostgresStore, sql: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.storage.postgres.tail.STORE_TAIL_BYTES", 5000)
    ledger = Ledger(store)
    for seq in range(1, 30):
        ledger.write([make_job(seq)])
    assert 0 < len(store._tail) < 29
    assert 0 <= (store.leading().remembers_s or -1) < 60, "no further back"
    sql("UPDATE bq.leader SET batch = 2")
    with pytest.raises(
        TakenOver, match=r"has lost what was committed there \(it is at batch 2 of term 1, this server at 29 of 1\)"
    ):
        ledger.write([make_job(30)])


def test_another_history_of_the_database_is_not_written_to(store: PostgresStore, sql: Any):
    """A copy of the database that another server led for as long as this one."""
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    for batch in (1, 0):
        sql(f"UPDATE bq.leader SET batch = {batch}, life = gen_random_uuid()")
        with pytest.raises(TakenOver):
            ledger.write([make_job(2)])


def test_without_the_row_of_the_leader_nobody_writes(store: PostgresStore, open_: Open, sql: Any):
    sql("DELETE FROM bq.leader")
    with pytest.raises(TakenOver):
        Ledger(store).write([make_job(2)])
    with pytest.raises(StartupError, match="the row of the leader is gone"):
        open_()


# --- reading ------------------------------------------------------------------------------------------


async def test_what_is_awaited_is_what_is_read_at_once(store: PostgresStore):
    assert await store.look_up(Question("first_event_id", ())) == store.first_event_id() == 1
    ledger = Ledger(store)
    ids = ledger.completed(3, State.FAILED)
    ledger.write(events=[event(make_job(1))], trails=[Line(LOG, ids[0], NOW, b"1")])
    for question in (
        Question("find", (ids[0],)), Question("find", ("nobody",)), Question("outcomes", (tuple(ids),)), Question("records", ("q", State.FAILED, None, 2)),
        Question("trail", (LOG, ids[0], None, 9), (("newest", False),)), Question("traces", ("a", "z", 9)),
        Question("first_seen", ("q", "nothing")), Question("events_after", (0, 9)), Question("first_event_id", ()),
    ):  # fmt: skip
        assert repr(await store.look_up(question)) == repr(question.ask(store)), question
    assert isinstance((await store.look_up(Question("events_after", (0, 9))))[0], StoredEvent)


def test_a_row_that_cannot_be_read_stops_the_start_and_not_the_audit(store: PostgresStore, sql: Any):
    Ledger(store).write([make_job(1), make_job(2)])
    sql("UPDATE bq.job SET progress = 'much' WHERE seq = 1")
    assert [each.job is None for each in store.stored(0, 9, 9)] == [True, False]
    with pytest.raises(StartupError, match="is damaged: "):
        list(store.load())


def test_its_room_and_its_log_are_the_databases(store: PostgresStore):
    assert (store.space(), store.shrink(1), store.log_bytes()) == ((0, 0, 0, 0), 0, 0)
    store.prune(keep())
    assert store.space().file > 100_000
    store.checkpoint(restart=True)
