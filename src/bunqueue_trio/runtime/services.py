"""The background services: each waits until it is due and takes one step; the loop is written once."""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import structlog
import trio

from bunqueue_trio.config import (
    CHECKPOINT_BYTES,
    CHECKPOINT_FINISH_BYTES,
    CHECKPOINT_MS,
    CLOCK_LOOK_S,
    CLOCK_OFF_MS,
    PRUNE_MS,
    Settings,
)
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.errors import StoreError
from bunqueue_trio.runtime.alarm import Alarm
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.limiter import RateLimiter
from bunqueue_trio.storage.store import Retention, Store

_log = structlog.get_logger()


class Service(Protocol):
    """Something that is done again and again; both parts are checkpoints or quick."""

    async def wait_due(self) -> None:
        """Wait until there is something to do."""
        ...

    async def step(self) -> None:
        """Do it once."""
        ...


def looped(service: Service) -> Callable[[], Awaitable[None]]:
    """Return the endless task of ``service``."""

    async def run() -> None:
        while True:
            await service.wait_due()
            await service.step()

    return run


class Deadlines:
    """The scheduler and the stall detector: let what is due in the engine happen on time."""

    def __init__(self, core: Core, alarm: Alarm) -> None:
        self._core = core
        self._alarm = alarm

    async def wait_due(self) -> None:
        """Sleep until the next deadline."""
        await self._alarm.wait_due(self._core.clock)

    async def step(self) -> None:
        """Let the deadlines of by now take effect."""
        self._core.advance()


class _Periodic:
    """Base of what happens every so often."""

    def __init__(self, every_ms: int) -> None:
        self._every_s = every_ms / 1000

    async def wait_due(self) -> None:
        """Sleep one period."""
        await trio.sleep(self._every_s)


class RateLimitCleaner(_Periodic):
    """Forgets the windows of clients that are idle."""

    def __init__(self, limiter: RateLimiter, clock: Clock, every_ms: int) -> None:
        super().__init__(every_ms)
        self._limiter = limiter
        self._clock = clock

    async def step(self) -> None:
        """Forget them."""
        self._limiter.clean(self._clock.now())


class _Disk(_Periodic):
    """Base of what works on the store beside the flusher."""

    def __init__(self, journal: Journal, store: Store, every_ms: int) -> None:
        super().__init__(every_ms)
        self._journal = journal
        self._store = store

    async def step(self) -> None:
        """Do the work; a disk that refuses it now is asked again at the next period."""
        try:
            await self._work()
        except StoreError as error:
            _log.warning("the disk refused maintenance", work=type(self).__name__, error=str(error))

    async def _work(self) -> None:
        raise NotImplementedError

    async def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        return work(*args) if self._store.inline else await trio.to_thread.run_sync(work, *args)


class Checkpointer(_Disk):
    """Moves the write-ahead log into the file, so that it stays small and a start is quick."""

    def __init__(self, journal: Journal, store: Store) -> None:
        super().__init__(journal, store, CHECKPOINT_MS)

    async def _work(self) -> None:
        """Move what is in the log beside the commits; if they never pause, the last of it with them waiting.

        Only a log that is moved to its end begins anew. Each step leaves what has come while it worked, about
        a tenth, so that the last one is short.
        """
        if self._store.log_bytes() < CHECKPOINT_BYTES:
            return
        for _ in range(2):
            await self._checkpoint()
        if self._store.log_bytes() >= CHECKPOINT_FINISH_BYTES:
            async with self._journal.disk:
                await self._checkpoint()

    async def _checkpoint(self) -> None:
        await self._run(partial(self._store.checkpoint, restart=False))


class RetentionSweeper(_Disk):
    """Deletes finished jobs and events that are not to be kept any longer."""

    def __init__(self, journal: Journal, store: Store, clock: Clock, settings: Settings) -> None:
        super().__init__(journal, store, PRUNE_MS)
        self._clock = clock
        self._settings = settings

    async def _work(self) -> None:
        """Delete in small transactions, letting commits in between, until nothing is left to delete."""
        settings, now = self._settings, self._clock.now()
        keep = Retention(
            settings.retention_completed_max, settings.retention_dead_max, now - settings.retention_age_ms,
            settings.retention_events_max, now - settings.retention_events_age_ms,
        )  # fmt: skip
        while True:
            async with self._journal.disk:
                if not await self._run(self._store.prune, keep):
                    return


class ClockWatch(_Periodic):
    """Says when the clock of the machine is not what it was at the start: times and delays are wrong until a restart."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(CLOCK_LOOK_S * 1000)
        self._clock = clock
        self._told_ms = 0

    async def step(self) -> None:
        """Look at it; a difference is told when it is new."""
        offset_ms = self._clock.offset_ms()
        if abs(offset_ms - self._told_ms) > CLOCK_OFF_MS:
            self._told_ms = offset_ms
            _log.warning(
                "the clock of the machine was set, or the machine has slept: restart to follow it", offset_ms=offset_ms
            )


class Rates(_Periodic):
    """How much happened per second lately, whoever asks and however often."""

    WINDOW_S = 5  # long enough to be steady, short enough to be now

    def __init__(self, engine: Engine) -> None:
        super().__init__(1000)
        self._engine = engine
        start = (trio.current_time(), 0, 0)
        self._samples: deque[tuple[float, int, int]] = deque([start], maxlen=self.WINDOW_S + 1)

    async def step(self) -> None:
        """Take a sample of the totals."""
        totals = self._engine.totals
        self._samples.append((trio.current_time(), totals.pushed, totals.pulled))

    def per_second(self) -> tuple[int, int]:
        """Return pushes and pulls per second over the last few seconds."""
        since, pushed, pulled = self._samples[0]
        totals = self._engine.totals
        seconds = max(1.0, trio.current_time() - since)
        return round((totals.pushed - pushed) / seconds), round((totals.pulled - pulled) / seconds)
