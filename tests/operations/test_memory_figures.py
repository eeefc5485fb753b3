"""The figures of the memory, and that looking is bounded."""

import ctypes
import gc
import subprocess
import sys

import pytest
import trio
from msgspec import Raw
from trio.testing import MockClock

from bunqueue_trio.config import MIB, Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime import memory
from bunqueue_trio.runtime.memory import Figures, Memory
from bunqueue_trio.testing import Bunqueue


@pytest.fixture(autouse=True)
def all_blocks_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are in the process of all these tests."""
    monkeypatch.setattr(memory, "BLOCKS_LISTED_MAX", sys.maxsize)


def test_the_figures_follow_what_is_allocated():
    """Half of it small, from Python's own allocator, half of it large, from the C heap."""
    before = memory.read()
    small = [bytes(100) + bytes([i % 256]) for i in range(100_000)]
    large = [bytearray(MIB) for _ in range(20)]
    after = memory.read()
    assert 10 * MIB < after.objects_used - before.objects_used < 30 * MIB
    assert 20 * MIB <= after.c_used - before.c_used < 30 * MIB
    assert (len(small), len(large)) == (100_000, 20)


def test_used_is_within_held():
    figures = memory.read()
    assert 0 < figures.objects_used <= figures.objects_held
    assert 0 < figures.c_used <= figures.c_held
    assert figures.resident > 10 * MIB


def test_the_contracts_figures_are_megabytes_of_both_allocators():
    figures = Figures(3 * MIB, 4 * MIB, 10 * MIB, 20 * MIB, 50 * MIB)
    assert figures.heap() == {"heapUsed": 13, "heapTotal": 24, "rss": 50}


def test_without_statistics_anonymous_memory_stands_for_the_heap(monkeypatch: pytest.MonkeyPatch):
    """Another C library, and a Python that does not export its report."""
    bare = ctypes.CDLL(None)
    monkeypatch.setattr(memory, "_libc", lambda: _Without(bare, "mallinfo2", "open_memstream"))
    figures = memory.read()
    assert figures.objects_used == figures.objects_held > 0
    assert (figures.c_used, figures.c_held) == (0, 0)
    assert figures.resident >= figures.objects_held


class _Without:
    def __init__(self, library: ctypes.CDLL, *names: str) -> None:
        self._library = library
        self._names = names

    def __getattr__(self, name: str) -> object:
        if name in self._names:
            raise AttributeError(name)
        return getattr(self._library, name)


def test_a_report_of_an_allocator_that_is_off_means_none():
    assert memory._parse("") == (0, 0)


async def test_a_census_is_made_once_for_all_who_ask(nursery: trio.Nursery):
    watched = Memory()
    counts: list[memory.Census] = []

    async def ask() -> None:
        counts.append(await watched.census())

    async with trio.open_nursery() as asking:
        for _ in range(5):
            asking.start_soon(ask)
    assert all(count is counts[0] for count in counts)
    assert counts[0].objects > 100
    assert sum(n for _, n in counts[0].types) == counts[0].objects


async def test_a_census_counts_classes_that_do_not_say_what_they_are_called():
    class Shy(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise ValueError

    kept = [Shy("Unnamed", (), {})() for _ in range(1234)]
    count = await Memory().census()
    assert dict(count.types)["Unnamed"] == len(kept)


async def test_a_census_gets_old(autojump_clock: MockClock):
    watched = Memory()
    first = await watched.census()
    await trio.sleep(2)
    assert await watched.census() is not first


async def test_of_very_many_objects_the_old_ones_are_not_listed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
):
    """A list of all is made in one step, however many they are, and anybody may ask for it."""

    class Old:
        pass

    class New:
        pass

    old = [Old() for _ in range(5000)]
    gc.collect()
    gc.disable()
    try:
        new = [New() for _ in range(500)]
        whole = dict((await Memory().census()).types)
        monkeypatch.setattr(memory, "BLOCKS_LISTED_MAX", 1000)
        young = dict((await Memory().census()).types)
    finally:
        gc.enable()
    assert (whole["Old"], whole["New"]) == (len(old), len(new))
    assert ("Old" in young, young["New"]) == (False, len(new))


async def test_a_collection_frees_cycles_and_is_not_repeated_at_once():
    watched = Memory()
    gc.disable()
    try:
        cycles: list[list[object]] = [[bytearray(1000)] for _ in range(20_000)]
        for cycle in cycles:
            cycle.append(cycle)
        cycles.clear()
        del cycle
        before, after = await watched.collect()
    finally:
        gc.enable()
    assert before.objects_used + before.c_used - after.objects_used - after.c_used > 15 * MIB
    before, after = await watched.collect()
    assert before is after


async def test_new_jobs_are_looked_through_before_they_are_many(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
):
    """By nobody else: plain pushes leave too little behind."""
    monkeypatch.setattr(memory, "_NEW_JOBS", 5)
    looked: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            looked.append(info["generation"])

    async with Bunqueue(Settings()) as bunqueue:
        gc.disable()
        gc.callbacks.append(note)
        try:
            for told in (0, 0, 0, 0, 1, 1, 1, 1, 1, 2):
                await bunqueue.server.core.execute(c.Push(queue="q", data=Raw(b"1")))
                assert looked == [0] * told
        finally:
            gc.callbacks.remove(note)
            gc.enable()


def test_much_memory_is_not_looked_at_for_its_figures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "_REPORTED_MAX", MIB)
    monkeypatch.setattr(memory, "_objects", lambda: pytest.fail("it is looked at"))
    told = memory.read()
    assert 10 * MIB < told.objects_used == told.objects_held <= told.resident


async def test_a_collection_leaves_what_is_old_alone(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch):
    """Anybody may ask for it, and to look at everything stops the server for as long as it has queues."""
    looked: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        looked.append(info["generation"])

    monkeypatch.setattr("bunqueue_trio.runtime.memory._libc", object)
    monkeypatch.setattr("bunqueue_trio.runtime.memory.read", lambda: None)
    gc.disable()
    gc.callbacks.append(note)
    try:
        await Memory().collect()
    finally:
        gc.callbacks.remove(note)
        gc.enable()
    assert looked
    assert max(looked) < 2


async def test_a_census_counts_what_does_not_say_what_it_is_called(autojump_clock: MockClock):
    class Shy(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise ValueError("no name for this one")

    class Nameless(metaclass=Shy):
        pass

    kept = [Nameless() for _ in range(1000)]
    assert dict((await Memory().census()).types)["Nameless"] >= len(kept)


_COPIES = """
import resource
from bunqueue_trio.runtime.memory import keep_freed
assert keep_freed()
whole = bytes(10_000_000)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    copies = [whole + b"x" for _ in range(5)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults(), faults())
"""


@pytest.mark.slow
def test_copies_of_large_payloads_are_made_in_memory_that_is_there():
    """In a process of its own: what this one has freed before is there, too."""
    first, *others = map(int, subprocess.check_output([sys.executable, "-c", _COPIES], text=True).split())
    assert first > 5 * 2000
    assert max(others) < first / 10
