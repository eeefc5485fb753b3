"""What a job is: its states, the legal moves between them, and the record the engine keeps.

Theory of operation. A job is born ``waiting``, ``delayed`` or ``waiting-children`` and ends
``completed``, ``failed`` (the dead-letter queue) or ``removed``. Every move is a row of
:data:`TRANSITIONS`; ``Moves._move`` is the only writer of ``Job.state``. A finished job leaves memory
once its end is on disk. Times are epoch ms; ``order`` places a job among its equals in priority:
smaller first, negative for LIFO (so the newest of them is the smallest), positive for FIFO.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from bunqueue_trio.config import BACKOFF_MAX_MS, UNTAKEN_PAUSE_MS, UNTAKEN_RUNS
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import TrailPage


class State(StrEnum):
    """Where a job stands; the value is the name that clients see."""

    # Not born yet: never stored, never shown.
    NEW = "new"
    WAITING = "waiting"
    DELAYED = "delayed"
    WAITING_CHILDREN = "waiting-children"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    REMOVED = "removed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.WAITING, State.DELAYED, State.WAITING_CHILDREN}),
    State.WAITING: frozenset({State.DELAYED, State.ACTIVE, State.FAILED, State.REMOVED}),
    State.DELAYED: frozenset({State.WAITING, State.FAILED, State.REMOVED}),
    State.WAITING_CHILDREN: frozenset({State.WAITING, State.DELAYED, State.FAILED, State.REMOVED}),
    State.ACTIVE: frozenset({State.WAITING, State.DELAYED, State.COMPLETED, State.FAILED, State.REMOVED}),
    # A finished record only makes room: for retention, or for a new job of the same id.
    State.COMPLETED: frozenset({State.REMOVED}),
    State.FAILED: frozenset({State.REMOVED}),
    State.REMOVED: frozenset(),
}
"""The legal moves."""

UNFINISHED = (State.WAITING, State.DELAYED, State.WAITING_CHILDREN, State.ACTIVE)


class Series(Struct, frozen=True, omit_defaults=True):
    """Where a repeating job stands: this is run number ``run`` and its slot is ``due``."""

    every: int
    limit: int | None
    run: int
    due: int
    untaken: int = 0
    """How many runs before this one have expired in a row."""
    name: str | None = None


class Shape(Struct, frozen=True, omit_defaults=True):
    """How the waits of a backoff are made of its delay, where it was given as an object."""

    fixed: bool = False
    max_delay: int | None = None
    jitter: int | float | None = None


class Options(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a job was pushed with; equal options are shared between jobs.

    The defaults are the contract's. ``depends_on`` keeps the ids as pushed.
    """

    max_attempts: int = 3
    backoff: int = 1000
    ttl: int | None = None
    timeout: int | None = None
    unique_key: str | None = None
    tags: tuple[str, ...] = ()
    group_id: str | None = None
    lifo: bool = False
    remove_on_complete: bool = False
    remove_on_fail: bool = False
    depends_on: tuple[str, ...] = ()
    series: Series | None = None
    shape: Shape | None = None
    """None: the backoff is a number. Beside it, so that a version that knows of numbers only can read the rest."""
    name: str | None = None
    """By which a worker chooses the handler, within its queue."""


DEFAULT_OPTIONS = Options()


class Cancelled(Struct, frozen=True, omit_defaults=True):
    """That a job is cancelled: when, until when its worker has time to end it, why and by whom, in their own words."""

    at: int
    until: int | None = None
    reason: str | None = None
    by: str | None = None
    sender: str | None = None
    """Who has said so, by the name of a token or the address."""

    @property
    def who(self) -> str | None:
        """By whom it is, as far as anybody has said or the server knows."""
        return self.by if self.by is not None else self.sender

    def again(self, later: "Cancelled") -> "Cancelled":
        """Return what holds when it is cancelled once more: who was first has said why, and it has no more time than it had."""
        is_silent = self.reason is None and self.by is None
        said = later if is_silent else self
        ends = [until for until in (self.until, later.until) if until is not None]
        return Cancelled(self.at, min(ends) if later.until is not None else None, said.reason, said.by, said.sender)

    def words(self, said: str | None = None) -> str:
        """Return it as the error of the job, with what its worker ``said`` when it had to end."""
        text = "Cancelled" + (f" by {self.by}" if self.by else "") + (f": {self.reason}" if self.reason else "")
        return text if said is None else f"{text}\n{said}"


class Lease(Struct, omit_defaults=True, gc=False):
    """An active job's holder: the only token that counts, and until when.

    ``until`` is None while a connection (``owner``) vouches for it or a processing timeout governs
    alone; ``ttl`` is what a heartbeat renews it by; ``timeout_at`` is when the attempt fails.
    """

    token: str
    ttl: int
    until: int | None = None
    timeout_at: int | None = None
    owner: str | None = None
    held: bool = False
    """Pulled by a connection: after a restart it is given back, not counted as a stall."""
    worker: str | None = None
    """Who has it, by the id it has given itself; None: that is the connection, or not known."""
    unproven: bool = False
    """Its connection has claimed it without its token: whoever has that takes it over."""
    cancelled: Cancelled | None = None
    """The job does not wait again: whatever ends the lease ends it, at the latest the end of the grace."""


class Note(Struct, omit_defaults=True):
    """The rare facts of a job, kept apart so that a waiting job stays small."""

    error: str | None = None
    message: str | None = None
    result: bytes | None = None
    finished_at: int | None = None
    waiting_on: set[str] | None = None
    """The dependencies that are still open, while ``waiting-children``."""
    reason: str | None = None
    """Of what kind its bad end was, where its attempts and stalls do not tell."""
    logged: bool = False
    """It has a log, which goes with it."""
    fingerprint: str | None = None
    """Of the error of a job that has failed and is tried again, or of a dead letter that has left memory; see ``fingerprint.py``."""
    cancelled: Cancelled | None = None
    rerun: str | None = None
    """Which rerun has retried it."""
    progressed_at: int | None = None
    """When its worker has last said how far it is."""
    auto_retries: int = 0
    """How often its queue has retried it by itself."""
    discarded_by: str | None = None
    """Who has discarded it, as far as the server knows."""


class Job(Struct, eq=False, gc=False):
    """One job. ``seq`` is its place in the order of all pushes and its key in the store."""

    id: str
    queue: str
    data: bytes
    options: Options
    priority: int
    created_at: int
    run_at: int
    """When it became or becomes ready: the creation, the end of its delay or of its backoff."""
    seq: int
    order: int = 0
    state: State = State.NEW
    attempts: int = 0
    """Failed tries."""
    stalls: int = 0
    progress: int | float = 0
    started_at: int | None = None
    """Its last delivery; it is shown while it is active, or has ended."""
    epoch: int = 0
    """The batch that commits its push; 0 for a job loaded from the store."""
    due: int | None = None
    """When its timer fires: end of delay or TTL, or of lease or timeout while active."""
    armed: int | None = None
    """The time of its one valid entry in a deadline heap."""
    lease: Lease | None = None
    note: Note | None = None

    def noted(self) -> Note:
        """Return its note; make one if it has none."""
        if self.note is None:
            self.note = Note()
        return self.note


def has_trails(job: Job) -> bool:
    """Return whether anything may be noted of ``job`` beside its record: it has failed, stalled or written a log."""
    return job.attempts > 0 or job.stalls > 0 or (job.note is not None and job.note.logged)


def backoff_ms(base: int, attempts: int, most: int | None = None) -> int:
    """Return the wait before the next try: ``base × 2^(attempts − 1)``, at most ``most``, or else one hour or ``base``."""
    if most is None:
        most = max(base, BACKOFF_MAX_MS)
    # Beyond 2^32 ms any base is over each limit: the exponent is capped to keep the number small.
    return min(base << min(attempts - 1, 32), most)


def wait_ms(job: Job) -> int:
    """Return how long ``job``, which has just failed, waits for its next attempt.

    Its jitter is made of its id and the number of the attempt: nothing here is random, and jobs that failed together come
    back one by one.
    """
    options, shape = job.options, job.options.shape
    if shape is None:
        return backoff_ms(options.backoff, job.attempts)
    wait = backoff_ms(options.backoff, 1 if shape.fixed else job.attempts, shape.max_delay)
    if shape.jitter:
        # A checksum will not do: of two jobs that come back together it makes two that do so after each attempt.
        drawn = int.from_bytes(sha256(f"{job.id}:{job.attempts}".encode()).digest()[:4])
        wait -= int(wait * shape.jitter * drawn / 2**32)
    return wait


def next_slot(series: Series, now: int) -> int:
    """Return the first slot after the series' own that is not past at ``now``."""
    # Whole periods, rounded up.
    missed = max(0, -(-(now - series.due) // series.every))
    return series.due + series.every * max(1, missed)


def next_run(options: Options, now: int, *, expired: bool = False) -> Options | None:
    """Return the options of the run after one that ended at ``now``; None when it was the last.

    A series whose runs expire one after the other goes on by itself: it does so at most once a second.
    """
    series = options.series
    if series is None or (series.limit is not None and series.run >= series.limit):
        return None
    untaken = series.untaken + 1 if expired else 0
    pause = UNTAKEN_PAUSE_MS if untaken >= UNTAKEN_RUNS else 0
    due = next_slot(series, max(now, series.due + pause))
    following = replace(series, run=series.run + 1, due=due, untaken=untaken)
    return replace(options, unique_key=None, depends_on=(), series=following)


def expiry(job: Job) -> int | None:
    """Return when a job that was never delivered has outlived its TTL, or None.

    For a later run of a series the TTL counts
    from its slot: counted from its creation, the end of the run before, it could never be reached.
    """
    options = job.options
    if options.ttl is None or job.started_at is not None or job.attempts or job.stalls:
        return None
    if options.series is not None and options.series.run > 1:
        return options.series.due + options.ttl
    return job.created_at + options.ttl


def deadline(job: Job) -> int | None:
    """Return when something happens to ``job`` by itself, or None."""
    if job.state is State.ACTIVE:
        lease = job.lease
        assert lease is not None
        if lease.cancelled is not None:
            ends = (lease.until, lease.timeout_at, lease.cancelled.until)
            return min((end for end in ends if end is not None), default=None)
        if lease.until is None or (lease.timeout_at is not None and lease.timeout_at < lease.until):
            return lease.timeout_at
        return lease.until
    expires = None if job.options.ttl is None else expiry(job)
    if job.state is State.DELAYED and (expires is None or job.run_at < expires):
        return job.run_at
    return expires


NewId = Callable[[int], str]
"""Makes a new UUIDv7 text for the given epoch ms."""


_DEPENDENCY_BYTES = 500
"""What a dependency weighs: to look it up costs as much as this many bytes, so a page has about 2,000 of them at most, which take up to 10 ms."""


def named_bytes(options: Options) -> int:
    """Return about how many bytes the texts of ``options`` have, of which most have none."""
    if not (options.tags or options.depends_on):
        return 0
    # Half of the time of a sum of lengths: a batch may have a million tags.
    return len("".join(options.tags)) + len("".join(options.depends_on))


def weight(job: Job) -> int:
    """Return about how many bytes of payloads and texts a job carries: what a page of jobs is bounded by."""
    options, note = job.options, job.note
    size = len(job.data)
    if options is not DEFAULT_OPTIONS:
        size += sum(map(len, options.tags)) + _DEPENDENCY_BYTES * len(options.depends_on)
    if note is not None:
        size += len(note.result or b"") + len(note.error or "") + len(note.message or "")
    return size


class Records(NamedTuple):
    """Some of the finished jobs that are kept, newest end first."""

    jobs: list[Job]
    before: int | None
    """Where the next page begins; None: this was the last page."""
    places: Sequence[int] = ()
    """Of each of the jobs: where a page that ends with it goes on."""


class Trace(NamedTuple):
    """What is kept of a finished job, without what it carried."""

    id: str
    state: State
    started_at: int | None
    finished_at: int | None
    error: str | None


class Archive(Protocol):
    """The finished jobs that have left memory, as far as the retention keeps them."""

    @property
    def at_once(self) -> bool:
        """Return whether it answers on the spot, however often it is asked in one step."""
        ...

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        """Return the finished job, also one that is only remembered: completed, its record removed.

        Without its ``data`` or its ``result`` where nobody needs them, and reading them costs something: each may have megabytes.
        """
        ...

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        """Return how those of the jobs ended that :meth:`find` finds, without reading what they carry."""
        ...

    def kept_of(self, queue: str) -> tuple[int, int]:
        """Return how many completed and how many failed jobs of a queue are kept; costs the same however many."""
        ...

    def queues_after(self, name: str, limit: int) -> list[str]:
        """Return the first ``limit`` queues behind ``name``, by name, of which finished jobs are remembered."""
        ...

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        """Return up to ``limit`` of those of a queue, completed or failed ones, newest end first, or the ``oldest``.

        The first page is ``before`` None, and each tells where the next one begins. With ``fingerprint`` only dead letters that
        died of that error.
        """
        ...

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        """Return up to ``limit`` lines of a trail behind the line numbered ``place``, the newest or the oldest first.

        The first page is ``place`` None, and each tells where the next one begins.
        """
        ...

    @property
    def dead_groups(self) -> DeadGroups:
        """Return the groups of all dead letters by the error that they died of."""
        ...

    def is_grouped(self, queue: str) -> bool:
        """Return whether its groups add up to the dead letters of a queue, as they must."""
        ...

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> int | None:
        """Return when the oldest dead letter of this error died that these queues still keep; None: they keep none."""
        ...

    @property
    def last_event_id(self) -> int:
        """Return the id of the newest event."""
        ...

    def first_event_id(self) -> int:
        """Return the id of the oldest event that is kept; one above the newest when none is."""
        ...

    def events_after(self, event_id: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return kept events behind one, each with its id: about ``limit``, or fewer that are large."""
        ...

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        """Return the last ``limit`` of the jobs that :meth:`find` finds whose ids are from ``first`` on and before ``end``.

        By their ids, falling.
        """
        ...
