"""The artificial store that is a network away keeps the contract of all stores, and the rules of an awaited commit."""

import pytest
import trio

from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Store
from tests.storage.distant import DistantStore
from tests.storage.ledger import Ledger, make_job
from tests.storage.lists_contract import FactContract, RecordContract
from tests.storage.retention_contract import EventContract, PruneContract
from tests.storage.store_contract import JobContract


class Distant:
    """A store that is there again after each restart of the engine."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    def open(self) -> Store:
        self.inner.close()
        return DistantStore(self.inner)


class DistantPlace:
    @pytest.fixture
    def place(self) -> Distant:
        return Distant()


class TestDistantJobs(DistantPlace, JobContract):
    pass


class TestDistantEvents(DistantPlace, EventContract):
    pass


class TestDistantRetention(DistantPlace, PruneContract):
    pass


class TestDistantFacts(DistantPlace, FactContract):
    pass


class TestDistantRecords(DistantPlace, RecordContract):
    pass


async def test_a_commit_whose_answer_nobody_heard_is_there_once(autojump_clock):
    inner = MemoryStore()
    store = DistantStore(inner, away_s=1)
    batch = Ledger(store).batch([make_job(1)])
    with trio.move_on_after(1.5):
        await store.write(batch, quick=True)
    assert len(list(inner.load())) == 1
    await store.write(batch, quick=True)
    assert len(list(inner.load())) == 1
    assert store.repeated == 1
