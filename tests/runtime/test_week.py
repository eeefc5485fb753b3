"""The showpiece: a week of a server's life, to the millisecond, in a moment."""

from itertools import pairwise

import pytest
import trio

from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from tests.runtime.runtime_world import World, settled

HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS


class Worker:
    """Takes every job of its queue, and notes when; subclasses say what it does with it."""

    def __init__(self, world: World, queue: str) -> None:
        self.world = world
        self.queue = queue
        self.taken_ms: list[int] = []

    async def run(self) -> None:
        while True:
            job_id = await self.world.pull(self.queue, wait_ms=60_000)
            if job_id is not None:
                self.taken_ms.append(self.world.now_ms())
                await self.work(job_id)

    async def work(self, job_id: str) -> None:
        """Forget it."""


class Failing(Worker):
    async def work(self, job_id: str) -> None:
        await self.world.fail(job_id)


class Honest(Worker):
    async def work(self, job_id: str) -> None:
        await self.world.ack(job_id)


@pytest.mark.slow
async def test_a_week_of_retries_stalls_and_repeats(world: World, nursery: trio.Nursery):
    """A worker that always fails, one that always forgets, and one that works every hour."""
    world.start(nursery)
    failing, forgetful, honest = Failing(world, "failing"), Worker(world, "forgotten"), Honest(world, "hourly")
    for worker in (failing, forgetful, honest):
        nursery.start_soon(worker.run)
    retried = await world.push("failing", max_attempts=1000, backoff=1000)
    forgotten = await world.push("forgotten")
    await world.push("hourly", repeat=c.Repeat(every=HOUR_MS))
    await trio.sleep(WEEK_MS / 1000 + 0.5)
    await settled()

    waits = [after - before for before, after in pairwise(failing.taken_ms)]
    assert waits[:12] == [1000 * 2**i for i in range(12)]  # 1 s, 2 s, 4 s … until it would be over an hour
    assert set(waits[12:]) == {HOUR_MS}
    assert world.engine.jobs[retried].attempts == len(failing.taken_ms) == 13 + (WEEK_MS - sum(waits[:12])) // HOUR_MS

    assert forgetful.taken_ms == [i * 300_000 for i in range(4)]  # four leases of five minutes, and it is dead
    assert world.state(forgotten) is State.FAILED

    assert honest.taken_ms == [i * HOUR_MS for i in range(7 * 24 + 1)]
    assert world.store.finished_counts == {("forgotten", "failed"): 1, ("hourly", "completed"): 7 * 24 + 1}
    assert list(world.stored().values()) == [State.DELAYED, State.DELAYED]  # the next try, the next run


async def test_a_year_without_work_costs_nothing(world: World, nursery: trio.Nursery):
    world.start(nursery)
    job = await world.push(delay=365 * 24 * HOUR_MS)
    await trio.sleep(365 * 24 * 3600)
    await settled()
    assert world.stored() == {job: State.WAITING}
    assert world.journal.commits == 2
