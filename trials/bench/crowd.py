"""What it costs to look at, and to act on, a million waiting and a million ended jobs in a thousand queues.

The server runs in this process, without sockets, on a file. All times are of the event loop: how long one step of a command
takes, and what pushes beside an act still reach. The steps of a command are counted by Trio itself. Of the dashboard on the
same jobs it is described in ``pages.py``.
"""

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from msgspec import Raw

from bunqueue_trio.config import GC_THRESHOLDS, Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import SERVER
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.sqlite import SqliteStore
from trials.bench import pages
from trials.bench.steps import STEP_MS, Steps, tell

QUEUES, JOBS, ACTED = 1000, 1_000_000, 10_000
COUNT_MS, SHARE = 1.0, 0.8
"""What is required: of a count, and of the rate of pushes beside an act."""
TURNS = 25
PUSHED_S = 2.0
PAIRS = 5
_FILLED = 1000  # jobs of a command that fills


def run(jobs: int = JOBS, queues: int = QUEUES, acted: int = ACTED, folder: Path | None = None) -> int:
    """Measure, and print what was found; return 1 when a requirement is missed."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "crowd.db"
        missed, seen = trio.run(_measure, path, jobs, queues, acted)
        missed += pages.judge_process(path, seen)
    return 1 if missed else 0


async def _measure(path: Path, jobs: int, queues: int, acted: int) -> tuple[int, list[pages.Page]]:
    server = Server(Settings(retention_completed_max=2 * jobs), SqliteStore(path), Clock())
    missed = 0
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, ())
        await _fill(server, jobs, queues)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        execute = server.core.execute
        looks: list[tuple[str, float, Callable[[], Awaitable[object]]]] = [
            ("counts of one queue", COUNT_MS, lambda: execute(c.GetQueue(queue="q-1"))),
            ("counts of all jobs", COUNT_MS, lambda: _called(server.counts)),
            ("100 waiting jobs of a queue", STEP_MS, lambda: execute(c.GetJobs(queue="q-1", state="waiting", limit=100))),
            ("100 ended jobs of a queue", STEP_MS, lambda: execute(c.GetJobs(queue="q-1", state="completed", limit=100))),
            ("100 jobs of a tag that one has", STEP_MS, lambda: execute(c.FindJobs(tag="rare", limit=100))),
            ("100 jobs with a text that none has", STEP_MS, lambda: execute(c.FindJobs(text="nowhere", limit=100))),
        ]  # fmt: skip
        for what, most, look in looks:
            missed += await _judge(what, most, look)
        missed += await _judge_act(server, queues, acted)
        missed += await _judge_whole_queues(server)
        seen = await pages.plant(server)
        missed += await pages.judge_steps(server, seen)
        server.stop.set()
    return missed, seen


async def _called(look: Callable[[], object]) -> object:
    await trio.lowlevel.checkpoint()
    return look()


async def _fill(server: Server, jobs: int, queues: int) -> None:
    execute = server.core.execute
    specs = [c.JobSpec(data=Raw(b'{"to":"user@test.com"}'))] * _FILLED
    for turn in range(2 * jobs // _FILLED):
        queue = f"q-{turn % queues}"
        await execute(c.PushBatch(queue=queue, jobs=specs))
        if turn < jobs // _FILLED:
            taken = await execute(c.PullBatch(queue=queue, count=_FILLED))
            assert isinstance(taken, r.PullBatchReply)
            await execute(c.AckBatch(ids=[job.id for job in taken.jobs], tokens=taken.tokens))
        if turn % 100 == 0:
            print(f"bench: {turn * _FILLED:,} of {2 * jobs:,} jobs", file=sys.stderr, flush=True)
    await execute(c.Push(queue="q-1", data=Raw(b"1"), tags=["rare"]))


async def _judge(what: str, most: float, look: Callable[[], Awaitable[object]]) -> int:
    longest = []
    for _ in range(TURNS):
        # By the clock of the thread, as below.
        with Steps.counted(time.thread_time) as steps:
            await trio.lowlevel.checkpoint()
            await look()
            await trio.lowlevel.checkpoint()
        longest.append(max(steps.found))
    found = statistics.median(longest)
    return tell(what, f"{found:.2f} ms", f"{most:.0f} ms", is_met=found <= most)


async def _judge_act(server: Server, queues: int, acted: int) -> int:
    steps: list[float] = []
    alone: list[int] = []
    beside: list[int] = []
    turn = 0

    async def act() -> None:
        nonlocal turn
        # So many that there are as many jobs as are acted on.
        names = [f"q-{(turn + n) % queues}" for n in range(max(1, acted // _FILLED))]
        for action in ("discard", "retry"):
            await server.core.execute(c.ActOnJobs(action=action, filter=c.Filter(queue=names), limit=acted), by=SERVER)
        turn += len(names)

    async def act_on_and_on() -> None:
        # By the clock of the thread: what commits beside it, and other processes, are not the step's.
        with Steps.counted(time.thread_time) as noted:
            try:
                while True:
                    await act()
            finally:
                steps.extend(noted.found)

    async def nothing() -> None:
        # Counting steps costs each of them something: it is done in both.
        with Steps.counted(time.thread_time):
            await trio.sleep_forever()

    # In turns, since the file grows, and with it what a push costs.
    for _ in range(PAIRS):
        for other, found in ((nothing, alone), (act_on_and_on, beside)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other)
                found.append(await _pushes(server))
                nursery.cancel_scope.cancel()
    share = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    missed = tell(
        f"a step of acts on {acted:,} jobs", f"{max(steps):.2f} ms", f"{STEP_MS:.0f} ms", is_met=max(steps) <= STEP_MS
    )
    return missed + tell("pushes beside them", f"{share:.0%}", f"{SHARE:.0%}", is_met=share >= SHARE)


async def _judge_whole_queues(server: Server) -> int:
    """Judge the other commands that are done to as many jobs of a queue as one of them may be."""
    commands: dict[str, c.Command] = {
        "drain": c.Drain(queue="whole"), "clean": c.Clean(queue="whole", state="waiting"), "promote-jobs": c.PromoteJobs(queue="whole"),
        "dlq/retry": c.RetryDlq(queue="whole"), "dlq/purge": c.PurgeDlq(queue="whole"), "obliterate": c.Obliterate(queue="whole"),
    }  # fmt: skip
    missed = 0
    for name, command in commands.items():
        longest = []
        for _ in range(PAIRS):
            delay = 3_600_000 if name == "promote-jobs" else 0
            jobs = [c.JobSpec(data=Raw(b'{"to":"user@test.com"}'), delay=delay) for _ in range(_FILLED)]
            await server.core.execute(c.PushBatch(queue="whole", jobs=jobs))
            if name.startswith("dlq"):
                every = c.Filter(queue=["whole"])
                await server.core.execute(c.ActOnJobs(action="discard", filter=every, limit=_FILLED), by=SERVER)
            with Steps.counted(time.thread_time) as steps:
                await trio.lowlevel.checkpoint()
                await server.core.execute(command, by=SERVER)
                await trio.lowlevel.checkpoint()
            longest.append(max(steps.found))
            await server.core.execute(c.Obliterate(queue="whole", force=True), by=SERVER)
            await server.core.execute(c.Obliterate(queue="whole", force=True), by=SERVER)
        found = statistics.median(longest)
        missed += tell(
            f"a step of {name} of {_FILLED:,} jobs", f"{found:.2f} ms", f"{STEP_MS:.0f} ms", is_met=found <= STEP_MS
        )
    return missed


async def _pushes(server: Server) -> int:
    """Return how many pushes 32 clients get done."""
    done = 0

    async def push() -> None:
        nonlocal done
        while True:
            await server.core.execute(c.Push(queue="pushed", data=Raw(b'{"to":"user@test.com"}')))
            done += 1

    with trio.move_on_after(PUSHED_S):
        async with trio.open_nursery() as nursery:
            for _ in range(32):
                nursery.start_soon(push)
    return done
