"""Cuts and crashes at random moments: nothing is lost, nothing acked twice, no worker goes silent."""

from collections import Counter

import pytest
import trio

from bunqueue_trio.client import Worker
from bunqueue_trio.config import Settings
from bunqueue_trio.testing import Bunqueue
from tests.client.client_chaos import RETRIED, Chaos


@pytest.fixture
def bunqueue_settings() -> Settings:
    """One that buries no job: each cut counts as a stall of what the worker holds."""
    return Settings(stalls_max=1000)


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.parametrize("polls", [False, True])
@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(n, marks=pytest.mark.long) for n in range(5, 20))])
async def test_chaos(bunqueue: Bunqueue, seed: int, polls: bool):
    chaos = Chaos(seed, pace=3)
    workers = [
        Worker("q", connect=bunqueue._place.connect, concurrency=5) if polls else bunqueue.worker("q", concurrency=5)
        for _ in range(3)
    ]
    completed: Counter[str] = Counter()

    def listen():
        bunqueue.server.journal.on_commit.append(
            lambda batch, _: completed.update(e.job_id for e in batch.heard if e.event_type == "completed")
        )

    def cut():
        for pipe in list(bunqueue._lives.pipes):
            if chaos.random.random() < 0.5:
                pipe.cut()

    async def crash():
        await bunqueue.crash()
        await trio.sleep(chaos.random.uniform(0, 1))
        await bunqueue.recover()
        listen()

    listen()
    for worker in workers:
        worker.handler(chaos.handle)
        bunqueue.start(worker)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chaos.produce, bunqueue.client, "q", 60)
        nursery.start_soon(chaos.disturb, 30, cut, crash)
    await chaos.check(bunqueue.client, workers, "q")
    assert completed == Counter(chaos.ids)
    assert not bunqueue.jobs
    await bunqueue.client.push_many("q", [RETRIED] * 15)
    await trio.sleep(0.01)
    assert [worker.running for worker in workers] == [5, 5, 5]
