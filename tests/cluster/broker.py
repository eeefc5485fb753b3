"""One broker: a process on a machine of its own, with clocks of its own, that is started again whenever it ends.

It is put together by ``bunqueue_trio.run`` as the real one is: it waits to lead and is a door meanwhile, then it leads. It can be
killed in any instant, and paused: then none of its tasks runs, while time goes on.
"""

import contextvars
import random
import traceback
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio
from trio._core import _run

from bunqueue_trio import run
from bunqueue_trio.config import Settings
from bunqueue_trio.errors import StoreError, TakenOver
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server, clock_of
from bunqueue_trio.runtime.supervisor import leaves
from bunqueue_trio.storage.awaited import AwaitedStore
from tests.cluster.cluster_postgres import Reach

if TYPE_CHECKING:
    from tests.cluster.cluster_world import ClusterWorld

PORT = 6790

CURRENT: "contextvars.ContextVar[Broker | None]" = contextvars.ContextVar("CURRENT", default=None)
"""Whose tasks these are."""


class Clocks:
    """The clocks of one machine: they run a little too fast or too slow, and that of the wall is set now and then."""

    def __init__(self, world: "ClusterWorld", rng: random.Random) -> None:
        self._world = world
        self.rate = 1 + rng.choice((0, 0, rng.uniform(-2e-4, 2e-4)))
        self.booted_s = rng.uniform(10, 1e6)
        self.wall_skew_s = 0.0

    def boot_s(self) -> float:
        """As ``CLOCK_BOOTTIME``."""
        return self.booted_s + self._world.now() * self.rate

    def wall_s(self) -> float:
        return self._world.start_s + self._world.now() * self.rate + self.wall_skew_s


class DriftingClock(Clock):
    """The clock of a server whose seconds are not quite those of the others."""

    def __init__(self, epoch_ms: int, rate: float) -> None:
        super().__init__(epoch_ms)
        self._rate = rate
        self._anchor = self.time()
        self._at_anchor = epoch_ms

    def now(self) -> int:
        return self.epoch_ms(self.time())

    def epoch_ms(self, trio_time: float) -> int:
        return round((trio_time - self._anchor) * 1000 * self._rate + self._at_anchor)

    def trio_time(self, epoch_ms: int) -> float:
        return (epoch_ms - self._at_anchor) / 1000 / self._rate + self._anchor


class _NoDeadline:
    """Stands for :class:`bunqueue_trio.runtime.deadline.LastDeadline`: nothing ends the simulation."""

    def set(self, seconds: float, code: int) -> None:
        pass


class RunQueue(deque[Any]):
    """The tasks that can go on, in place of Trio's: those of a paused broker wait until it goes on, whatever has woken them."""

    def append(self, task: Any) -> None:
        broker = task.context.get(CURRENT)
        if broker is not None and broker.paused:
            broker.held.append(task)
        else:
            super().append(task)


class Broker:
    """A machine, and the process on it."""

    def __init__(self, world: "ClusterWorld", name: str, settings: Settings) -> None:
        self._world = world
        self.name = name
        self._settings = settings
        self._rng = world.rng(name)
        self.clocks = Clocks(world, self._rng)
        self.paused = False
        self.held: list[Any] = []
        self.lives = 0
        self.started_at = 0.0
        self.ended_at: dict[int, float] = {}
        """When each of its processes has ended."""
        self.server: Server | None = None
        self.reach: Reach | None = None
        self.disturbed_at: list[float] = []
        """When it was kept from doing what it should."""
        self._scope = trio.CancelScope()
        self._signals: trio.MemorySendChannel[int] | None = None
        self.is_stopping = False

    def say(self, what: str) -> None:
        self._world.log(self.name, what)

    @property
    def is_alive(self) -> bool:
        return self.reach is not None and not self.reach.dead

    @property
    def process(self) -> str:
        """The name by which the present one leads; see ``terms.own_name``."""
        return f"{self.name} process {self.lives}"

    @property
    def is_sure(self) -> bool:
        """Whether it leads, and would say so of anything it knows, by its own clock."""
        if self.server is None or self.server.ended.is_set() or not self.is_alive:
            return False
        token = CURRENT.set(self)
        try:
            return self.server.core.is_sure
        finally:
            CURRENT.reset(token)

    async def run(self) -> None:
        """Live again and again."""
        CURRENT.set(self)
        while True:
            await self._live()
            await trio.lowlevel.checkpoint_if_cancelled()
            await trio.sleep(1 if self._world.calm.is_set() else self._rng.choice((0, 0.5, 20)))

    async def _live(self) -> None:
        self.lives += 1
        self.started_at = self._world.now()
        reach = self.reach = Reach(self._world.postgres, self.name)
        self._scope, self.is_stopping = trio.CancelScope(), False
        self._world.net.wake(self.name)
        outcome = "stopped"
        try:
            with self._scope:
                await self._serve()
        except BaseException as error:  # noqa: ASYNC103 - judged below
            leaf = self._judge(error)
            if leaf is None:
                raise
            outcome = leaf
        self.end(outcome)
        assert reach.dead
        self.server = None

    async def _serve(self) -> None:
        last: Any = _NoDeadline()
        self._signals, signals = trio.open_memory_channel[int](10)
        self.say("starts")
        async with trio.open_nursery() as beside:
            await self._lead(signals, last, beside)
            beside.cancel_scope.cancel()

    async def _lead(self, signals: trio.MemoryReceiveChannel[int], last: Any, beside: trio.Nursery) -> None:
        """Do as ``run._live`` does, by clocks of the world."""
        waiting = run.Waiting(self._settings)
        store = await run._open(self._settings, signals, last, waiting, beside)
        if store is None:
            return
        server = Server(self._settings, store, DriftingClock(clock_of(store).now(), self.clocks.rate), random=self._rng)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run._end_when_broken, server, last)
            serving = await nursery.start(run._serving, server, partial(run.http, waiting=waiting))
            self.server = server
            self.say(f"leads, with {len(server.engine.jobs)} jobs")
            if waiting.has_begun:
                nursery.start_soon(run._serve_those_who_waited, cast("AwaitedStore", store), waiting)
            nursery.start_soon(run._stop_on_signal, signals, server, serving, last)
            await server.ended.wait()
            nursery.cancel_scope.cancel()

    def _judge(self, error: BaseException) -> str | None:
        """Return why the process has ended, if that may be; None: it is the simulation that ends."""
        its = [leaf for leaf in leaves(error) if not isinstance(leaf, trio.Cancelled)]
        if not its:
            return None
        names = ", ".join(f"{type(leaf).__name__}: {leaf}" for leaf in its)
        assert self.reach is not None
        may_be = all(isinstance(leaf, TakenOver | StoreError) for leaf in its)
        if not may_be and not self.reach.dead:
            self._world.fail(f"{self.name} ended: {names}\n" + "".join(traceback.format_exception(its[0])[-12:]))
        return names

    # --- what happens to it ---------------------------------------------------------------------

    def end(self, how: str, *, silently: bool = False) -> None:
        """The process ends in this instant: nothing that it still does is seen by anybody."""
        if self.reach is None or self.reach.dead:
            return
        self.say(f"is down: {how}")
        self.reach.dead = True
        self.ended_at[self.lives] = self._world.now()
        self.disturb()
        self._world.net.lose(self.name, silently=silently)
        self._scope.cancel()
        self.go_on()

    def stop(self) -> None:
        """SIGTERM."""
        if self._signals is not None and self.is_alive:
            self.is_stopping = True
            self.disturb()
            try:
                self._signals.send_nowait(15)
            except (trio.WouldBlock, trio.BrokenResourceError):
                pass

    def pause(self) -> None:
        """SIGSTOP."""
        queue = _run.GLOBAL_RUN_CONTEXT.runner.runq
        self.paused = True
        self.disturb()
        mine = [task for task in queue if task.context.get(CURRENT) is self]
        for task in mine:
            queue.remove(task)
        self.held += mine

    def go_on(self) -> None:
        """SIGCONT."""
        held, self.held, self.paused = self.held, [], False
        self.disturb()
        if held:
            _run.GLOBAL_RUN_CONTEXT.runner.runq.extend(held)

    def disturb(self) -> None:
        self.disturbed_at.append(self._world.now())
        self._world.disturbances += 1
