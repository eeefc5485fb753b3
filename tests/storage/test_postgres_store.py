"""What only a store in PostgreSQL does: one server leads, a lost answer costs nothing, and a lost tail is written again."""

import os
import socket
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import trio

from bunqueue_trio.engine.job import State
from bunqueue_trio.engine.trails import LOG, Line
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.awaited import Question
from bunqueue_trio.storage.store import StoredEvent
from tests.storage.ledger import NOW, Ledger, ended, event, keep, loaded, make_job

pytest.importorskip("psycopg", reason="psycopg is not installed")
import psycopg

from bunqueue_trio.storage.postgres import link as links
from bunqueue_trio.storage.postgres import looker
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.store import PostgresStore
from tests.storage.postgres_stores import Open
from tests.storage.postgres_stores import open_ as open_
from tests.storage.postgres_stores import place as place
from tests.storage.postgres_stores import sql as sql
from tests.storage.postgres_stores import store as store


def lose_answers(patch: pytest.MonkeyPatch, times: int = 1) -> None:
    """Let the connection break when the next answers have come, and nobody has heard them."""
    heard, left = DatabaseLink._rows, [times]

    def rows(self: DatabaseLink) -> Any:
        found = heard(self)
        if left[0]:
            left[0] -= 1
            self.close()
            raise StoreError("the connection broke")
        return found

    patch.setattr(DatabaseLink, "_rows", rows)


def cut(link: DatabaseLink) -> None:
    """Let the connection break, which nobody notices before it is used."""
    assert link._connection is not None
    with socket.socket(fileno=os.dup(link._connection.pgconn.socket)) as end:
        end.shutdown(socket.SHUT_RDWR)


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


@pytest.mark.parametrize(("size", "hops"), [(10, 0), (300_000, 2)])
async def test_large_values_are_made_and_copied_beside_the_event_loop(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, size: int, hops: int
):
    """However slow the database is: that is waited for anyway."""
    ledger, threads, run = Ledger(store), list[object](), trio.to_thread.run_sync

    async def counted(what: Any, *args: Any) -> Any:
        threads.append(what)
        return await run(what, *args)

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    await store.write(ledger.batch([make_job(1, data=b"x" * size)]), quick=False)
    assert len(threads) == hops
    assert len(loaded(store)) == 1


async def test_a_batch_whose_writer_was_cancelled_is_there_once(store: PostgresStore):
    ledger = Ledger(store)
    for seq, patience in enumerate((0, 0.0005, 0.002, 0, 0.0005, 0.002), 1):
        # The large ones are made beside the event loop.
        batch = ledger.batch([make_job(seq, data=b"1" if seq <= 3 else b"x" * 300_000)])
        with trio.move_on_after(patience):
            await store.write(batch, quick=seq <= 3)
            continue
        await store.write(batch, quick=seq <= 3)
    assert len(loaded(store)) == 6
    assert store._batch == 6


def test_what_was_deleted_without_an_answer_is_counted_anew(store: PostgresStore, monkeypatch: pytest.MonkeyPatch):
    Ledger(store).completed(5)
    with monkeypatch.context() as patch:
        ask, lost = DatabaseLink.ask, []

        def ask_and_lose(self: DatabaseLink, query: Query, wait_s: float = 10) -> Any:
            rows = ask(self, query, wait_s)
            if "prune_finished" in query.text and not lost:
                lost.append(1)
                raise StoreError("the connection broke")
            return rows

        patch.setattr(DatabaseLink, "ask", ask_and_lose)
        with pytest.raises(StoreError):
            store.prune(keep(completed=2))
    assert store.finished_totals["completed"] == 5
    with pytest.raises(StoreError, match="to be counted anew"):
        store.stored_kept("q")
    assert store.prune(keep(completed=2)) == 0
    assert store.finished_totals["completed"] == store.stored_kept("q").completed == 2


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
    link = DatabaseLink(place.conninfo)
    link.connect()
    with pytest.raises(StoreError, match=r"did not answer within 50 ms"):
        link.ask(Query("SELECT pg_sleep(5)"), 0.05)
    assert not link.is_open, "its answer would be taken for another's"
    link.connect()
    with pytest.raises(StoreError, match=r"did not answer within 50 ms"):
        await link.ask_soon(Query("SELECT pg_sleep(5)"), 0.05)
    assert not link.is_open


def test_what_a_connection_needs_first_is_reported_when_it_is_missing(place: Place):
    link = DatabaseLink(place.conninfo, Query("SELECT nothing FROM nowhere", name="it"))
    with pytest.raises(StoreError, match="nowhere"):
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
    link = DatabaseLink(place.conninfo.replace("bq@", "guest@"))
    try:
        with pytest.raises(StoreError, match="permission denied"):
            link.ask(Query(place.qualified("SELECT * FROM bq.job")))
        assert link.ask(Query("SELECT 1")) == [(1,)], "to say no is an answer"
    finally:
        link.close()
        sql("DROP ROLE guest")


@pytest.mark.parametrize(("what", "asks"), [
    ("TABLE bq.{} RENAME TO {}", "job"), ("FUNCTION bq.{} RENAME TO {}", "lead"), ("TABLE bq.finished RENAME COLUMN {} TO {}", "result"),
])  # fmt: skip
def test_what_somebody_has_taken_away_is_waited_for_and_nothing_is_lost_meanwhile(
    store: PostgresStore, sql: Any, what: str, asks: str
):
    """A restore that drops all and makes it anew, or an operator's slip: the server ended, with tracebacks."""
    ledger = Ledger(store)
    ledger.write([make_job(1)])
    gone = ledger.batch([make_job(2)])
    does: dict[str, Callable[[], object]] = {
        "job": lambda: store.commit(gone), "lead": lambda: store.lead(store._writer), "result": lambda: store.find("job-1")
    }  # fmt: skip
    sql(f"ALTER {what.format(asks, 'gone')}")
    with pytest.raises(StoreError, match="does not exist"):
        does[asks]()
    sql(f"ALTER {what.format('gone', asks)}")
    for each in {asks, "job"}:
        does[each]()
    assert sorted(loaded(store)) == ["job-1", "job-2"]


def test_a_connection_that_was_cut_is_an_error_whenever_that_is_found(store: PostgresStore):
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
    link = DatabaseLink(place.conninfo)
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


async def test_a_read_whose_connection_has_ended_while_nobody_used_it_is_answered(store: PostgresStore, sql: Any):
    await store.look_up(Question("first_event_id", ()))
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%bq.%'")
    assert await store.look_up(Question("first_event_id", ())) == 1


async def test_a_read_waits_for_those_before_it_no_longer_than_for_its_answer(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(looker, "STORE_ANSWER_S", 0.05)

    async def hold(task_status: trio.TaskStatus[None]) -> None:
        async with store._looker._turn:
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(hold)
        with pytest.raises(StoreError, match="others wait"):
            await store.look_up(Question("first_event_id", ()))
        nursery.cancel_scope.cancel()
    assert await store.look_up(Question("first_event_id", ())) == 1


def test_a_session_that_began_while_the_database_was_read_only_is_made_anew(place: Place):
    link = DatabaseLink(place.conninfo)
    link.ask(Query("SET default_transaction_read_only = on"))
    with pytest.raises(StoreError, match="read-only"):
        link.ask(Query("CREATE TABLE never ()"))
    assert not link.is_open


def test_the_database_looks_whether_somebody_waits_for_the_answer(place: Place):
    """Else a session that waits for a lock outlives each try that is given up."""
    asked = Query("SELECT setting FROM pg_settings WHERE name = 'client_connection_check_interval'")
    with closing(DatabaseLink(place.conninfo)) as link:
        assert link.ask(asked) == [("5000",)]


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
