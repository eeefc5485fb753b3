"""The PostgreSQL store keeps the contract of all stores."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from bunqueue_trio.storage.store import Store
from tests.storage.lists_contract import FactContract, GroupContract, RecordContract
from tests.storage.retention_contract import EventContract, PruneContract
from tests.storage.store_contract import JobContract
from tests.storage.trails_contract import TrailContract

if TYPE_CHECKING:
    from bunqueue_trio.storage.postgres.store import PostgresStore


class Database:
    """A store in a database that nobody else uses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store: PostgresStore | None = None

    def open(self) -> Store:
        from bunqueue_trio.storage.postgres.place import parse_place
        from bunqueue_trio.storage.postgres.store import PostgresStore

        self.close()
        self.store = PostgresStore(parse_place(self.url))
        assert self.store.take() is None
        return self.store

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


class InPostgres:
    @pytest.fixture
    def place(self, url: str) -> Iterator[Database]:
        database = Database(url)
        yield database
        database.close()


class TestPostgresJobs(InPostgres, JobContract):
    pass


class TestPostgresEvents(InPostgres, EventContract):
    pass


class TestPostgresRetention(InPostgres, PruneContract):
    pass


class TestPostgresFacts(InPostgres, FactContract):
    pass


class TestPostgresRecords(InPostgres, RecordContract):
    pass


class TestPostgresTrails(InPostgres, TrailContract):
    pass


class TestPostgresGroups(InPostgres, GroupContract):
    pass
