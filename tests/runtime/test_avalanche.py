"""What an avalanche does comes to the disk in batches of a bounded size, and a crash in its midst loses none of it."""

import pytest
import trio

from bunqueue_trio.config import GIVE_UP_S, ROOM_S
from bunqueue_trio.engine import commands, engine
from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from tests.runtime.runtime_world import World, settled
from tests.storage.faulty import Fault

FULL, STEP = 20, 10
DEPENDENTS = 100


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch be full with 20 jobs, and a step do 10."""
    monkeypatch.setattr(engine, "GATHER_JOBS_MAX", FULL)
    for module in (engine, commands):
        monkeypatch.setattr(module, "ADVANCE_MAX", STEP)


async def active_with_dependents(world: World) -> str:
    """Return a job that somebody works on, and for whose end 100 others wait."""
    first = await world.push("first")
    for _ in range(DEPENDENTS):
        await world.push("many", depends_on=[first])
    assert await world.pull("first") == first
    await settled()
    return first


def told(world: World) -> int:
    return world.engine.queues["many"].counts[State.WAITING]


async def test_a_cascade_waits_for_the_disk_between_its_batches(running: World, nursery: trio.Nursery):
    first = await active_with_dependents(running)
    sizes: list[int] = []
    running.journal.on_commit.append(lambda batch, _: sizes.append(len(batch.jobs)))
    async with running.journal.disk:
        nursery.start_soon(running.ack, first)
        await settled()
        assert running.engine.has_chores
        assert running.journal.pending <= 2 * (FULL + STEP)  # one is being written, one gathers
        for _ in range(50):  # what others ask for meanwhile does not make it larger
            nursery.start_soon(running.pull, "nothing")
        await settled()
        assert running.journal.pending <= 2 * (FULL + STEP)
    await trio.sleep(0.001)
    await settled()
    assert told(running) == DEPENDENTS
    assert max(sizes) <= FULL + STEP
    assert running.now_ms() < ROOM_S * 1000


async def test_so_does_an_avalanche_of_delays_that_end_at_once(running: World):
    for _ in range(DEPENDENTS):
        await running.push("many", delay=500)
    await settled()
    async with running.journal.disk:
        await trio.sleep(0.5)
        await settled()
        assert running.journal.pending <= 2 * (FULL + STEP)
    await trio.sleep(0.001)
    await settled()
    assert told(running) == DEPENDENTS


async def test_a_disk_that_takes_too_long_is_waited_for_in_each_step_but_not_longer(
    running: World, nursery: trio.Nursery
):
    first = await active_with_dependents(running)
    async with running.journal.disk:
        nursery.start_soon(running.ack, first)
        await settled()
        before = told(running)
        await trio.sleep(ROOM_S * 2.5)
        assert told(running) == before + 2 * STEP


async def test_a_disk_that_fails_is_not_waited_for(running: World, nursery: trio.Nursery):
    first = await active_with_dependents(running)
    running.store.commits = iter([Fault.REFUSED] * 1000)
    nursery.start_soon(running.execute_refused, c.Ack(id=first))
    await trio.sleep(ROOM_S / 2)
    assert told(running) == DEPENDENTS
    running.store.commits = iter(())
    await trio.sleep(GIVE_UP_S)


async def test_who_waits_for_a_disk_that_begins_to_fail_goes_on_at_once(running: World, nursery: trio.Nursery):
    first = await active_with_dependents(running)
    running.store.commits = iter([Fault.REFUSED] * 1000)
    async with running.journal.disk:
        nursery.start_soon(running.execute_refused, c.Ack(id=first))
        await settled()
        assert told(running) < DEPENDENTS
    await trio.sleep(ROOM_S / 2)
    assert told(running) == DEPENDENTS


@pytest.mark.parametrize("commits", range(1, 5))
async def test_a_kill_in_its_midst_leaves_the_rest_to_the_next_start(commits: int):
    async with trio.open_nursery() as life:
        world = World()
        world.start(life)
        first = await active_with_dependents(world)
        last = world.journal.commits + commits
        world.journal.on_commit.append(lambda *_: life.cancel_scope.cancel() if world.journal.commits == last else None)
        await world.ack(first)
        await trio.sleep_forever()
    stored = list(world.stored().values())
    assert stored.count(State.WAITING_CHILDREN) == DEPENDENTS - stored.count(State.WAITING) > 0
    async with trio.open_nursery() as life:
        world = World(inner=world.store.inner)
        world.core.advance()  # as every start does
        world.start(life)
        await trio.sleep(0.001)
        await settled()
        assert told(world) == DEPENDENTS
        assert set(world.stored().values()) == {State.WAITING}
        life.cancel_scope.cancel()
