"""The SQLite store keeps the contract of all stores."""

from collections import Counter
from pathlib import Path

import pytest

from bunqueue_trio.errors import StoreError
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
