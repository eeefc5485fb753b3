"""The PostgreSQL store keeps the contract of all stores, also behind a PgBouncer that gives each transaction to another session."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from bunqueue_trio.storage.store import Store
from tests.storage.lists_contract import FactContract, GroupContract, RecordContract
from tests.storage.retention_contract import EventContract, PruneContract
from tests.storage.store_contract import JobContract
from tests.storage.trails_contract import TrailContract
from trials.lib.postgres import Bouncer

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


class BehindPgBouncer:
    @pytest.fixture
    def place(self, url: str, bouncer: Bouncer) -> Iterator[Database]:
        from bunqueue_trio.storage.postgres.place import parse_place

        database = Database(bouncer.url(parse_place(url).schema))
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


@pytest.mark.slow
@pytest.mark.untraced
class TestPooledJobs(BehindPgBouncer, JobContract):
    pass


@pytest.mark.slow
@pytest.mark.untraced
class TestPooledEvents(BehindPgBouncer, EventContract):
    pass


@pytest.mark.slow
@pytest.mark.untraced
class TestPooledRetention(BehindPgBouncer, PruneContract):
    pass


@pytest.mark.slow
@pytest.mark.untraced
class TestPooledFacts(BehindPgBouncer, FactContract):
    pass


@pytest.mark.slow
@pytest.mark.untraced
class TestPooledRecords(BehindPgBouncer, RecordContract):
    pass


@pytest.mark.slow
@pytest.mark.untraced
class TestPooledTrails(BehindPgBouncer, TrailContract):
    pass


@pytest.mark.slow
@pytest.mark.untraced
class TestPooledGroups(BehindPgBouncer, GroupContract):
    pass
