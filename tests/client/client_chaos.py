"""Workers and a producer that must not notice what happens to their connections and their server."""

from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import anyio

from bunqueue_trio.client import Client, Job, Worker

RETRIED = {"max_attempts": 1000, "backoff": 0.2}


class Chaos:
    """``runs`` counts handlers that came to their end, successful or not."""

    def __init__(self, seed: int, pace: float) -> None:
        self.random = Random(seed)
        self.pace = pace
        self.ids: list[str] = []
        self.runs: Counter[str] = Counter()

    async def handle(self, job: Job) -> str:
        await anyio.sleep(self.random.uniform(0.02, self.pace))
        self.runs[job.id] += 1
        if self.random.random() < 0.1:
            raise ValueError("bad luck")
        return job.id

    async def produce(self, client: Client, queue: str, rounds: int) -> None:
        for _ in range(rounds):
            self.ids.append(await client.push(queue, **RETRIED))
            self.ids += await client.push_many(queue, [RETRIED] * 3)
            await anyio.sleep(self.random.uniform(0, self.pace / 6))

    async def disturb(self, rounds: int, cut: Callable[[], None], crash: Callable[[], Awaitable[None]]) -> None:
        for _ in range(rounds):
            await anyio.sleep(self.random.choice([0, 0.001, self.random.uniform(0, self.pace * 0.7)]))
            if self.random.random() < 0.7:
                cut()
            else:
                await crash()

    async def check(self, client: Client, workers: list[Worker], queue: str) -> None:
        """Nothing is lost, and each worker still takes as much as it can."""
        for job_id in self.ids:
            assert await client.wait(job_id, 120) == job_id
        assert len(set(self.ids)) == len(self.ids)
        slots = sum(worker.concurrency for worker in workers)
        last = await client.push_many(queue, [RETRIED] * slots)
        for job_id in last:
            await client.wait(job_id, 60)
        self.ids += last
