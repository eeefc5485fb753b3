"""The fencing number of a delivery: greater for each later one of the same job, whatever happens in between."""

import pytest
import trio

from bunqueue_trio.client import Client, Job
from bunqueue_trio.testing import Bunqueue

DAY_S = 24 * 3600


class World:
    """Three jobs, and what may happen to the one who has them."""

    def __init__(self, bunqueue: Bunqueue) -> None:
        self.bunqueue = bunqueue
        self.random = bunqueue.random
        self.last: dict[str, int] = {}
        self.deliveries = 0

    async def pull(self, client: Client) -> Job | None:
        job = await client.pull("q", timeout=self.random.choice([0, 40]), lease=5)
        if job is not None:
            assert self.last.get(job.id, 0) < job.fence < 2**63
            self.last[job.id] = job.fence
            self.deliveries += 1
        return job

    async def expire(self) -> None:
        await self.pull(self.bunqueue.client)
        await trio.sleep(self.random.choice([0, 6]))

    async def fail(self) -> None:
        job = await self.pull(self.bunqueue.client)
        if job is not None:
            await job.fail("no")
            await trio.sleep(0.01)

    async def cut(self) -> None:
        async with self.bunqueue.connect() as other:
            await self.pull(other)

    async def step(self) -> None:
        self.bunqueue.step_clock(self.random.choice([-365, -1, -1e-7, 1, 30]) * DAY_S)

    async def crash(self) -> None:
        await self.pull(self.bunqueue.client)
        if self.random.random() < 0.5:
            self.bunqueue.step_clock(self.random.uniform(-20, 5))
        await self.bunqueue.crash()
        await self.bunqueue.recover()


@pytest.mark.slow
@pytest.mark.parametrize("bunqueue_seed", range(40))
async def test_fences_rise(bunqueue: Bunqueue):
    """Deliveries, expiries, failures, cuts, crashes in the moment of a delivery, and steps of the clock."""
    world = World(bunqueue)
    await bunqueue.client.push_many(
        "q", [{"max_attempts": 1000, "backoff": 0.001, "job_id": f"j{n}"} for n in range(3)]
    )
    for _ in range(80):
        await world.random.choice([world.expire, world.fail, world.cut, world.step, world.crash, world.crash])()
    assert world.deliveries > 20


@pytest.mark.parametrize("step_s", [0, -60, DAY_S])
async def test_fences_rise_where_each_life_ends_in_the_moment_of_its_first_delivery(bunqueue: Bunqueue, step_s: float):
    await bunqueue.client.push("q")
    fences = []
    for _ in range(4):
        job = await bunqueue.client.pull("q", timeout=60, lease=5)
        assert job is not None
        fences.append(job.fence)
        await bunqueue.crash()
        bunqueue.step_clock(step_s)
        await bunqueue.recover()
    assert fences == sorted(set(fences))


async def test_fences_rise_after_a_quiet_hour_and_a_clock_set_back(bunqueue: Bunqueue):
    await bunqueue.client.push("q")
    await trio.sleep(3600)
    first = await bunqueue.client.pull("q")
    await bunqueue.crash()
    bunqueue.step_clock(-DAY_S)
    await bunqueue.recover()
    second = await bunqueue.client.pull("q", timeout=60)
    assert first is not None
    assert second is not None
    assert first.fence < second.fence


async def test_attempt_counts_failures(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")
    attempts = []

    @worker.handler
    def handle(job: Job):
        attempts.append((job.attempt, job.attempts, job.max_attempts))
        if job.attempt < 3:
            raise ValueError("not yet")

    bunqueue.start(worker)
    await bunqueue.client.wait(await bunqueue.client.push("q", max_attempts=5, backoff=1), 60)
    assert attempts == [(1, 0, 5), (2, 1, 5), (3, 2, 5)]
