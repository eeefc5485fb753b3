"""The parts of a running server, put together from settings, a store and a clock; it starts none of them."""

import math
import os
import socket
from collections.abc import Mapping
from functools import cached_property, partial
from random import Random  # noqa: TID251 - a test hands in its own
from types import MappingProxyType
from typing import cast

import structlog
import trio
from msgspec.structs import replace

from bunqueue_trio import __version__
from bunqueue_trio.config import HOUR_MS, NO_LIMIT, PICTURE_MS, PULL_BATCH_BYTES, Settings
from bunqueue_trio.engine.engine import Engine, Rules
from bunqueue_trio.engine.idle import forget_idle
from bunqueue_trio.engine.job import NewId
from bunqueue_trio.engine.rerunning import held
from bunqueue_trio.engine.workers import is_there
from bunqueue_trio.logs.lines import EACH
from bunqueue_trio.runtime.audit import Auditor
from bunqueue_trio.runtime.budget import Budget
from bunqueue_trio.runtime.clock import Clock, ClockWatch
from bunqueue_trio.runtime.cluster import ClusterFigures, ClusterWatch
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.runtime.damage import DamageWatch
from bunqueue_trio.runtime.errands import Errands
from bunqueue_trio.runtime.happened import Life, LookBack
from bunqueue_trio.runtime.history import History, Minute, Minutes, Past
from bunqueue_trio.runtime.hub import Hub
from bunqueue_trio.runtime.ids import Ids, answers_at_once
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.limiter import RateLimiter
from bunqueue_trio.runtime.lookups import AwaitingCore, Lookups
from bunqueue_trio.runtime.memory import Memory
from bunqueue_trio.runtime.meters import LoopLag
from bunqueue_trio.runtime.news import News
from bunqueue_trio.runtime.picture import QUIETED_LOOKED, QueueLook, WorkerLook, look, look_at_workers, weigh
from bunqueue_trio.runtime.schedules import Schedules
from bunqueue_trio.runtime.services import (
    AgeSampler,
    AutoRetrier,
    Checkpointer,
    Deadlines,
    LeaseKeeper,
    RateLimitCleaner,
    Rates,
    RerunRunner,
    RetentionSweeper,
    Shrinker,
    WorkerSweep,
    looped,
)
from bunqueue_trio.runtime.shared import Shared
from bunqueue_trio.runtime.statistics import (
    AuditFigures,
    Connections,
    Doors,
    ErrorBack,
    Page,
    PlaceFigures,
    QueueStatistics,
    QuietLook,
    RetentionFigures,
    Statistics,
    StorageFigures,
    TaskFigures,
    look_at_queues,
    look_at_schedules,
)
from bunqueue_trio.runtime.supervisor import Child
from bunqueue_trio.runtime.upkeep import StoreKeeper
from bunqueue_trio.storage.awaited import AwaitedStore, Leading
from bunqueue_trio.storage.store import Store


def clock_of(store: Store) -> Clock:
    """Return the clock of a server: its machine's, or the shared one where other servers may go on with its jobs."""
    return Clock() if store.at_once else Clock(cast("AwaitedStore", store).epoch_ms())


def watch_of(store: Store, clock: Clock, engine: Engine) -> ClusterWatch | None:
    """Return what looks at the others that may serve the queue; None where nobody else may."""
    return None if store.at_once else ClusterWatch(cast("AwaitedStore", store), clock, lambda: len(engine.jobs))


_log = structlog.get_logger()


class Server:
    """Everything a running server consists of, for its transports and for tests to look at."""

    settings: Settings
    sources: Mapping[str, str]
    """Where each setting has come from, by its name, where that is known: a flag, a variable, a file."""

    def __init__(
        self, settings: Settings, store: Store, clock: Clock, new_id: NewId | None = None,
        random: Random | None = None, sources: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        # And the last queue of which was seen whether it is used.
        self.settings, self.sources, self._idle_after = settings, sources, ""
        self.store = store
        self.clock = clock
        self.started_at: int = clock.now()
        self.clock_watch: ClockWatch = ClockWatch(clock)
        # Two of the largest fit, whatever the setting says, or they would never be served.
        buffers = max(settings.buffers_max_bytes, 2 * settings.body_max_bytes)
        rules = Rules(
            lease=settings.lease_ms,
            stalls_max=settings.stalls_max,
            fenced=not store.at_once,
            pull_bytes=min(PULL_BATCH_BYTES, buffers - settings.body_max_bytes),
        )
        ids = Ids(store.last_event_at(), random)
        lookups = None if store.at_once else Lookups(cast("AwaitedStore", store))
        self.engine: Engine = Engine(new_id or ids, lookups or store, rules)
        self.journal: Journal = Journal(
            self.engine, store, clock, pending_max=settings.pending_max, pending_max_bytes=settings.pending_max_bytes,
            stamp=ids.stamp,
        )  # fmt: skip
        self.core: Core = (
            Core(self.engine, self.journal, clock, pollers_max=settings.pollers_max)
            if lookups is None
            else AwaitingCore(self.engine, self.journal, clock, lookups, pollers_max=settings.pollers_max)
        )
        self.limiter: RateLimiter = RateLimiter(settings.rate_limit_window_ms, settings.rate_limit_max_requests)
        self.buffers: Budget = Budget(buffers)
        self.rates: Rates = Rates(self.engine)
        self.shrinker: Shrinker = Shrinker(self.journal, store, settings.disk_reserve_bytes)
        self.sampler: AgeSampler = AgeSampler(self.journal, store)
        self.hub: Hub = Hub(store)
        self.history: History = History()
        self.memory: Memory = Memory()
        self._listen(store)
        self.scrape: Shared[Page] = Shared(PICTURE_MS)
        """The newest page for Prometheus: making it looks at every queue."""
        self.queues_seen: Shared[tuple[QueueLook, ...]] = Shared(PICTURE_MS)
        """The last look at every queue, for all who ask within a second."""
        self.connections: Connections = Connections()
        self.doors: Doors = Doors(settings.doors)
        self.owners: set[str] = set()
        """The connections that may hold jobs."""
        self.audit: Auditor = Auditor(
            self.engine, self.journal, store, clock, self.owners, settings.audit_jobs_per_second
        )
        self.addresses: list[str] = []
        self._life = Life(
            began=self.started_at, host=socket.gethostname(), process=os.getpid(), version=__version__
        )  # fmt: skip
        self.link: str | None = None
        """Where servers that wait to lead reach this one."""
        self.cluster: ClusterWatch | None = watch_of(store, clock, self.engine)
        """Looks at who else serves the queue, where others may."""
        self.stop: trio.Event = trio.Event()
        """Set it to shut the server down."""
        self.ended: trio.Event = trio.Event()
        self.serving: list[Child] = []
        """What the transports add to the supervised tasks."""
        core, journal = self.core, self.journal
        self.flusher: Child = Child("persistence flusher", journal.run)
        self.services: list[Child] = [
            Child("scheduler", looped(Deadlines(core, core.scheduler))),
            Child("stall detector", looped(Deadlines(core, core.stall_detector))),
            Child(
                "rate-limit cleaner",
                looped(RateLimitCleaner(self.limiter, clock, settings.rate_limit_cleanup_ms)),
            ),
            Child("invariants", core.broken.wait),
            Child("checkpointer", looped(Checkpointer(journal, store))),
            Child(
                "retention",
                looped(
                    RetentionSweeper(
                        journal, store, clock, settings, self.engine.configs, self.engine.retrying.rank_some
                    )
                ),
            ),
            Child("age sampler", looped(self.sampler)),
            Child("shrinker", looped(self.shrinker)),
            Child("damage watch", self.damage.run),
            Child("upkeep", self.keeper.run, restarts_max=1000),
            Child("clock watch", looped(self.clock_watch)),
            Child("rates", looped(self.rates)),
            Child("loop lag", looped(LoopLag(core.meters.loop_lag))),
            Child("history", looped(Minutes(self.note_minute, self.clock))),
            Child("reruns", looped(RerunRunner(core, self.engine, store))),
            Child("auto-retries", looped(AutoRetrier(core, self.engine, store))),
            Child("worker sweep", looped(WorkerSweep(core))),
            Child("errands", self.errands.run),
        ]
        if isinstance(core, AwaitingCore):
            self.services.append(Child("schedules", looped(Schedules(core, self.engine, core.schedules))))
        if self.cluster is not None:
            self.services += [
                Child("lease keeper", looped(LeaseKeeper(journal, cast("AwaitedStore", store)))),
                Child("cluster watch", self.cluster.run, restarts_max=1000),
            ]
        if settings.audit_jobs_per_second:
            # Whatever fails in it, the server has the work of others to do.
            self.services.append(Child("self-audit", self.audit.run, restarts_max=1000))

    def _listen(self, store: Store) -> None:
        """Let those hear of commits whom they concern."""
        # Events are published before the answers of their commit; and who has waited for a job has its answer first.
        self.journal.on_commit += [
            *([answers_at_once(self.engine)] if store.at_once else []),
            self.hub.publish, self.core.waiting.hand_over,
        ]  # fmt: skip
        self.journal.on_told += [self.core.meters.committed, self.memory.committed, self.news.committed]
        self.journal.afterwards.on_rows += [self.core.meters.count, self.history.count]

    @cached_property
    def news(self) -> News:
        """Tells pages that are open of commits."""
        return News()

    @cached_property
    def errands(self) -> Errands:
        """Acts that go on by themselves."""
        return Errands(self.clock)

    @cached_property
    def damage(self) -> DamageWatch:
        """Knows whether the store is damaged, and looks."""
        return DamageWatch(self.store, self.clock, self.settings.where)

    @cached_property
    def keeper(self) -> StoreKeeper:
        """Copies, checks and shrinks the file of the store when somebody wants that."""
        return StoreKeeper(
            self.engine.upkeep, self.journal, self.store, self.clock, self.audit, self.settings,
            lambda: self.shrinker.space, self.news.touch,
        )  # fmt: skip

    @cached_property
    def look_back(self) -> LookBack:
        """Looks up what went on in a window of time."""
        return LookBack(self.engine.figures, self.clock)

    @property
    def tasks(self) -> list[Child]:
        """Everything that is supervised."""
        return [self.flusher, *self.services, *self.serving]

    def counts(self) -> dict[str, int]:
        """Return how many jobs stand where, over all queues, finished ones as far as they are kept."""
        counts = {state.value: n for state, n in self.engine.counts.items()}
        counts |= {"completed": 0, "failed": 0}
        return counts | dict(self.store.finished_totals)

    def statistics(self) -> Statistics:
        """Return what is the case now, but for the memory, which takes longer to look at than all of it."""
        pushes, pulls = self.rates.per_second()
        audit, journal, planner = self.audit, self.journal, self.engine.planner
        return Statistics(
            now=self.clock.now(),
            started_at=self.started_at,
            place=PlaceFigures(
                self._life.host, self._life.process, tuple(map(str, self.addresses)), self.started_at,
                getattr(self.store, "term", None), self.link,
            ),
            is_ready=self.ready,
            is_sure=self.core.is_sure,
            jobs=self.counts(),
            unfinished=len(self.engine.jobs),
            timers=len(self.engine.schedule),
            totals=replace(self.engine.totals),
            pushes_per_s=pushes,
            pulls_per_s=pulls,
            pulls_waiting=self.core.pulls_waiting,
            waits=self.core.ends.waiting,
            queues_paused=self.engine.gates.paused,
            queues_limited=self.engine.gates.limited,
            queues_rate_limited=self.engine.gates.rate_limited,
            schedules=look_at_schedules(planner, self.clock.now()),
            errors_back=tuple(
                ErrorBack(key, mark.shape, mark.queue, mark.at, mark.back_at or 0, mark.times, mark.last_at)
                for key, mark in self.engine.marks.back()
            ),
            reruns_held=tuple(held(self.engine, self.clock.now())),
            lost=self.engine.workers.lost,
            workers_quiet=tuple(
                QuietLook(each.name, each.quiet_since or 0)
                for each in self.engine.workers.quieted()[:QUIETED_LOOKED] if is_there(each, self.clock.now())
            ),
            connections=replace(self.connections),
            limited=self.limiter.limited,
            doors=replace(self.doors),
            leading=Leading() if self.store.at_once else cast("AwaitedStore", self.store).leading(),
            cluster=ClusterFigures() if self.cluster is None else self.cluster.figures,
            tasks=tuple(TaskFigures(task.name, task.state, task.restarts, task.last_error) for task in self.tasks),
            audit=AuditFigures(
                audit.per_second, audit.checked, audit.begun, audit.done, audit.last_done_at, audit.last_ms,
                dict(audit.faults), tuple(audit.findings.values()),
            ),
            storage=StorageFigures(
                journal.commits, journal.durable_commits, journal.pending, journal.failing is not None,
                self.store.log_bytes(), self.shrinker.space, self._retention(), journal.failing, journal.failing_since,
                journal.nearly_full_since, self.settings.store_kind, self.sampler.sampled,
                self.sampler.heaps, self.sampler.events, self.damage.look(), journal.is_damaged,
                self.keeper.works(), self.keeper.backups(),
            ),
            events_published=self.hub.last_event_id - self.hub.began_at,
            events_dropped=self.hub.dropped,
            histograms=self.core.meters.figures(),
            clock_offset_ms=self.clock_watch.offset_ms,
        )  # fmt: skip

    def _retention(self) -> RetentionFigures:
        settings = self.settings
        limits = (
            settings.retention_completed_max, settings.retention_dead_max, settings.retention_age_ms,
            settings.retention_events_max, settings.retention_events_age_ms, settings.retention_actions_max, settings.retention_actions_age_ms,
        )  # fmt: skip
        return RetentionFigures(*(None if limit >= NO_LIMIT else limit for limit in limits))

    async def queue_statistics(self) -> QueueStatistics:
        """Look at every queue, letting others run in between."""
        return await look_at_queues(self.engine, self.store, self.settings.metrics_queues_max)

    async def look_at_queues(self) -> tuple[QueueLook, ...]:
        """Return every queue as it was within the last second."""
        return await self.queues_seen.get(partial(look, self.engine, self.store))

    def look_at_workers(self) -> tuple[WorkerLook, ...]:
        """Return workers with several jobs, none of which has come lately."""
        return look_at_workers(self.engine, self.clock.now())

    async def note_minute(self) -> None:
        """Note what is the case at the end of a minute."""
        queues = await self.look_at_queues()
        # 180 bytes for each; they would stay until the next minute.
        self.queues_seen.forget()
        self.sampler.heaps = await weigh(self.engine, queues)
        told, figures = self.statistics(), self.engine.figures
        # A few ms late it would be a part of the next minute, too.
        at = figures.end_of_minute(told.now)
        totals, storage, histograms = told.totals, told.storage, told.histograms
        minute = Minute(
            at, totals.pushed, totals.completed, totals.failed, totals.stalled, totals.lost_to_stalls,
            told.jobs["waiting"], told.jobs["active"], told.jobs["failed"], storage.pending, storage.is_failing,
            storage.log_bytes, storage.space.file, storage.space.disk_free, told.events_dropped,
            sum(told.audit.faults.values()), sum(task.restarts for task in told.tasks),
            histograms["commit"].counts, histograms["loop_lag"].counts, told.schedules.late,
        )  # fmt: skip
        self.sampler.events = await self.hub.weigh()
        died, failed = figures.take_bad()
        whole = self.history.whole(failed)
        minutes = await self.history.note(minute, queues, died, failed)

        def keep(now: int) -> None:
            age = float(self.settings.retention_age_ms)
            if now - self.started_at < min(age, HOUR_MS):
                # The clock may be wrong, as that of a machine that has not asked for the time yet: nothing is old.
                age = math.inf
            self._idle_after, gone = forget_idle(self.engine, self._idle_after, now, age)
            for name in gone:
                _log.info("the settings of a queue that nobody uses are forgotten", queue=name, **{EACH: True})
            figures.note(at, minutes)
            figures.course.note(at, whole)
            # With the first figures: a server in which nothing happens writes nothing.
            if minutes:
                figures.lives.note(self._life)

        self.core.step(keep)

    def note_end(self) -> None:
        """Note that this server stops, in order; nothing if nobody would miss it, or the disk refuses changes."""
        lives = self.engine.figures.lives
        if self._life in lives.all() and self.journal.failing is None and self.core.is_sure:
            self.core.step(lambda now: lives.note(replace(self._life, ended=now)))

    @property
    def workers_known(self) -> int:
        """How many workers there are."""
        return len(self.engine.workers)

    def lives(self) -> list[Life]:
        """Return the servers of these queues, oldest first: this one is the last."""
        before = [life for life in self.engine.figures.lives.all() if life.began != self._life.began]
        return [*before, self._life]

    def past(self) -> Past:
        """Return what happened in the last hours, minute by minute."""
        self.history.errors.note_tried(self.engine.retrying, self.clock.now())
        return self.history.past(self.engine.figures.died, self.engine.figures.failed, self.engine.marks)

    def new_id(self) -> str:
        """Return a new id for a peer."""
        return self.engine.new_id(self.clock.now())

    @property
    def is_guarded(self) -> bool:
        """Whether a token is asked for, or only this machine can ask."""
        return bool(self.settings.auth_tokens) or all(bind.is_local for bind in self.settings.binds)

    @property
    def ready(self) -> bool:
        """Whether new work is welcome: the disk takes it and no stop is under way."""
        return self.journal.failing is None and not self.core.stopping and self.core.is_sure
