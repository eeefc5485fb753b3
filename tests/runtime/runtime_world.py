"""A whole server without transports, in virtual time, on a store that fails as a test says."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import Any

import trio
from msgspec import Raw

from bunqueue_trio.config import Settings
from bunqueue_trio.engine.engine import Engine, Rules
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.lookups import AwaitingCore, Lookups
from bunqueue_trio.runtime.schedules import Schedules
from bunqueue_trio.runtime.services import Deadlines, looped
from bunqueue_trio.runtime.supervisor import Child, supervise
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Store
from tests.storage.distant import DistantStore
from tests.storage.faulty import Fault, FaultyStore

START_MS = 1_700_000_000_000
AWAY_S = 0.01
"""How far away the store of a ``distant`` world is."""
SETTINGS = Settings()


class Ids:
    """Ids and tokens in the order they were made."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, now: int) -> str:
        return f"id-{next(self._numbers):06}"


class World:
    """Engine, journal and core on one store; its tasks run once they are started."""

    def __init__(
        self, faults: Iterable[Fault] = (), *, inner: Store | None = None, pending_max: int = 1000,
        pollers_max: int = 100, new_id: Ids | None = None, away_s: float = 0,
    ) -> None:  # fmt: skip
        inner = MemoryStore() if inner is None else inner
        self.store = DistantStore(inner, faults, away_s) if away_s else FaultyStore(inner, faults)
        self.clock = Clock(START_MS)
        lookups = Lookups(self.store) if isinstance(self.store, DistantStore) else None
        self.engine = Engine(new_id or Ids(), lookups or self.store, Rules(fenced=away_s > 0))
        self.engine.facts.load(self.store.load_facts())
        self.engine.load(self.store.load(), self.clock.now(), self.store)
        self.journal = Journal(self.engine, self.store, self.clock, pending_max=pending_max)
        self.core = (
            Core(self.engine, self.journal, self.clock, pollers_max=pollers_max)
            if lookups is None
            else AwaitingCore(self.engine, self.journal, self.clock, lookups, pollers_max=pollers_max)
        )
        self.flusher = Child("flusher", self.journal.run)
        self.published: list[tuple[str, str]] = []
        """(type, job) of every event, as it is published."""
        self.journal.on_commit.append(
            lambda batch, _: self.published.extend((e.event_type, e.job_id) for e in batch.heard)
        )

    def start(self, nursery: trio.Nursery, *, services: bool = True) -> None:
        """Run the flusher, and the scheduler and the stall detector."""
        nursery.start_soon(supervise, self.flusher)
        if services:
            for alarm in (self.core.scheduler, self.core.stall_detector):
                nursery.start_soon(looped(Deadlines(self.core, alarm)))
            if isinstance(self.core, AwaitingCore):
                nursery.start_soon(looped(Schedules(self.core, self.engine, self.core.schedules)))

    def skip(self, ms: int) -> None:
        """Let the time come, with nobody awake yet to notice."""
        self.clock._offset_ms += ms

    async def push(self, queue: str = "q", data: bytes = b"{}", **fields: Any) -> str:
        reply = await self.core.execute(c.Push(queue=queue, data=Raw(data), **fields))
        assert isinstance(reply, r.PushReply)
        return reply.id

    async def pull(self, queue: str = "q", wait_ms: int = 0, owner: str | None = None, **fields: Any) -> str | None:
        """The id of the job that a pull gives, or None."""
        job, _ = await self.pull_with_token(queue, wait_ms, owner, **fields)
        return job

    async def pull_with_token(
        self, queue: str = "q", wait_ms: int = 0, owner: str | None = None, **fields: Any
    ) -> tuple[str | None, str | None]:
        reply = await self.core.execute(c.Pull(queue=queue, timeout=wait_ms, **fields), owner)
        assert isinstance(reply, r.PullReply)
        return None if reply.job is None else reply.job.id, reply.token

    async def pull_batch(self, n: int, queue: str = "q", wait_ms: int = 0) -> list[str]:
        reply = await self.core.execute(c.PullBatch(queue=queue, count=n, timeout=wait_ms))
        assert isinstance(reply, r.PullBatchReply)
        return [job.id for job in reply.jobs]

    async def ack(self, job_id: str, token: str | None = None) -> None:
        await self.core.execute(c.Ack(id=job_id, token=token))

    async def fail(self, job_id: str) -> None:
        await self.core.execute(c.Fail(id=job_id, error="no"))

    async def execute_refused(self, command: c.Command) -> None:
        """Run a command that the disk refuses sooner or later."""
        with suppress(Refused):
            await self.core.execute(command)

    def state(self, job_id: str) -> State | None:
        """Where a job stands, in memory or on the disk."""
        return self.engine.outcome(job_id, self.engine.archived_outcomes([job_id]))

    def stored(self) -> dict[str, State]:
        """What the next start would find unfinished."""
        return {job.id: job.state for job in self.store.inner.load()}

    def now_ms(self) -> int:
        """Virtual ms since the world was made."""
        return self.clock.now() - START_MS


class Answers:
    """Runs calls in tasks, and notes what each of them gave and when, in the order of the answers."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.given: list[tuple[str, Any]] = []
        self.at_ms: dict[str, int] = {}

    async def ask(self, name: str, call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> trio.CancelScope:
        """Start ``call`` and let it get as far as it can now; return the scope that it runs in."""
        scope = trio.CancelScope()
        self.nursery.start_soon(self._run, scope, name, call, args, kwargs)
        await settled()
        return scope

    async def _run(self, scope: trio.CancelScope, name: str, call: Any, args: Any, kwargs: Any) -> None:
        with scope:
            try:
                answer = await call(*args, **kwargs)
            except Exception as error:
                answer = error
            self.given.append((name, answer))
            self.at_ms[name] = self.world.now_ms()

    def __getitem__(self, name: str) -> Any:
        return dict(self.given)[name]

    def __contains__(self, name: str) -> bool:
        return name in dict(self.given)


async def settled() -> None:
    """Let every task go on until all of them wait for something."""
    await trio.testing.wait_all_tasks_blocked()


class VirtualThread:
    """Stands for ``trio.to_thread.run_sync``: takes virtual time, and cannot be cancelled meanwhile."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.calls = 0

    async def run_sync(self, work: Callable[..., Any], *args: Any) -> Any:
        self.calls += 1
        with trio.CancelScope(shield=True):
            await trio.sleep(self.delay_s)
        return work(*args)


def store(world: World) -> DistantStore:
    """Return the store of a world whose store is a network away."""
    assert isinstance(world.store, DistantStore)
    return world.store
