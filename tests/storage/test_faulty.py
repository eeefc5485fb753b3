"""The store that fails is itself tested: faults happen as written, and without any it is a store."""

import random
from itertools import islice

import pytest

from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Store
from tests.storage.faulty import Crash, Fault, FaultyStore, random_faults
from tests.storage.ledger import Ledger, keep, loaded, make_job
from tests.storage.lists_contract import FactContract, GroupContract, RecordContract
from tests.storage.retention_contract import EventContract, PruneContract
from tests.storage.store_contract import JobContract
from tests.storage.trails_contract import TrailContract


class Faulty:
    """A store around one that is there again after each restart."""

    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())

    def open(self) -> Store:
        self.store = FaultyStore(self.store.restart())
        return self.store


class FaultyPlace:
    @pytest.fixture
    def place(self) -> Faulty:
        return Faulty()


class TestFaultyJobs(FaultyPlace, JobContract):
    pass


class TestFaultyEvents(FaultyPlace, EventContract):
    pass


class TestFaultyRetention(FaultyPlace, PruneContract):
    pass


class TestFaultyFacts(FaultyPlace, FactContract):
    pass


class TestFaultyRecords(FaultyPlace, RecordContract):
    pass


class TestFaultyTrails(FaultyPlace, TrailContract):
    pass


class TestFaultyGroups(FaultyPlace, GroupContract):
    pass


def test_a_refused_batch_is_not_there_and_may_be_tried_again():
    store = FaultyStore(MemoryStore(), [Fault.REFUSED, Fault.GHOST])
    batch = Ledger(store).batch([make_job(1)])
    for _ in range(2):
        with pytest.raises(StoreError):
            store.commit(batch)
        assert loaded(store) == {}
    store.commit(batch)
    assert list(loaded(store)) == ["job-1"]
    assert store.tried == [(1, Fault.REFUSED), (1, Fault.GHOST), (1, Fault.NONE)]
    assert store.written == [1]


def test_another_batch_before_the_refused_one_is_a_fault_of_ours():
    store = FaultyStore(MemoryStore(), [Fault.REFUSED])
    ledger = Ledger(store)
    with pytest.raises(StoreError):
        ledger.write([make_job(1)])
    with pytest.raises(AssertionError, match="tried again"):
        ledger.write([make_job(2)])


@pytest.mark.parametrize(
    ("fault", "there"),
    [(Fault.CRASH_BEFORE, False), (Fault.CRASH_AFTER, True), (Fault.GHOST, True), (Fault.REFUSED, False)],
)
def test_after_a_crash_the_next_start_finds_what_the_fault_says(fault: Fault, there: bool):
    store = FaultyStore(MemoryStore(), [fault])
    with pytest.raises((Crash, StoreError)):
        Ledger(store).write([make_job(1)])
    after = store.restart()
    assert list(loaded(after)) == (["job-1"] if there else [])
    with pytest.raises(AssertionError, match="has ended"):
        store.find("job-1")


def test_a_ghost_is_found_once():
    store = FaultyStore(MemoryStore(), [Fault.GHOST])
    ledger = Ledger(store)
    batch = ledger.batch([make_job(1)])
    with pytest.raises(StoreError):
        store.commit(batch)
    store.commit(batch)
    assert list(loaded(store.restart())) == ["job-1"]


def test_upkeep_and_reads_fail_apart_from_commits():
    store = FaultyStore(MemoryStore(), upkeep=[Fault.REFUSED, Fault.NONE] * 2)
    Ledger(store).tell(1)
    for call in (lambda: store.prune(keep()), lambda: store.checkpoint(restart=True)):
        with pytest.raises(StoreError):
            call()
        call()
    store.blind = True
    for read in (lambda: store.find("x"), store.first_event_id, lambda: store.events_after(0, 1)):
        with pytest.raises(StoreError):
            read()


def test_the_same_seed_gives_the_same_faults():
    weights = {Fault.NONE: 3, Fault.REFUSED: 1, Fault.CRASH_AFTER: 0}
    first, again = (list(islice(random_faults(random.Random(7), weights), 100)) for _ in range(2))
    assert first == again
    assert set(first) == {Fault.NONE, Fault.REFUSED}
