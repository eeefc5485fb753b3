"""The background services: each waits until it is due and takes one step; the loop is written once."""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import structlog
import trio

from bunqueue_trio.config import (
    AUTO_RETRY_MS,
    AUTO_RETRY_SLICE,
    BEATS_A_LEASE,
    CHECKPOINT_BYTES,
    CHECKPOINT_FINISH_BYTES,
    CHECKPOINT_MS,
    DISK_RESERVE_BYTES,
    GIVE_BACK_MS,
    MAINTENANCE_TOLD_MS,
    PRUNE_MS,
    ROOM_LITTLE,
    ROOM_MS,
    SAMPLE_MS,
    SAMPLE_POINTS,
    SECOND_MS,
    SHRINK_BYTES,
    SHRINK_MS,
    SHRINK_PAUSE_MS,
    SHRINK_SLACK_BYTES,
    WORKER_SWEEP_MS,
    Settings,
)
from bunqueue_trio.engine.auto_retrying import auto_slice
from bunqueue_trio.engine.configs import Configs
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.rerunning import rerun_slice
from bunqueue_trio.engine.reruns import Rerun
from bunqueue_trio.errors import Refused, StoreError, StoreGone, unread
from bunqueue_trio.runtime.alarm import Alarm
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.limiter import RateLimiter
from bunqueue_trio.runtime.picture import Heap
from bunqueue_trio.storage.awaited import AwaitedStore
from bunqueue_trio.storage.store import Retention, Sampled, Space, Store

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
        """Let the deadlines of by now take effect; an avalanche waits for the disk between its batches."""
        await self._core.journal.wait_room()
        self._core.advance()


class _Periodic:
    """Base of services that do something periodically."""

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


class WorkerSweep(_Periodic):
    """Forgets workers that were not heard of for long."""

    def __init__(self, core: Core) -> None:
        super().__init__(WORKER_SWEEP_MS)
        self._core = core

    async def step(self) -> None:
        """Forget them."""
        self._core.forget_silent_workers()


class _Disk(_Periodic):
    """Base of services that work on the store beside the flusher."""

    def __init__(self, journal: Journal, store: Store, every_ms: int) -> None:
        super().__init__(every_ms)
        self._journal = journal
        self._store = store
        self._told = ""
        self._told_at = 0.0
        self._untold = 0
        """Refusals since the last one that was logged."""

    async def step(self) -> None:
        """Do the work; a disk that refuses it now is asked again at the next period."""
        try:
            await self._work()
        except StoreError as error:
            self._tell(str(error))

    def _tell(self, error: str) -> None:
        """Log a refusal, unless the same one was logged lately: it comes back every period, and the disk may be the log's."""
        now = trio.current_time()
        self._untold += 1
        if error != self._told or now - self._told_at >= MAINTENANCE_TOLD_MS / 1000:
            _log.warning("maintenance was refused", work=type(self).__name__, error=error, times=self._untold)
            self._told, self._told_at, self._untold = error, now, 0

    async def _work(self) -> None:
        raise NotImplementedError

    async def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        return work(*args) if self._store.inline else await trio.to_thread.run_sync(work, *args)


class RerunRunner(_Disk):
    """Goes on with the reruns, a second's worth of each at a time, as long as new work is welcome."""

    def __init__(self, core: Core, engine: Engine, store: Store) -> None:
        super().__init__(core.journal, store, 0)
        self._core = core
        self._engine = engine
        self._reruns = engine.reruns

    async def wait_due(self) -> None:
        """Sleep until one of them may go on."""
        await self._core.rerunner.wait_due(self._core.clock)

    async def _work(self) -> None:
        reruns = self._reruns
        reruns.ran_at, reruns.refused = self._core.clock.now(), {}
        try:
            for one in reruns.under_way():
                await self._go_on(one)
        finally:
            stopped, reruns.stopped = reruns.stopped, []
            reruns.look()
            self._core.rerunner.set(reruns.due)
        for one in stopped:
            _log.warning("a rerun has stopped by itself", rerun=one.id, why=one.why, retried=one.retried)

    async def _go_on(self, one: Rerun) -> None:
        left = one.allowance()
        while left > 0 and not self._core.stopping:
            try:
                self._journal.check(fills=True)
                before = one.retried, one.after
                await self._core.step_knowing(self._slice, one, left)
            except StoreError as error:
                # What the others are to retry may lie elsewhere.
                self._reruns.refused[one.id] = str(unread(error))
                self._tell(str(error))
                return
            except Refused as refused:
                self._reruns.refused[one.id] = str(refused)
                return
            await trio.lowlevel.checkpoint()
            if (one.retried, one.after) == before:
                # Its queue is paused.
                return
            left = min(left - (one.retried - before[0]), one.allowance())

    def _slice(self, one: Rerun, left: int, now: int) -> None:
        # Somebody may have stopped it while the archive was asked.
        if (most := min(left, one.allowance())) > 0:
            rerun_slice(self._engine, one, most, now)


class AutoRetrier(_Disk):
    """Lets dead letters wait again whose queue retries them by itself, each at its time, as long as new work is welcome."""

    def __init__(self, core: Core, engine: Engine, store: Store) -> None:
        super().__init__(core.journal, store, 0)
        self._core = core
        self._engine = engine
        core.journal.on_told.append(self._committed)

    def _committed(self, *_: object) -> None:
        """Mind those whose records are there now."""
        if self._engine.auto_retries:
            self._core.auto_retrier.set(self._engine.auto_retries.due)

    async def wait_due(self) -> None:
        """Sleep until the time of the next one."""
        await self._core.auto_retrier.wait_due(self._core.clock)

    async def _work(self) -> None:
        """Look at the queues that are due; then rest a while for each retry."""
        core, autos, totals = self._core, self._engine.auto_retries, self._engine.totals
        spent, pause = 0, SECOND_MS
        try:
            while spent < AUTO_RETRY_SLICE and (name := autos.pop_due(core.clock.now())) is not None:
                before, is_done = totals.auto_retried, False
                try:
                    if core.stopping or not core.is_sure:
                        return
                    self._journal.check(fills=True)
                    await core.step_knowing(auto_slice, self._engine, name)
                    is_done = True
                finally:
                    if not is_done:
                        # Behind all that are due: one whose records cannot be read holds up no other.
                        autos.look_at(name, core.clock.now() + SECOND_MS)
                spent += max(1, totals.auto_retried - before)
                await trio.lowlevel.checkpoint()
            pause = spent * AUTO_RETRY_MS
        except Refused:
            # It is tried again after the pause.
            pass
        finally:
            autos.rests_until = core.clock.now() + pause
            core.auto_retrier.set(autos.due)


class Checkpointer(_Disk):
    """Moves the write-ahead log into the file, so that it stays small and a start is quick."""

    def __init__(self, journal: Journal, store: Store) -> None:
        super().__init__(journal, store, CHECKPOINT_MS)
        self._gives_back_at = 0.0

    async def _work(self) -> None:
        """Move the log into the file while commits go on; if they never pause, let them wait for the last part.

        Only a log that is moved to its end begins anew. Each step leaves what has come while it worked, about
        a tenth, so that the last one is short.
        """
        # A full disk has no room for a longer log, and none for its content either, unless that is moved before the last is used up.
        is_tight = self._journal.failing is not None or self._journal.nearly_full_since is not None
        least = 1 if is_tight else CHECKPOINT_BYTES
        if self._journal.nearly_full_since is not None and trio.current_time() >= self._gives_back_at:
            await self._give_back()
        if self._store.log_bytes() < least:
            return
        for _ in range(2):
            await self._checkpoint()
        if self._store.log_bytes() >= CHECKPOINT_FINISH_BYTES:
            async with self._journal.disk:
                await self._checkpoint()

    async def _give_back(self) -> None:
        """Cut the log's file behind its content: otherwise it keeps the size of its peak, for which a full disk has no room.

        Who reads the file from outside is in the way of it, and commits wait that long, so it is tried now and then.
        """
        self._gives_back_at = trio.current_time() + GIVE_BACK_MS / 1000
        async with self._journal.disk:
            await self._run(partial(self._store.checkpoint, restart=True))

    async def _checkpoint(self) -> None:
        await self._run(partial(self._store.checkpoint, restart=False))


class RetentionSweeper(_Disk):
    """Deletes finished jobs, events and acts that are not to be kept any longer."""

    def __init__(
        self, journal: Journal, store: Store, clock: Clock, settings: Settings, configs: Configs | None = None,
        rank_some: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        super().__init__(journal, store, PRUNE_MS)
        self._rank_some = rank_some
        self._clock = clock
        self._settings = settings
        self._configs = configs

    async def _work(self) -> None:
        """Delete in small transactions, letting commits in between, until nothing is left to delete."""
        settings, now = self._settings, self._clock.now()
        keep = Retention(
            completed_max=settings.retention_completed_max, dead_max=settings.retention_dead_max,
            finished_since=now - settings.retention_age_ms,
            events_max=settings.retention_events_max, events_since=now - settings.retention_events_age_ms,
            actions_max=settings.retention_actions_max, actions_since=now - settings.retention_actions_age_ms,
            dead_of={} if self._configs is None else self._configs.dead_kept(now),
        )  # fmt: skip
        while True:
            async with self._journal.disk:
                if not await self._run(self._store.prune, keep):
                    return
            # Of thousands of errors there may be no dead letter any more.
            while True:
                if self._rank_some():
                    break
                await trio.lowlevel.checkpoint()


class AgeSampler(_Disk):
    """Looks at some of the ended jobs, to say what a shorter retention would free."""

    def __init__(self, journal: Journal, store: Store) -> None:
        super().__init__(journal, store, SAMPLE_MS)
        self.sampled: tuple[Sampled, ...] | None = None
        """As of the last look; None: there was none yet."""
        self.heaps: tuple[Heap, ...] = ()
        """The unfinished jobs of the fullest queues, and ``events``: about the bytes of all that are kept; both by the minute."""
        self.events: int = 0

    async def wait_due(self) -> None:
        """Sleep until the next look; the first one comes soon after the start."""
        await trio.sleep(SECOND_MS / 1000 if self.sampled is None else self._every_s)

    async def _work(self) -> None:
        async with self._journal.disk:
            self.sampled = tuple(await self._run(self._store.sample, SAMPLE_POINTS))


class Shrinker(_Disk):
    """Looks at the room in the file and on its disk, and gives the file's back after a peak, in small steps."""

    def __init__(self, journal: Journal, store: Store, reserve: int = DISK_RESERVE_BYTES) -> None:
        super().__init__(journal, store, SHRINK_MS)
        self._reserve = reserve
        self.space: Space = Space(0, 0, 0)
        """As of the last look. It is made once a second whether or not anybody asks, and more often when little is left."""
        self._has_looked = False
        self._is_gone = False

    async def wait_due(self) -> None:
        """Sleep until the next look: a second may bring more than the reserve of a disk, the first one, too."""
        is_little = self.space.disk > 0 and self.space.disk_free < ROOM_LITTLE * self._reserve
        pause_s = ROOM_MS / 1000 if is_little else self._every_s
        await trio.sleep(pause_s if self._has_looked else 0)

    async def _work(self) -> None:
        """Give back all but the slack, with a pause after each step, in which commits do not compete with it."""
        self._has_looked = True
        try:
            self.space = self._store.space()
        except StoreGone as gone:
            # Whether or not anybody has something to write.
            self._is_gone = True
            self._journal.note_failure(gone)
            return
        if self._is_gone:
            self._is_gone = False
            self._journal.note_answer()
        # The content of the log is still to be moved into the file, which takes as much room again.
        left = self.space.disk_free - self._store.log_bytes()
        self._journal.note_room(nearly_full=self.space._replace(disk_free=left).is_nearly_full(self._reserve))
        given = False
        while self.space.free >= SHRINK_SLACK_BYTES + SHRINK_BYTES:
            async with self._journal.disk:
                if not await self._run(self._store.shrink, SHRINK_BYTES):
                    break
            given = True
            await trio.sleep(SHRINK_PAUSE_MS / 1000)
            self.space = self._store.space()
        # What is given back leaves the file when the log is moved to its end.
        if given:
            await self._run(partial(self._store.checkpoint, restart=False))


class LeaseKeeper:
    """Says often enough that this server is alive, where another one may take its store over."""

    def __init__(self, journal: Journal, store: AwaitedStore) -> None:
        self._journal = journal
        self._store = store

    async def wait_due(self) -> None:
        """Sleep for a part of the lease that leaves room for several tries."""
        await trio.sleep(self._store.lease_s / BEATS_A_LEASE)

    async def step(self) -> None:
        """Say it, between two commits."""
        async with self._journal.disk:
            try:
                await self._store.beat()
            except StoreError as error:
                self._journal.note_failure(error)
            else:
                self._journal.note_answer()


class Rates(_Periodic):
    """The rates of the last seconds, the same however often anybody asks."""

    # Long enough to be steady, short enough to be now.
    WINDOW_S = 5

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
