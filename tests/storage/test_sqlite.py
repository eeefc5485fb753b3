"""The SQLite store keeps the contract of all stores."""

from collections import Counter
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.opening import APPLICATION_ID, migrations
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import Store
from tests.storage.ledger import Ledger
from tests.storage.retention_contract import EventContract, PruneContract
from tests.storage.store_contract import JobContract


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


def test_an_end_costs_the_same_however_many_queues_there_were(tmp_path: Path):
    """The table of counts is as long as there are names of queues: a commit must not copy it."""

    class Uncopied(Counter):
        def copy(self):
            raise AssertionError("copied")

    store = SqliteStore(tmp_path / "q.db")
    ledger = Ledger(store)
    ledger.completed(1)
    assert store.finished_counts == {("q", "completed"): 1}
    store._counts = Uncopied(store._counts)
    ledger.completed(2)
    store._counts = Counter(store._counts)
    assert store.finished_counts == {("q", "completed"): 3}
    store.close()


def test_rows_that_cannot_be_read_back_are_a_trouble_of_the_disk(tmp_path: Path):
    """Whatever SQLite says, the self-audit must not end the server."""
    store = SqliteStore(tmp_path / "q.db")
    store.close()
    with pytest.raises(StoreError):
        store.stored(0, 1, 1)


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
