"""Worlds for the tests of the runtime: virtual time, no thread, no disk.

Trio runs ready tasks in random order. Here that order is the same each time; ``TRIO_SEED=7`` in the
environment tries another one.
"""

import os
from inspect import iscoroutinefunction
from typing import Any

import pytest
import trio
import trio.testing
from trio._core import _run

from tests.runtime.runtime_world import AWAY_S, Answers, VirtualThread, World, settled


def virtual(main: Any, *, clock: trio.abc.Clock | None, instruments: list[trio.abc.Instrument]) -> Any:
    """Run a test in virtual time, whether it asks for a clock or not."""
    clock = clock or trio.testing.MockClock(autojump_threshold=0)
    _run._r.seed(os.environ.get("TRIO_SEED", "0"))
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True
    return trio.run(main, clock=clock, instruments=instruments)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every test of this directory run in virtual time, unless it says otherwise."""
    for item in items:
        if item.path.parent.name == "runtime" and iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=virtual))


@pytest.fixture
async def world() -> World:
    """A world whose tasks do not run yet."""
    return World()


@pytest.fixture
async def running(world: World, nursery: trio.Nursery) -> World:
    """The same world with its tasks running."""
    world.start(nursery)
    await trio.testing.wait_all_tasks_blocked()
    return world


@pytest.fixture
async def distant(nursery: trio.Nursery) -> World:
    """A running world whose store is a network away."""
    world = World(away_s=AWAY_S)
    world.start(nursery)
    await settled()
    return world


@pytest.fixture
async def answers(world: World, nursery: trio.Nursery) -> Answers:
    """What calls into the world answered."""
    return Answers(world, nursery)


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> VirtualThread:
    """A thread that costs virtual time only."""
    thread = VirtualThread()
    monkeypatch.setattr(trio.to_thread, "run_sync", thread.run_sync)
    return thread
