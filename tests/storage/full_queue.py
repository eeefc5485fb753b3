"""A file with everything in it that a queue can have, written by a real server; and what servers on copies of it answer."""

from pathlib import Path
from typing import Any

import msgspec
import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.rerun_replies import RerunReply
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import Store
from tests.storage.ledger import NOW, Ledger, ended, event, make_job

ACTIVE = "active"


def fill(path: Path) -> None:
    """Write the file."""
    trio.run(_fill, path)
    store = SqliteStore(path)  # and what no client of today leaves
    ledger = Ledger(store)
    odd = make_job(900, "a\0b\1c", data=b'"\\u0000\xc3\xbf"', queue="odd", state=State.DELAYED, order=0, progress=50.0)
    ledger.write([odd], events=[event(odd, "drained")] * 3, facts=[("k\0", "\1", b""), ("figures", "q", b"\0\1")])
    ledger.write([ended(make_job(901, "odder", progress=0.1)), ended(make_job(902, "Ж"), result=b"[]")])
    store.close()


async def _fill(path: Path) -> None:
    store = SqliteStore(path)
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(serve, Server(Settings(), store, Clock(NOW)), [])
        do = server.core.execute

        async def push(queue: str = "q", data: bytes = b'{"n": 1.50}', **options: Any) -> str:
            reply = await do(c.Push(queue=queue, data=c.Raw(data), **options))
            assert isinstance(reply, r.PushReply)
            return reply.id

        async def pull(queue: str = "q") -> str:
            reply = await do(c.Pull(queue=queue))
            assert isinstance(reply, r.PullReply)
            assert reply.job is not None
            return reply.job.id

        await do(c.SetDlqConfig(queue="q", auto_retry=True, auto_retry_interval=86_400_000))
        await do(c.SetDefaults(queue="q", max_attempts=2))
        for n in range(12):
            await push("fails", job_id=f"dead-{n}", max_attempts=2, backoff=0)
        for n in range(24):
            job_id = await pull("fails")
            await do(c.AddLog(id=job_id, message=f"try {n} of Ж"))
            await do(c.Fail(id=job_id, error=f"boom at {n % 3} in the {'attic' if n % 3 else 'cellar'}"))
        await do(c.RetryDlq(queue="fails", id="dead-3"))
        await push("works", job_id="parent")
        await push("works", job_id="done", tags=["a", "b"])
        await push("works", job_id="gone", remove_on_complete=True)
        await push("works", job_id="child", depends_on=["parent", "done"])
        assert await pull("works") == "parent"
        assert await pull("works") == "done"
        await do(c.Progress(id="done", progress=50, message="half"))
        await do(c.Ack(id="done", result=c.Raw(b'{"r":\n1e5}')))
        await do(c.Ack(id=await pull("works")))
        await push(job_id=ACTIVE, timeout=3_600_000)
        assert await pull() == ACTIVE
        await push(priority=5, unique_key="k", name="welcome")
        await push(lifo=True, durable=True, data=b'"' + b"x" * 100_000 + b'"')
        await push(delay=3_600_000, tags=["later"])
        await push(repeat=c.Repeat(every=60_000), ttl=3_600_000)
        await do(c.Pause(queue="q", reason="a look"))
        await do(c.SetConcurrency(queue="works", concurrency=3))
        await do(c.RateLimit(queue="works", limit=5))
        await do(c.PutSchedule(name="hourly", queue="cron", cron="0 * * * *", data=c.Raw(b"[1]")))
        await do(c.PutSchedule(name="often", queue="cron", every=1000, anchor=0))
        await do(c.RunSchedule(name="often"))
        await do(c.PauseSchedule(name="often"))
        groups = await do(c.DeadGroups())
        assert isinstance(groups, r.GroupsReply)
        rerun = await do(c.RerunDlq(filter=c.Filter(queue="fails"), count=2, rate=1, force=True))
        assert isinstance(rerun, RerunReply)
        await do(c.StopRerun(rerun=rerun.rerun.id))
        await do(c.Cancel(id=await push("works")))
        server.stop.set()


async def answers(store: Store) -> list[Any]:
    """What a server on ``store`` answers."""
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            serve, Server(Settings(audit_jobs_per_second=0), store, Clock(NOW + 60_000)), []
        )
        do = server.core.execute
        found = [await do(command) for command in _QUESTIONS]
        events, _ = await server.hub.replay(after=0, until=server.hub.last_event_id, queue=None)
        server.stop.set()
    return [msgspec.json.encode(found), *events]


_QUESTIONS: tuple[c.Command, ...] = (
    *(c.GetJob(id=job_id) for job_id in ("done", "parent", "child", ACTIVE, "dead-1", "dead-3", "a\0b\1c")),
    *(c.GetAttempts(id=f"dead-{n}") for n in range(4)),
    *(c.GetLogs(id=f"dead-{n}") for n in range(4)),
    c.Dlq(queue="fails"), c.DeadGroups(), c.ListSchedules(), c.GetScheduleRuns(name="often"), c.Actions(), c.ListReruns(),
    *(c.GetJobs(queue=queue, state=state) for queue in ("q", "works", "fails", "cron") for state in ("waiting", "completed", "failed")),
    c.GetConcurrency(queue="works"), c.GetRateLimit(queue="works"), c.GetDefaults(queue="q"), c.IsPaused(queue="q"),
)  # fmt: skip
