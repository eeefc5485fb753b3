"""What a server says of itself, as immutable pictures. Whoever shows it looks at these, never at engine or store.

:meth:`Server.statistics` is cheap whatever the number of jobs: everything in it is counted as it happens. The queues one
by one are a picture of their own, taken in pieces, so that tens of thousands of them do not stop the server.
"""

from collections.abc import Iterator, Mapping
from heapq import nlargest, nsmallest
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

import trio
from msgspec import Struct, field

from bunqueue_trio.config import MINUTE_MS, QUEUES_A_TURN
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.failing import Blocked as Blocked
from bunqueue_trio.engine.failing import Died as Died
from bunqueue_trio.engine.planner import Planner
from bunqueue_trio.engine.queue import Totals
from bunqueue_trio.engine.rerunning import Held as Held
from bunqueue_trio.engine.workers import Lost as Lost
from bunqueue_trio.protocol.server_replies import BackupsView, UpkeepView
from bunqueue_trio.runtime.audit import Finding
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.cluster import ClusterFigures
from bunqueue_trio.runtime.damage import Damage
from bunqueue_trio.runtime.history import Past
from bunqueue_trio.runtime.limiter import Limited
from bunqueue_trio.runtime.memory import Memory
from bunqueue_trio.runtime.meters import HistogramFigures
from bunqueue_trio.runtime.picture import Heap, QueueLook, WorkerLook
from bunqueue_trio.runtime.shared import Shared
from bunqueue_trio.storage.awaited import Leading
from bunqueue_trio.storage.store import Sampled, Space, Store

T = TypeVar("T")

DOOR_ENDS_KEPT = 20
# Schedules that need somebody, of those that are named.
FAILING_TOLD = 1000
# How long slots are left out until that is a finding: a schedule of seconds may wait for a job now and then.
BLOCKED_MS = 10 * MINUTE_MS

Page = tuple[str, bytes, int]
"""Content type, body, status."""


class Connections(Struct):
    """How many peers are connected right now."""

    tcp: int = 0
    """Those of the original's own protocol, which is not spoken here."""
    ws: int = 0
    sse: int = 0
    http: int = 0
    """All that are open at this process: each begins as one of HTTP. Doors keep others."""
    addresses: dict[str, int] = {}
    """How many come from each address."""

    def begin(self, address: str) -> None:
        """Count a connection from an address."""
        self.http += 1
        self.addresses[address] = self.addresses.get(address, 0) + 1

    def end(self, address: str) -> None:
        """Count it no more."""
        self.http -= 1
        self.addresses[address] -= 1
        if not self.addresses[address]:
            del self.addresses[address]


class DoorQueue(Struct):
    """The plain requests that one door has asked."""

    door: str
    """The number of a door on this machine; else the address of its machine."""
    requests: int = 0
    """Those that are not answered."""


class DoorEnd(NamedTuple):
    """An end of a door that nobody has asked for."""

    at: int
    door: str
    how: str
    was_open: bool = True
    """False: it could not be started."""


class Doors(Struct):
    """The processes that accept connections for this one."""

    wanted: int = 0
    """By the settings."""
    connected: int = 0
    connections: int = 0
    """Open ones that came through them, and are passed on as they are."""
    queues: list[DoorQueue] = field(default_factory=list)
    """What each has asked on other connections that is not answered."""
    hung: int = 0
    """How many were ended because they did not answer, since the start."""
    died: int = 0
    """How many have ended otherwise without being told to."""
    lately: list[DoorEnd] = field(default_factory=list)
    """The last of those, newest last."""

    @property
    def requests(self) -> int:
        """How many requests all of them have asked that are not answered."""
        return sum([queue.requests for queue in self.queues])

    def note_end(self, at: int, door: str, how: str, *, hung: bool, was_open: bool = True) -> None:
        """Note that one has ended, and was or is to be replaced."""
        self.hung += hung
        self.died += not hung
        self.lately = [*self.lately, DoorEnd(at, door, how, was_open)][-DOOR_ENDS_KEPT:]

    def by_door(self) -> dict[str, int]:
        """Return how many requests each door has asked that are not answered; it may have several streams."""
        found: dict[str, int] = {}
        for queue in self.queues:
            found[queue.door] = found.get(queue.door, 0) + queue.requests
        return found


class TaskFigures(NamedTuple):
    """A supervised task and its history."""

    name: str
    state: str
    restarts: int
    last_error: str | None


class AuditFigures(NamedTuple):
    """How far the self-audit is, and what it has found."""

    per_second: int
    """Jobs that it looks at; 0 when it is off."""
    checked: int
    passes_begun: int
    passes_done: int
    last_done_at: int | None
    last_ms: int
    faults: Mapping[str, int]
    findings: tuple[Finding, ...]


class RetentionFigures(NamedTuple):
    """How much is kept for how many ms; None: no limit."""

    completed_max: int | None
    dead_max: int | None
    age_ms: int | None
    events_max: int | None
    events_age_ms: int | None
    actions_max: int | None
    actions_age_ms: int | None


class ScheduleFigures(NamedTuple):
    """How many schedules there are, and what became of slots that were not kept, since the start."""

    known: int
    late: int
    left_out: int
    lately: tuple[tuple[str, int], ...] = ()
    """Which of them missed their time last, some, newest last, and when that was."""
    dying: int = 0
    """How many have a newest run that died."""
    died: tuple[tuple[str, Died], ...] = ()
    """Some of them, whichever died last first."""
    blocking: int = 0
    """How many have left out slots for ten minutes, since a job has not ended."""
    blocked: tuple[tuple[str, Blocked], ...] = ()
    """Some of them."""


def look_at_schedules(planner: Planner, now: int) -> ScheduleFigures:
    """Return the figures of all schedules."""
    blocked = [(name, each) for name, each in planner.failing.blocked.items() if now - each.since >= BLOCKED_MS]
    return ScheduleFigures(
        len(planner.plans), planner.late, planner.left_out, tuple(planner.lately.items()),
        len(planner.failing.died), tuple(islice(reversed(planner.failing.died.items()), FAILING_TOLD)), len(blocked), tuple(blocked[:FAILING_TOLD]),
    )  # fmt: skip


class ErrorBack(NamedTuple):
    """An error that was said to be fixed and has come back; times in epoch ms."""

    fingerprint: str
    shape: str
    queue: str
    fixed_at: int
    back_at: int
    times: int
    last_at: int | None
    """When a job died of it last; None: nobody has noted that."""


class QuietLook(NamedTuple):
    """A worker that gets no jobs, and since when."""

    name: str
    since: int


class PlaceFigures(NamedTuple):
    """Which of the servers that may lead the queue this is."""

    host: str
    process: int
    addresses: tuple[str, ...]
    """Where clients reach it."""
    since: int
    """When it began to lead; in epoch ms."""
    term: int | None = None
    """Of a queue in a database: how often somebody began to lead it, so far."""
    link: str | None = None
    """Where servers that wait reach it."""


class StorageFigures(NamedTuple):
    """What was written, what waits to be written, and how long that takes."""

    commits: int
    durable_commits: int
    pending: int
    is_failing: bool
    log_bytes: int
    space: Space
    retention: RetentionFigures
    trouble: str | None = None
    """What the disk said, while it refuses commits."""
    failing_since: int | None = None
    full_since: int | None = None
    """Since when its last room is kept for what empties the queues."""
    kind: str = "disk"
    """What the queue is on: disk or database."""
    sampled: tuple[Sampled, ...] | None = None
    """Some of the ended jobs, taken evenly; None: they were not looked at yet."""
    heaps: tuple[Heap, ...] = ()
    """What the unfinished jobs of the fullest queues take, by the minute."""
    events: int = 0
    """About the bytes of the events that are kept."""
    damage: Damage | None = None
    """What says that the file is damaged; it stays until the next start."""
    is_stopped: bool = False
    """A commit has met that damage: no change is taken before the next start."""
    upkeep: tuple[UpkeepView, ...] = ()
    """What was done to the file since the start because somebody wanted it."""
    backups: BackupsView | None = None
    """None: the queue is in no file."""


class Statistics(Struct, frozen=True, kw_only=True):
    """One server at one moment; times in epoch ms."""

    now: int
    started_at: int
    place: PlaceFigures
    is_ready: bool
    is_sure: bool = True
    """Nobody else can lead the queue yet: these figures are true."""
    jobs: Mapping[str, int]
    """By state, over all queues, finished ones as far as they are kept."""
    unfinished: int
    timers: int
    """Jobs with a deadline: a delay, a backoff, a TTL."""
    totals: Totals
    pushes_per_s: int
    pulls_per_s: int
    pulls_waiting: int
    waits: int
    """For the ends of jobs."""
    queues_paused: int
    queues_limited: int
    queues_rate_limited: int
    """Queues with a limit of active jobs."""
    schedules: ScheduleFigures
    errors_back: tuple[ErrorBack, ...]
    """Those that somebody has said to be fixed."""
    reruns_held: tuple[Held, ...] = ()
    lost: Lost | None = None
    """The last job that died since the workers that had it were not heard of again."""
    workers_quiet: tuple[QuietLook, ...] = ()
    """Workers that are there, and get no jobs; some."""
    connections: Connections
    limited: Limited = Limited()
    """Requests of clients that ask too often."""
    doors: Doors
    leading: Leading = Leading()
    """All zero with a file: nobody else can open that."""
    cluster: ClusterFigures = ClusterFigures()
    tasks: tuple[TaskFigures, ...]
    audit: AuditFigures
    storage: StorageFigures
    events_published: int
    """Since the start."""
    events_dropped: int
    histograms: Mapping[str, HistogramFigures]
    """By the names in ``Meters``."""
    clock_offset_ms: int


class QueueFigures(NamedTuple):
    """One queue; sorts by how much there is in it."""

    jobs: int
    name: str
    waiting: int
    active: int
    delayed: int
    dlq: int
    active_since: int | None = None
    """Since when the job is active that has been active longest, in epoch ms."""


class QueueStatistics(NamedTuple):
    """All queues: how many hold jobs, the fullest of them, and since when a job is ready in any."""

    queues: int
    shown: list[QueueFigures]
    oldest_ready_at: int | None
    longest: list[tuple[int, str]]
    """The queues in which a job is active for longest, each behind the moment since when."""


class Reporter(Protocol):
    """A server, as far as its pages see it."""

    @property
    def clock(self) -> Clock:
        """What time it is there."""
        ...

    @property
    def ready(self) -> bool:
        """Whether new work is welcome."""
        ...

    @property
    def is_guarded(self) -> bool:
        """Whether a token is asked for, or only this machine can ask."""
        ...

    @property
    def memory(self) -> Memory:
        """Looks at the process, and cleans up."""
        ...

    @property
    def scrape(self) -> Shared[Page]:
        """The last page for Prometheus."""
        ...

    def statistics(self) -> Statistics:
        """Return what is the case now."""
        ...

    async def queue_statistics(self) -> QueueStatistics:
        """Look at every queue, letting others run in between."""
        ...

    async def look_at_queues(self) -> tuple[QueueLook, ...]:
        """Return every queue as it was within the last second."""
        ...

    def look_at_workers(self) -> tuple[WorkerLook, ...]:
        """Return workers with several jobs, none of which has come lately."""
        ...

    def past(self) -> Past:
        """Return what happened in the last hours, minute by minute."""
        ...


async def look_at_queues(engine: Engine, store: Store, shown_max: int) -> QueueStatistics:
    """Look at every queue, letting others run in between."""
    dead: dict[str, int] = {}
    for entries in _chunks([*store.finished_counts.items()]):
        dead.update((name, n) for (name, state), n in entries if state == "failed")
        await trio.lowlevel.checkpoint()
    total, oldest = 0, None
    shown: list[QueueFigures] = []
    longest: list[tuple[int, str]] = []
    for names in _chunks([*(dict.fromkeys(engine.queues, 0) | dead)]):
        for name in names:
            figures, since = _look(engine, name, dead.get(name, 0))
            oldest = since if oldest is None or (since is not None and since < oldest) else oldest
            if figures.jobs:
                total += 1
                shown.append(figures)
            if figures.active_since is not None:
                longest.append((figures.active_since, name))
        shown, longest = nlargest(shown_max, shown), nsmallest(shown_max, longest)
        await trio.lowlevel.checkpoint()
    return QueueStatistics(total, shown, oldest, longest)


def _chunks(names: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(names), QUEUES_A_TURN):
        yield names[start : start + QUEUES_A_TURN]


def _look(engine: Engine, name: str, dead: int) -> tuple[QueueFigures, int | None]:
    """Return the figures of a queue, and since when a job is ready in it."""
    queue = engine.queues.get(name)
    # Only dead letters are left of it.
    if queue is None:
        return QueueFigures(dead, name, 0, 0, 0, dead), None
    counts = {state.value: n for state, n in queue.counts.items()}
    jobs = sum(counts.values()) + dead
    # They are in the order of their deliveries.
    since = next((job.started_at for job in queue.active), None)
    figures = QueueFigures(jobs, name, counts["waiting"], counts["active"], counts["delayed"], dead, since)
    return figures, queue.ready.ready_since()
