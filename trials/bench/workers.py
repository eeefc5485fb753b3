"""What one worker does in a second, on Trio and on asyncio: jobs without work, jobs that fail, and pushes one after the other.

Starts a server of its own on a temporary file. The two loops take turns, each in a process of its own. Fails when
asyncio has less than 60 % of Trio's jobs.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio

from bunqueue_trio import Client, Job, Worker
from bunqueue_trio.testing import ServerProcess

SHARE_MIN = 0.6
LOOPS = ("trio", "asyncio")
CONCURRENCY = 50
BATCH = 1000  # jobs in a push
PUSH_SHARE = 10  # a tenth as many single pushes as jobs: each waits for its own commit


async def measure(url: str, jobs: int) -> dict[str, float]:
    """Return jobs done, failures reported and single pushes, each a second; and how many failures there are to a job done.

    A failure is more work than its report: its traceback is written down, twice, and a line in the log.
    """
    pushes = max(jobs // PUSH_SHARE, 10)
    async with Client(url) as client:
        began = anyio.current_time()
        for n in range(pushes):
            await client.push("pushed", n)
        pushed = pushes / (anyio.current_time() - began)
    done, failed = await _drain(url, jobs, fails=False), await _drain(url, jobs, fails=True)
    return {"done": done, "failed": failed, "failed_to_done": failed / done, "pushed": pushed}


async def _drain(url: str, jobs: int, *, fails: bool) -> float:
    """Push jobs, then let a worker begin, and return how many of them the server has had the end of in a second."""
    queue = "failing" if fails else "done"
    worker = Worker(queue, url, concurrency=CONCURRENCY)

    @worker.handler
    async def handle(job: Job) -> None:  # noqa: ASYNC124 - a sync one would run in a thread
        if fails:
            raise ValueError("bad")

    async with Client(url, queue=queue) as client:
        for first in range(0, jobs, BATCH):
            options = {"data": 1, "max_attempts": 1}
            await client.push_many(queue, [options] * min(BATCH, jobs - first))
        async with client.events("failed" if fails else "completed") as events, anyio.create_task_group() as group:
            began, ended = anyio.current_time(), 0
            group.start_soon(worker.run)
            while ended < jobs:
                event = await events.next_or_gap()
                if event is None:
                    raise RuntimeError("events were missed: nobody knows when it was over")
                ended += 1
            seconds = anyio.current_time() - began
            worker.stop()
    return jobs / seconds


def measure_workers(jobs: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians for both loops, by what was measured."""
    found: dict[str, list[dict[str, float]]] = {loop: [] for loop in LOOPS}
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as directory:
        for number in range(rounds):
            for loop in LOOPS if number % 2 == 0 else LOOPS[::-1]:
                path = Path(directory) / f"{loop}-{number}.db"
                with ServerProcess(path, {"RATE_LIMIT_MAX_REQUESTS": "Infinity", "LOG_LEVEL": "error"}) as server:
                    done = subprocess.run(
                        [sys.executable, "-m", __name__, server.url, loop, str(jobs)],
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
                    )  # fmt: skip
                found[loop].append(json.loads(done.stdout))
    return {
        loop: {name: statistics.median(round_[name] for round_ in turns) for name in turns[0]}
        for loop, turns in found.items()
    }


def rows(found: dict[str, dict[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table."""
    names = {
        "done": f"no-op jobs/s, concurrency {CONCURRENCY}", "failed": "failures/s, the same", "pushed": "pushes/s, one after the other",
    }  # fmt: skip
    trio, asyncio = (found[loop] for loop in LOOPS)
    return ["one worker, one client", "Trio", "asyncio", "asyncio/Trio"], [
        [name, f"{trio[key]:,.0f}", f"{asyncio[key]:,.0f}", f"{asyncio[key] / trio[key]:.2f}"]
        for key, name in names.items()
    ] + [["failures to a no-op job", f"{trio['failed_to_done']:.2f}", f"{asyncio['failed_to_done']:.2f}", ""]]


def misses(found: dict[str, dict[str, float]]) -> list[str]:
    """Return which requirements were missed."""
    if found["asyncio"]["done"] < SHARE_MIN * found["trio"]["done"]:
        return [f"asyncio has less than {SHARE_MIN:.0%} of Trio's jobs"]
    return []


def load() -> str:
    """Return how busy the machine is, since a busy one has other figures."""
    return f"{os.getloadavg()[0]:.1f} tasks wanted to run, on {os.cpu_count()} processors"


def main(arguments: list[str]) -> None:
    """Measure one loop; print the numbers as JSON."""
    url, loop, jobs = arguments
    found: dict[str, Any] = anyio.run(measure, url, int(jobs), backend=loop)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
