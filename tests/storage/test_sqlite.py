"""The SQLite store keeps the contract of all stores."""

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
import trio

from bunqueue_trio.config import INLINE_S_MAX, MIB, PRUNE_BYTES, SLOW_DISK_S
from bunqueue_trio.engine.trails import LOG, Line
from bunqueue_trio.errors import StoreBusy, StoreError
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite.opening import APPLICATION_ID, closing, migrations
from bunqueue_trio.storage.sqlite.store import _BUSY_MS
from bunqueue_trio.storage.sqlite.writing import write_rows
from bunqueue_trio.storage.store import Batch, Retention, Store
from tests.storage.ledger import NOW, Ledger, State, ended, event, keep, make_job
from tests.storage.lists_contract import FactContract, GroupContract, RecordContract
from tests.storage.retention_contract import EventContract, PruneContract
from tests.storage.store_contract import JobContract
from tests.storage.trails_contract import TrailContract


class Sqlite:
    """A file that is closed and opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: SqliteStore | None = None

    def open(self) -> Store:
        self.close()
        self.store = SqliteStore(self.path)
        return self.store

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


class SqlitePlace:
    @pytest.fixture
    def place(self, tmp_path: Path):
        place = Sqlite(tmp_path / "queue.db")
        yield place
        place.close()


class TestSqliteJobs(SqlitePlace, JobContract):
    pass


class TestSqliteEvents(SqlitePlace, EventContract):
    pass


class TestSqliteRetention(SqlitePlace, PruneContract):
    pass


class TestSqliteFacts(SqlitePlace, FactContract):
    pass


class TestSqliteRecords(SqlitePlace, RecordContract):
    pass


class TestSqliteTrails(SqlitePlace, TrailContract):
    pass


class TestSqliteGroups(SqlitePlace, GroupContract):
    pass


def test_an_end_costs_the_same_however_many_queues_there_were(tmp_path: Path):
    """The table of counts is as long as there are names of queues: a commit must not copy it."""

    class Uncopied(Counter):
        def copy(self):
            raise AssertionError("copied")

    store = SqliteStore(tmp_path / "q.db")
    ledger = Ledger(store)
    ledger.completed(1)
    assert store.finished_counts == {("q", "completed"): 1}
    store._tally._counts = Uncopied(store._tally._counts)
    ledger.completed(2)
    assert store.kept_of("q") == (3, 0)
    assert store.queues_after("", 9) == ["q"]
    assert store.finished_totals["completed"] == 3
    store.close()


def test_a_queue_is_reported_once_whatever_is_kept_of_it(tmp_path: Path):
    """And no more when the last of it goes; the names come from rows and from commands."""
    store = SqliteStore(tmp_path / "q.db")
    ledger = Ledger(store)
    for queue in ("b", "a", "".join("long-name"), "".join("long-name")):
        ledger.completed(1, queue=queue)
        ledger.completed(1, State.FAILED, queue=queue)
    assert store.queues_after("", 9) == ["a", "b", "long-name"]
    assert (store.kept_of("long-name"), store.kept_of("nobody")) == ((2, 2), (0, 0))
    while store.prune(keep(completed=0)):
        pass
    assert store.queues_after("a", 9) == ["b", "long-name"]
    while store.prune(keep(dead=0)):
        pass
    assert (store.queues_after("", 9), store.finished_counts) == ([], {})
    store.close()


def test_rows_that_cannot_be_read_back_are_a_trouble_of_the_disk(tmp_path: Path):
    """Whatever SQLite says, the self-audit must not end the server."""
    store = SqliteStore(tmp_path / "q.db")
    store.close()
    looks = (lambda: store.stored(0, 1, 1), lambda: store.stored_facts(("", ""), 1), lambda: store.stored_kept("q"))
    for look in looks:
        with pytest.raises(StoreError):
            look()


LARGE = b'"' + b"x" * (3 * MIB) + b'"'


@pytest.mark.parametrize("why", [keep(completed=0), keep(since=NOW + 1)], ids=["surplus", "aged"])
def test_a_bounded_number_of_bytes_is_deleted_at_once_however_few_records_that_are(tmp_path: Path, why: Retention):
    """Every commit waits for the disk meanwhile, and what it costs is bytes."""
    store = SqliteStore(tmp_path / "q.db")
    ledger = Ledger(store)
    for seq in range(1, 6):
        ledger.write([ended(make_job(seq, data=LARGE), State.COMPLETED)])
    steps = []
    while rows := store.prune(why):
        steps.append(rows)
        assert (rows - 1) * len(LARGE) <= PRUNE_BYTES
    assert steps == [2, 2, 1]
    store.close()


def test_a_bounded_number_of_bytes_of_events_is_deleted_at_once(tmp_path: Path):
    store = SqliteStore(tmp_path / "q.db")
    ledger = Ledger(store)
    for seq in range(1, 6):
        job = make_job(seq, data=LARGE)
        ledger.write(events=[event(job)])
    steps = []
    while rows := store.prune(keep(events=0)):
        steps.append(rows)
    assert steps == [2, 2]  # the last batch stays
    store.close()


def test_a_surplus_without_rows_does_not_end_retention(tmp_path: Path):
    store = SqliteStore(tmp_path / "q.db")
    store._tally._counts[("ghost", "completed")] = 1
    store.prune(keep(completed=0))
    Ledger(store).completed(1)
    assert store.prune(keep(completed=0)) == 1
    store.close()


def test_room_that_a_peak_left_is_reported_and_given_back(tmp_path: Path):
    store = SqliteStore(tmp_path / "q.db")
    ledger = Ledger(store)
    for seq in range(1, 4):
        ledger.write([ended(make_job(seq, data=LARGE), State.COMPLETED)])
    while store.prune(keep(completed=0)):
        pass
    store.checkpoint(restart=True)
    full = store.space()
    assert full.file > full.free > 3 * len(LARGE) - 64 * 1024
    assert full.disk_free > 0
    assert store.shrink(MIB) == MIB
    while store.shrink(MIB):
        pass
    store.checkpoint(restart=False)
    left = store.space()
    assert left.free == 0
    assert left.file <= full.file - full.free
    ledger.completed(1)
    store.close()
    store = SqliteStore(tmp_path / "q.db")
    assert store.finished_counts == {("q", "completed"): 1}
    store.close()


def test_a_file_of_before_goes_on_as_it_is(tmp_path: Path):
    """It cannot give anything back, until it is written anew."""
    path = tmp_path / "q.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("CREATE TABLE gone (x)").fetchall()
        connection.execute("DROP TABLE gone").fetchall()
    store = SqliteStore(path)
    Ledger(store).completed(1)
    assert store.space().free > 0 or store.shrink(MIB) == 0
    assert store.shrink(MIB) == 0
    store.close()


def test_a_disk_that_does_not_answer_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = SqliteStore(tmp_path / "q.db")

    def refuse(path: object) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "statvfs", refuse)
    with pytest.raises(StoreError, match="Input/output error"):
        store.space()


def test_a_file_of_the_first_schema_is_brought_to_this_one(tmp_path: Path):
    """Its events are there, and the time of the newest is where the next life begins."""
    path = tmp_path / "old.db"
    old = apsw.Connection(str(path))
    version, sql = migrations()[0]
    old.execute(sql).fetchall()
    old.execute(f"PRAGMA application_id={APPLICATION_ID}")
    old.execute(f"PRAGMA user_version={version}")
    old.execute("INSERT INTO event_batch VALUES (2, 2, 77, x'7b7d1e7b7d')").fetchall()
    old.close()
    store = SqliteStore(path)
    assert (store.last_event_at(), store.last_event_id) == (77, 2)
    assert [event.body for event in store.events_after(0, 9)] == [b"{}", b"{}"]
    Ledger(store).tell(1)
    assert len(store.events_after(0, 9)) == 3
    store.close()


@pytest.fixture
def store(tmp_path: Path):
    store = SqliteStore(tmp_path / "q.db")
    yield store
    store.close()


@pytest.mark.parametrize("durable", [False, True])
async def test_others_run_while_a_large_batch_is_written(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, durable: bool
):
    """It is not there before its end, and then whole: new, changed, ended and reused jobs, facts, lines and events."""

    async def at_once(commit: Callable[[], None]) -> None:
        commit()

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    # However busy the machine is, its disk is not slow.
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.store.time", SimpleNamespace(monotonic=lambda: 0.0))
    ledger = Ledger(store)
    old = [make_job(n) for n in range(1, 1002)]
    ledger.write(old, [ended(make_job(2000 + n, f"again-{n}"), State.FAILED) for n in range(600)])
    for job in old[:600]:
        job.run_at += 1
    new = [make_job(n) for n in range(3000, 4200)]
    batch = ledger.batch(
        new, [*old[:600], *map(ended, old[600:])], events=[event(job) for job in new], durable=durable,
        reused=[f"again-{n}" for n in range(600)], facts=[("pause", f"q-{n}", b"{}") for n in range(700)],
        trails=[Line(LOG, new[0].id, NOW, b"%d" % n, of_record=False) for n in range(110)],
    )  # fmt: skip
    turns, seen = 0, set()
    async with trio.open_nursery() as nursery:

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1
                seen.add((store.find("again-1") is None, store.last_event_id))

        nursery.start_soon(count)
        await store.write(batch, quick=False)
        assert turns > 10  # of 12 slices, and in the first round it may run before them
        nursery.cancel_scope.cancel()
    assert seen == {(False, 0)}
    assert {job.seq for job in store.load()} == {*range(1, 601), *range(3000, 4200)}
    assert +store.finished_counts == Counter({("q", "completed"): 401})
    assert len(store.load_facts()) == 700
    assert len(store.events_after(0, 9999)) == 1200
    lines = store.trail(LOG, new[0].id, None, 200, newest=False).lines
    assert [body for _, body in lines] == [b"%d" % n for n in range(110)]


async def test_a_batch_of_large_payloads_is_written_in_a_thread(store: SqliteStore):
    """Such rows leave the cache for the disk before the end, which may stop whoever writes them."""
    ledger, here, threads = Ledger(store), threading.get_ident(), set[int]()
    commit = store.commit

    def watched(batch: Batch) -> None:
        threads.add(threading.get_ident())
        commit(batch)

    store.commit = watched  # type: ignore[method-assign]
    await store.write(ledger.batch([make_job(n, data=LARGE) for n in range(1, 10)]), quick=False)
    assert len(list(store.load())) == 9
    assert len(threads) == 1
    assert here not in threads


async def test_who_writes_waits_in_a_thread_for_others_who_write(store: SqliteStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.store._BUSY_MS", 60_000)
    with closing(apsw.Connection(str(store.path))) as other:
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            jobs = [make_job(n) for n in range(1, 201)]
            nursery.start_soon(partial(store.write, Ledger(store).batch(jobs), quick=False))
            for _ in range(100):
                await trio.lowlevel.checkpoint()
            assert other.execute("SELECT count(*) FROM job").fetchall() == [(0,)]
            other.execute("ROLLBACK")
    assert len(list(store.load())) == 200


async def test_what_writes_in_the_event_loop_waits_for_nobody(store: SqliteStore, monkeypatch: pytest.MonkeyPatch):
    """Who has the file's lock for seconds would stop everybody; in a thread it is waited for."""
    ledger, waits = Ledger(store), list[int]()
    with closing(apsw.Connection(str(store.path))) as other:
        other.execute("BEGIN IMMEDIATE")
        batch = ledger.batch([make_job(1)])
        assert store._one("PRAGMA busy_timeout") == 0
        with pytest.raises(StoreBusy):
            store.commit(batch)
        run_sync = trio.to_thread.run_sync

        async def unlocking(work: Callable[..., object], *args: object) -> object:
            waits.append(store._patient(store._one, "PRAGMA busy_timeout"))
            other.execute("ROLLBACK")
            return await run_sync(work, *args)

        monkeypatch.setattr(trio.to_thread, "run_sync", unlocking)
        await store.write(batch, quick=True)
    assert (waits, store._one("PRAGMA busy_timeout")) == ([_BUSY_MS], 0)
    assert store._reader.execute("PRAGMA busy_timeout").fetchall()[0][0] <= 5
    assert len(list(store.load())) == 1


async def test_a_disk_that_is_slow_for_a_slice_gets_a_thread_for_the_rest_and_for_a_while(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
):
    """A row may need pages that only the disk has."""
    ledger, here, now, took = Ledger(store), threading.get_ident(), 0.0, 0.0
    threads: list[bool] = []

    def watched(*arguments: Any) -> Iterator[None]:
        nonlocal now
        for _ in write_rows(*arguments):
            threads.append(threading.get_ident() == here)
            now += took
            yield

    monkeypatch.setattr("bunqueue_trio.storage.sqlite.store.write_rows", watched)
    monkeypatch.setattr("bunqueue_trio.storage.sqlite.store.time", SimpleNamespace(monotonic=lambda: now))
    for begin, each, later, seen in (
        (1, 0.002, 0, [True] * 4),
        (2001, INLINE_S_MAX + 0.001, 0, [True, False, False, False]),
        (4001, 0.002, 0, [False] * 4),
        (6001, 0.002, SLOW_DISK_S, [True] * 4),
    ):
        now, took = now + later, each
        await store.write(ledger.batch([make_job(n) for n in range(begin, begin + 2000)]), quick=False)
        assert threads == seen
        threads.clear()
    assert len(list(store.load())) == 8000


async def test_of_a_batch_that_does_not_fit_nothing_is_there_and_it_can_be_tried_again(store: SqliteStore):
    batch = Ledger(store).batch([make_job(n) for n in range(1, 3000)])
    store._writer.execute("PRAGMA max_page_count=50").fetchall()
    with pytest.raises(StoreError, match="full"):
        await store.write(batch, quick=False)
    assert list(store.load()) == []
    store._writer.execute("PRAGMA max_page_count=5000").fetchall()
    await store.write(batch, quick=False)
    assert len(list(store.load())) == 2999


@pytest.mark.parametrize(("first", "quick"), [(1, False), (199, True)])
async def test_of_a_batch_with_a_fault_nothing_stays_behind(store: SqliteStore, first: int, quick: bool):
    ledger = Ledger(store)
    ledger.write([make_job(200)])
    with pytest.raises(AssertionError, match="contradicts"):
        await store.write(ledger.batch([make_job(n, f"new-{n}") for n in range(first, 201)]), quick=quick)
    await store.write(ledger.batch([make_job(n) for n in range(300, 500)]), quick=False)
    assert [job.seq for job in store.load()] == [200, *range(300, 500)]


@pytest.mark.parametrize(("jobs", "quick"), [(1, True), (3000, False)])
async def test_a_write_that_is_cancelled_comes_to_its_end(store: SqliteStore, jobs: int, quick: bool):
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.write(Ledger(store).batch([make_job(n) for n in range(1, jobs + 1)]), quick=quick)
    assert len(list(store.load())) == jobs
