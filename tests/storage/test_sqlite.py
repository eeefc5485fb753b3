"""The SQLite store keeps the contract of all stores."""

from pathlib import Path

import pytest

from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import Store
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
