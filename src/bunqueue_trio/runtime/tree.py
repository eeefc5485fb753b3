"""The life of the server, top to bottom: what runs, what it may restart, in what order it stops.

    serve()
    └ persistence nursery        last to stop: final batch, checkpoint, close
      ├ persistence flusher      takes all that waits → one transaction → releases answers
      └ services nursery
        ├ scheduler              delays, backoffs, TTLs
        ├ stall detector         leases and processing timeouts
        ├ invariants             ends the process when a command has met a broken one
        ├ rate-limit cleaner, checkpointer, retention, shrinker, clock watch, rates, loop lag, self-audit
        └ transports nursery     first to stop, with a deadline

Leaving a nursery inside out is the shutdown plan; cancellation is the only way to stop.
"""

import gc
import math
from collections.abc import Sequence
from random import Random  # noqa: TID251 - a test hands in its own
from typing import Protocol

import structlog
import trio
from msgspec import Struct

from bunqueue_trio.config import PICTURE_MS, PULL_BATCH_BYTES, Settings
from bunqueue_trio.engine.engine import Engine, Rules
from bunqueue_trio.engine.job import NewId
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.runtime.audit import Auditor
from bunqueue_trio.runtime.clock import Clock, ClockWatch
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.runtime.hub import Hub
from bunqueue_trio.runtime.ids import Ids
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.limiter import Budget, RateLimiter
from bunqueue_trio.runtime.memory import Memory
from bunqueue_trio.runtime.meters import LoopLag
from bunqueue_trio.runtime.services import (
    Checkpointer,
    Deadlines,
    RateLimitCleaner,
    Rates,
    RetentionSweeper,
    Shrinker,
    looped,
)
from bunqueue_trio.runtime.shared import Shared
from bunqueue_trio.runtime.supervisor import Child, breaks_invariant, supervise
from bunqueue_trio.storage.store import Store

_log = structlog.get_logger()


class Transport(Protocol):
    """Serves clients until cancelled; reports its addresses when it is ready for them."""

    async def __call__(self, server: "Server", *, task_status: trio.TaskStatus[Sequence[str]]) -> None:
        """Serve."""
        ...


class Connections(Struct):
    """How many peers are connected right now."""

    tcp: int = 0
    ws: int = 0
    sse: int = 0


class Server:
    """Everything a running server consists of, for its transports and for tests to look at."""

    def __init__(
        self, settings: Settings, store: Store, clock: Clock, new_id: NewId | None = None,
        random: Random | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.store = store
        self.clock = clock
        self.started_at: int = clock.now()
        self.clock_watch: ClockWatch = ClockWatch(clock)
        # Two of the largest fit, whatever the setting says, or they would never be served.
        buffers = max(settings.buffers_max_bytes, 2 * settings.body_max_bytes)
        pull_bytes = min(PULL_BATCH_BYTES, buffers - settings.body_max_bytes)
        rules = Rules(lease=settings.lease_ms, stalls_max=settings.stalls_max, pull_bytes=pull_bytes)
        ids = Ids(store.last_event_at(), random)
        self.engine: Engine = Engine(new_id or ids, store, rules)
        self.journal: Journal = Journal(
            self.engine, store, clock, settings.pending_max, settings.pending_max_bytes, ids.stamp
        )
        self.core: Core = Core(self.engine, self.journal, clock, pollers_max=settings.pollers_max)
        self.limiter: RateLimiter = RateLimiter(settings.rate_limit_window_ms, settings.rate_limit_max_requests)
        self.buffers: Budget = Budget(buffers)
        self.rates: Rates = Rates(self.engine)
        self.shrinker: Shrinker = Shrinker(self.journal, store)
        self.hub: Hub = Hub(store)
        self.journal.on_commit += [self.hub.publish, self.core.meters.committed]
        self.memory: Memory = Memory()
        self.scrape: Shared[tuple[str, bytes, int]] = Shared(PICTURE_MS)
        """The last page for Prometheus: it is the one whose making looks at every queue."""
        self.connections: Connections = Connections()
        self.owners: set[str] = set()
        """The connections that may hold jobs."""
        self.audit: Auditor = Auditor(
            self.engine, self.journal, store, clock, self.owners, settings.audit_jobs_per_second
        )
        self.addresses: list[str] = []
        self.stop: trio.Event = trio.Event()
        """Set it to shut the server down."""
        self.ended: trio.Event = trio.Event()
        core, journal = self.core, self.journal
        self.flusher: Child = Child("persistence flusher", journal.run)
        self.services: list[Child] = [
            Child("scheduler", looped(Deadlines(core, core.scheduler))),
            Child("stall detector", looped(Deadlines(core, core.stall_detector))),
            Child(
                "rate-limit cleaner",
                looped(RateLimitCleaner(self.limiter, clock, settings.rate_limit_cleanup_ms)),
            ),
            Child("invariants", core.wait_broken),
            Child("checkpointer", looped(Checkpointer(journal, store))),
            Child("retention", looped(RetentionSweeper(journal, store, clock, settings))),
            Child("shrinker", looped(self.shrinker)),
            Child("clock watch", looped(self.clock_watch)),
            Child("rates", looped(self.rates)),
            Child("loop lag", looped(LoopLag(core.meters.loop_lag))),
        ]
        if settings.audit_jobs_per_second:
            # Whatever fails in it, the server has the work of others to do.
            self.services.append(Child("self-audit", self.audit.run, restarts_max=1000))

    @property
    def tasks(self) -> list[Child]:
        """Everything that is supervised."""
        return [self.flusher, *self.services]

    def counts(self) -> dict[str, int]:
        """Return how many jobs stand where, over all queues, finished ones as far as they are kept."""
        counts = {state.value: n for state, n in self.engine.counts.items()}
        counts |= {"completed": 0, "failed": 0}
        return counts | dict(self.store.finished_totals)

    def new_id(self) -> str:
        """Return a new id for a peer."""
        return self.engine.new_id(self.clock.now())

    @property
    def ready(self) -> bool:
        """Whether new work is welcome: the disk takes it and no stop is under way."""
        return self.journal.failing is None and not self.core.stopping


async def serve(
    server: Server,
    transports: Sequence[Transport],
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``server`` until its ``stop`` is set or this is cancelled; then flush and close the store.

    Raises:
        StartupError: the store cannot be read or an address cannot be bound.
        StoreError: the last batch could not be written within the grace period.
    """
    gc.disable()  # a large backlog is all new objects and no garbage
    try:
        server.engine.facts.load(server.store.load_facts())
        server.engine.load(server.store.load(), server.clock.now())
    except BaseException as error:  # what cannot be read is left as it is, log and all
        server.store.close()
        if isinstance(error, StoreError):  # a record that a job waits for
            raise StartupError(  # noqa: ASYNC104 - it was no Cancelled
                f"{server.settings.data_path}: is damaged: {error}"
            ) from None
        raise
    finally:
        gc.enable()
    server.core.advance()
    broken = False
    ends_at = math.inf
    try:
        async with trio.open_nursery() as persistence:
            persistence.start_soon(supervise, server.flusher)
            async with trio.open_nursery() as services:
                for child in server.services:
                    services.start_soon(supervise, child)
                async with trio.open_nursery() as serving:
                    for transport in transports:
                        server.addresses += await serving.start(transport, server)
                    task_status.started(server)
                    await server.stop.wait()
                    server.core.stop_polls()
                    server.hub.close()
                    ends_at = trio.current_time() + server.settings.shutdown_grace_ms / 1000
                    serving.cancel_scope.deadline = ends_at
                services.cancel_scope.cancel()
            persistence.cancel_scope.cancel()
    except BaseException as error:
        broken = breaks_invariant(error)
        raise
    finally:
        with trio.CancelScope(shield=True):
            try:
                if not broken:  # else memory is not to be trusted, and the next start recovers from the disk
                    await _write_the_rest(server, ends_at)
            finally:
                _close(server.store)


async def _write_the_rest(server: Server, ends_at: float) -> None:
    """Commit what still waits, in what is left of the grace period, which ends then; but at least a second.

    Raises:
        StoreError: it could not be written.
    """
    journal, now = server.journal, trio.current_time()
    with trio.CancelScope(deadline=max(now + 1, min(ends_at, now + server.settings.shutdown_grace_ms / 1000))):
        while journal.dirty:
            await journal.flush()
    if journal.dirty:
        raise StoreError(f"unanswered changes could not be written: {journal.failing}")


def _close(store: Store) -> None:
    """Empty the log, close the file."""
    try:
        store.checkpoint(restart=True)
    except StoreError as error:
        _log.warning("the log was not emptied; the next start reads it", error=str(error))
    finally:
        store.close()
