"""The model of the database keeps the contract of all stores, by the real store over it; so it does what PostgreSQL does.

That one is held to the same contract in ``tests/storage/test_postgres.py``.
"""

import random
from collections.abc import Iterator

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres import announcer, looker, store
from bunqueue_trio.storage.postgres.place import parse_place
from bunqueue_trio.storage.postgres.store import PostgresStore
from tests.cluster.database import Database
from tests.cluster.link import Direct, make_link
from tests.storage.lists_contract import FactContract, GroupContract, RecordContract
from tests.storage.retention_contract import EventContract, PruneContract
from tests.storage.store_contract import JobContract
from tests.storage.trails_contract import TrailContract

pytestmark = pytest.mark.thorough


PLACE = "postgres://sim/queue?schema=bq"
"""With a schema of this name statements stay as they are written."""


class Opened:
    """A store over a model of its own."""

    def __init__(self) -> None:
        self.database = Database(random.Random(1), lambda: 0.0)
        self.store: PostgresStore | None = None

    def open(self) -> PostgresStore:
        self.close()
        self.store = PostgresStore(parse_place(PLACE))
        assert self.store.take() is None
        return self.store

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


class OverTheModel:
    @pytest.fixture
    def place(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
        opened = Opened()
        links = make_link(lambda: Direct(opened.database))
        for module in (store, announcer, looker):
            monkeypatch.setattr(module, "DatabaseLink", links)
        yield opened
        opened.close()


class TestModelJobs(OverTheModel, JobContract):
    pass


class TestModelEvents(OverTheModel, EventContract):
    pass


class TestModelRetention(OverTheModel, PruneContract):
    pass


class TestModelFacts(OverTheModel, FactContract):
    pass


class TestModelRecords(OverTheModel, RecordContract):
    pass


class TestModelTrails(OverTheModel, TrailContract):
    pass


class TestModelGroups(OverTheModel, GroupContract):
    pass
