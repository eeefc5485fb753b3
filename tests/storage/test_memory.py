"""The in-memory store keeps the contract of all stores."""

import pytest

from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Store
from tests.storage.ledger import Ledger, ended, make_job
from tests.storage.lists_contract import FactContract, GroupContract, RecordContract
from tests.storage.retention_contract import EventContract, PruneContract
from tests.storage.store_contract import JobContract
from tests.storage.trails_contract import TrailContract


class Memory:
    """A store that is there again after each restart of the engine."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def open(self) -> Store:
        self.store.close()
        return self.store


class MemoryPlace:
    @pytest.fixture
    def place(self) -> Memory:
        return Memory()


class TestMemoryJobs(MemoryPlace, JobContract):
    pass


class TestMemoryEvents(MemoryPlace, EventContract):
    pass


class TestMemoryRetention(MemoryPlace, PruneContract):
    pass


class TestMemoryFacts(MemoryPlace, FactContract):
    pass


class TestMemoryRecords(MemoryPlace, RecordContract):
    pass


class TestMemoryTrails(MemoryPlace, TrailContract):
    pass


class TestMemoryGroups(MemoryPlace, GroupContract):
    pass


def test_writing_a_job_twice_is_a_fault_of_ours():
    store = MemoryStore()
    ledger = Ledger(store)
    ledger.write([make_job(1), ended(make_job(2))])
    with pytest.raises(AssertionError):
        ledger.write([make_job(1)])
    with pytest.raises(AssertionError):
        ledger.write([ended(make_job(2))])
