"""A database that has lost its newest commits: the leader writes them again, or ends."""

from functools import partial
from typing import Any

import pytest
import trio

from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import StartupError, StoreError, TakenOver
from bunqueue_trio.storage.awaited import Question
from tests.storage.ledger import Ledger, event, keep, loaded, make_job
from tests.storage.retention_contract import prune_all

pytest.importorskip("psycopg", reason="psycopg is not installed")
from bunqueue_trio.storage.postgres.store import PostgresStore
from bunqueue_trio.storage.postgres.terms import TAKE_AGAIN, own_name
from tests.storage.postgres_stores import Open
from tests.storage.postgres_stores import open_ as open_
from tests.storage.postgres_stores import place as place
from tests.storage.postgres_stores import sql as sql
from tests.storage.postgres_stores import store as store

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
    """Readers may have seen events that the database has lost, and come back with their ids."""
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
    "stored_facts": (("", ""), 9), "stored_kept": ("q",),
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
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    sql("CREATE TABLE bq.copy AS SELECT * FROM bq.leader")
    sql("DELETE FROM bq.leader")
    with pytest.raises(StoreError, match="the row of the leader is gone"):
        ledger.write([make_job(2)])
    store._beat_at -= 5
    with pytest.raises(StoreError, match="the row of the leader is gone"):
        trio.run(store.beat)
    with pytest.raises(StartupError, match="the row of the leader is gone"):
        open_()
    sql("INSERT INTO bq.leader SELECT * FROM bq.copy")
    sql("DROP TABLE bq.copy")
    ledger.write([make_job(2)])
    assert list(loaded(store)) == ["job-1", "job-2"], "it was only restored"
