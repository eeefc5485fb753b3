"""How soon a handler that hangs is cancelled on a real server: from the call of `cancel` to the cancellation in the handler.

Client and worker are in this process, on connections of their own, so one clock sees both; the server is a process beside it. Fails
when it takes longer than a tenth of a second.

    python3 -m trials.bench.cancels
"""

import statistics
import tempfile
import time
from pathlib import Path

import trio

from bunqueue_trio.client import Client, Job, Worker
from bunqueue_trio.testing.process import SERVE, ServerProcess

ROUNDS, WARM_UP = 300, 20
LIMIT_MS = 100.0


async def measure(url: str, grace: float | None) -> list[float]:
    """Cancel one hanging job after the other; return how many ms each took."""
    begun, ended = trio.open_memory_channel[str](1), trio.open_memory_channel[float](1)
    worker, took = Worker("hangs", url, concurrency=1), list[float]()

    @worker.handler
    async def hang(job: Job[object]) -> None:
        await begun[0].send(job.id)
        try:
            await trio.sleep_forever()
        finally:
            ended[0].send_nowait(time.perf_counter())

    async with trio.open_nursery() as nursery, Client(url) as client:
        await nursery.start(worker.run)
        for _ in range(ROUNDS + WARM_UP):
            await client.push("hangs", {})
            job_id = await begun[1].receive()
            at = time.perf_counter()
            await client.cancel(job_id, reason="it hangs", grace=grace)
            took.append((await ended[1].receive() - at) * 1000)
        nursery.cancel_scope.cancel()
    return sorted(took[WARM_UP:])


def main() -> int:
    """Measure with and without a grace; return 1 when one of them took too long."""
    longest = 0.0
    with (
        tempfile.TemporaryDirectory() as directory,
        ServerProcess(Path(directory) / "q.db", {}, command=SERVE) as server,
    ):
        for grace in (None, 30.0):
            took = trio.run(measure, server.url, grace)
            longest = max(longest, took[-1])
            p99 = took[len(took) * 99 // 100]
            how = "at once" if grace is None else f"with {grace:.0f} s to clean up"
            print(
                f"cancelled {how}: p50 {statistics.median(took):.1f} ms, p99 {p99:.1f} ms, longest {took[-1]:.1f} ms of {len(took)}"
            )
    if longest > LIMIT_MS:
        print(
            f"a handler goes on for {longest:.0f} ms after it is cancelled: no more than {LIMIT_MS:.0f} ms are allowed"
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
