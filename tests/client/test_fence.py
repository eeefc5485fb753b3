"""The fencing number of a delivery: greater for each later one of the same job, whatever happens in between."""

import pytest
import trio

from bunqueue_trio.client import Client, Job
from bunqueue_trio.testing import Bunqueue

DAY_S = 24 * 3600


@pytest.mark.parametrize("bunqueue_seed", range(40))
async def test_fences_rise(bunqueue: Bunqueue):
    """Deliveries, expiries, failures, cuts, crashes in the moment of a delivery, and steps of the clock."""
    random = bunqueue.random
    await bunqueue.client.push_many(
        "q", [{"max_attempts": 1000, "backoff": 0.001, "job_id": f"j{n}"} for n in range(3)]
    )
    last: dict[str, int] = {}
    deliveries = 0
    client = bunqueue.client

    def check(job: Job | None):
        nonlocal deliveries
        if job is not None:
            assert last.get(job.id, 0) < job.fence < 2**63
            last[job.id] = job.fence
            deliveries += 1

    async def pull(client: Client) -> Job | None:
        job = await client.pull("q", timeout=random.choice([0, 40]), lease=5)
        check(job)
        return job

    for _ in range(80):
        match random.choice(["expire", "fail", "cut", "crash", "crash", "crash", "step"]):
            case "expire":
                await pull(client)
                await trio.sleep(random.choice([0, 6]))
            case "fail":
                job = await pull(client)
                if job is not None:
                    await job.fail("no")
                    await trio.sleep(0.01)
            case "cut":
                async with bunqueue.connect() as other:
                    await pull(other)
            case "step":
                bunqueue.step_clock(random.choice([-365, -1, -1e-7, 1, 30]) * DAY_S)
            case "crash":
                await pull(client)  # answered, and perhaps not committed
                if random.random() < 0.5:
                    bunqueue.step_clock(random.uniform(-20, 5))
                await bunqueue.crash()
                await bunqueue.recover()
    assert deliveries > 20


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
