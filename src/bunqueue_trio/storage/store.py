"""What every store can do, and what it is given.

A batch is a snapshot: rows are made when it is taken, so the engine may go on while it is written,
and writing it again after a failure writes the same.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from msgspec import Struct

from bunqueue_trio.config import (
    DISK_RESERVE_BYTES,
    DISK_RESERVE_MIN_BYTES,
    DISK_RESERVE_PART,
    INLINE_BYTES_MAX,
    INLINE_ROWS_MAX,
    MIB,
    NO_LIMIT,
    STORE_INLINE_ROWS_MAX,
)
from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.audit_kept import Kept
from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Job, Records, State, Trace, named_bytes
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import Line, TrailChange, TrailPage
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.storage.rows import FactRow, FinishedRow, JobRow, Row

# A replay reads whole rows: one more than REPLAY_BYTES, and one event more in it.
EVENT_ROW_BYTES = MIB

FinishedCounts = Counter[tuple[str, str]]
"""(queue, state) → number of records kept."""


class Batch(Struct):
    """Everything that one transaction writes."""

    epoch: int
    at: int
    durable: bool
    jobs: Collection[Job]
    """The jobs the rows were made from, to be forgotten by the engine when they have ended."""
    new: list[Row] = []
    """As ``JobRow`` has them."""
    changed: list[Row] = []
    """As ``ChangedRow`` has them."""
    rewritten: list[JobRow] = []
    """Rows that are in the store already; any field may have changed."""
    ended: list[tuple[int]] = []
    finished: list[FinishedRow] = []
    reused_ids: list[tuple[str]] = []
    removed_ids: Collection[str] = ()
    """Ids of jobs that the engine has let go of already."""
    events: list[bytes] = []
    """As JSON, in order; the last has the id ``last_event_id``."""
    heard: Sequence[Event] = ()
    """The same events as structs, for those who pick some of them."""
    last_event_id: int = 0
    stamp: int = 0
    """The time of the newest id where that is later than ``at``."""
    facts: Sequence[Fact] = ()
    trails: Sequence[TrailChange] = ()
    """In the order in which they happened."""
    weight: int | None = None
    """What :meth:`bytes` and :meth:`data_bytes` are together, if that was counted when it was made: it is long to count in one step."""

    def rows(self) -> int:
        """Return how many rows it touches."""
        # A job with an id of its own makes room for its row as it is written; other records just go.
        new = max(len(self.new), len(self.reused_ids))
        jobs = new + len(self.changed) + len(self.rewritten) + len(self.ended) + len(self.finished)
        return jobs + len(self.facts) + len(self.trails)

    def bytes(self) -> int:
        """Return about how many bytes of payloads it writes."""
        # What is pushed is in its event too; what ends is written once more, with its result.
        return sum(map(len, self.events)) + self.rare_bytes()

    def rare_bytes(self) -> int:
        """Return those of them that are not in the events."""
        size = 0
        # Most have none of these, and a loop over nothing costs as much as all of the above.
        if self.facts:
            size += sum(len(value or b"") for _, _, value in self.facts)
        if self.rewritten:
            size += sum(len(row.data) for row in self.rewritten)
        if self.trails:
            size += sum(len(change.body) for change in self.trails if isinstance(change, Line))
        if self.finished:
            size += sum(len(row.data) + len(row.result or b"") for row in self.finished)
        return size

    def data_bytes(self) -> int:
        """Return how long what its jobs were pushed with is: a row whose length changes is written anew, payload and all."""
        return weight_of(self.jobs)

    def is_small(self) -> bool:
        """Return whether it is written in so short a time, about 1 ms, that the event loop may do so."""
        if self.durable or self.rows() > INLINE_ROWS_MAX or self.bytes() > INLINE_BYTES_MAX:
            return False
        return self.data_bytes() <= INLINE_BYTES_MAX

    def is_brief(self) -> bool:
        """Return whether its rows are made, and copied, in so short a time that the event loop may do so, whoever writes them then."""
        return self.rows() <= STORE_INLINE_ROWS_MAX and self.bytes() + self.data_bytes() <= INLINE_BYTES_MAX


def weight_of(jobs: Iterable[Job]) -> int:
    """Return how long what these jobs were pushed with is."""
    default = DEFAULT_OPTIONS
    return sum([len(job.data) if job.options is default else len(job.data) + named_bytes(job.options) for job in jobs])


def event_rows(batch: Batch) -> Iterable[tuple[int, list[bytes]]]:
    """Return the events of ``batch`` as (last id, events) for each row that keeps them.

    That is one row, unless it would come near the size that the store can hold.
    """
    events = batch.events
    if sum(map(len, events)) <= EVENT_ROW_BYTES:
        # Nearly always.
        return [(batch.last_event_id, events)] if events else []
    return _split(batch)


def _split(batch: Batch) -> Iterator[tuple[int, list[bytes]]]:
    events = batch.events
    event_id, begin, size = batch.last_event_id - len(events), 0, 0
    for i, event in enumerate(events):
        if size > EVENT_ROW_BYTES:
            yield event_id + i, events[begin:i]
            begin, size = i, 0
        size += len(event)
    yield batch.last_event_id, events[begin:]


class StoredEvent(NamedTuple):
    """One event as it was published."""

    id: int
    body: bytes


RS = b"\x1e"
"""Between the events of a row; JSON has no place for it, as it has for a line end."""


def stored_events(last_id: int, count: int, body: bytes, after: int, room: int) -> list[StoredEvent]:
    """Return the events of a row with ids above ``after``, at most ``room`` of them."""
    if count == 1:
        # It may be of many megabytes, to be looked through for nothing.
        return [StoredEvent(last_id, body)]
    first = last_id - count + 1
    begin = max(0, after + 1 - first)
    # A row may have ten thousand of them: those behind the last one that is wanted are not taken apart.
    bodies = body.split(RS, begin + room)[begin : begin + room]
    return [StoredEvent(first + begin + i, body) for i, body in enumerate(bodies)]


class Retention(NamedTuple):
    """Which finished jobs, events and acts are kept: how many of each, and none from before ``…_since``."""

    completed_max: int
    dead_max: int
    finished_since: int
    events_max: int
    events_since: int
    actions_max: int = NO_LIMIT
    actions_since: int = 0
    dead_of: Mapping[str, tuple[int, int]] = MappingProxyType({})
    """Of single queues how many dead letters are kept, and since when, where that is less."""

    def finished_max(self) -> dict[str, int]:
        """Return how many records of each state are kept; ``removed`` ones count as completed."""
        return {"completed": self.completed_max, "failed": self.dead_max, "removed": self.completed_max}


class Sampled(NamedTuple):
    """An ended job: when it ended, the bytes that it carries, of which queue it was, and how its record says that it ended."""

    finished_at: int
    size: int
    queue: str = ""
    state: str = ""


class Space(NamedTuple):
    """Bytes of the file without its log, those of them that are free, and those that its disk has left, and has."""

    file: int
    free: int
    disk_free: int
    disk: int = 0

    def is_nearly_full(self, reserve: int = DISK_RESERVE_BYTES) -> bool:
        """Return whether only commands that empty the queues get room on the disk, of which ``reserve`` is kept; free space in the file counts."""
        if reserve == DISK_RESERVE_BYTES:
            # Nobody has said that so much is to be kept of a small disk. Of one that nobody knows, 0, nothing is.
            least = min(DISK_RESERVE_MIN_BYTES, self.disk)
            reserve = min(reserve, max(least, self.disk // DISK_RESERVE_PART))
        return self.disk_free + self.free < reserve


class Store(Protocol):
    """A place that keeps jobs. One caller at a time for everything but ``find`` and the events."""

    inline: bool
    """Whether every call is short enough for the event loop: no thread may be used for it."""
    at_once: bool
    """Whether :meth:`commit` may be called; a store that is a network away knows :meth:`write` only."""
    last_event_id: int

    @property
    def finished_counts(self) -> FinishedCounts:
        """How many records are kept, as of the last commit and :meth:`prune`; never changed in place."""
        ...

    @property
    def finished_totals(self) -> Mapping[str, int]:
        """How many records are kept by state, over all queues; kept as they change, so reading costs nothing."""
        ...

    @property
    def file(self) -> Path | None:
        """The file that it is; None: it is none, which could be copied and shrunk from here."""
        ...

    @property
    def shrinks(self) -> bool:
        """Whether that file can give pages back."""
        ...

    @property
    def damage(self) -> str | None:
        """What has said first that the file is damaged; None: nothing has. Read beside everything else."""
        ...

    def parts(self) -> Sequence[str]:
        """Return the names of what :meth:`look_over` looks at.

        Raises:
            StoreError: it could not be read.
        """
        ...

    def look_over(self, part: str, is_over: Callable[[], bool]) -> bool:
        """Look whether a part is damaged; may be called beside everything else.

        Return whether it was looked at to its end. ``is_over`` is asked every few ms; what it raises ends the look, too.

        Raises:
            StoreDamaged: it is, which :attr:`damage` has then, unless that has something from before.
            StoreError: it could not be read.
        """
        ...

    def load(self) -> Iterable[Job]:
        """Return every unfinished job."""
        ...

    def load_facts(self) -> Iterable[FactRow]:
        """Return every fact; to be read before :meth:`load`."""
        ...

    def commit(self, batch: Batch) -> None:
        """Write ``batch`` in one transaction; on disk (fsync) when it is durable.

        It waits for no other process.

        Raises:
            StoreError: nothing was written; the same batch may be tried again.
            StoreBusy: another process writes to the file now; :meth:`write` waits for it.
        """
        ...

    async def write(self, batch: Batch, *, quick: bool) -> None:
        """Do what :meth:`commit` does, wherever that holds nobody up: a ``quick`` one may be done in the event loop.

        Whoever is cancelled meanwhile does not know whether it was written. The next that is written is the same batch, and
        is there once.

        Raises:
            StoreError: as :meth:`commit`.
        """
        ...

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        """Return a finished job that is kept; ``removed`` is one that is not to be shown. See :class:`Archive`."""
        ...

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        """Return how those of the jobs ended that :meth:`find` finds; payloads are not read."""
        ...

    def kept_of(self, queue: str) -> tuple[int, int]:
        """Return how many completed and how many failed jobs of a queue are kept; costs the same however many."""
        ...

    def queues_after(self, name: str, limit: int) -> list[str]:
        """Return the first ``limit`` queues behind ``name``, by name, of which finished jobs are remembered."""
        ...

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        """Return the last ``limit`` finished jobs with ids from ``first`` on and before ``end``, by their ids, falling."""
        ...

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        """Return up to ``limit`` finished jobs of a queue, completed or failed ones, newest end first, or the ``oldest``.

        The first page is ``before`` None, and each tells where the next one begins: what ends meanwhile stands before
        the first, and what is deleted is missing. A page of :data:`REPLAY_BYTES` ends early. With ``fingerprint`` only dead
        letters that died of that error. Results are not read: no list shows them.
        """
        ...

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        """Return up to ``limit`` lines of a trail behind the line numbered ``place``, the newest or the oldest first.

        The first page is ``place`` None, and each tells where the next one begins. A page of :data:`REPLAY_BYTES` ends early.
        """
        ...

    @property
    def dead_groups(self) -> DeadGroups:
        """The groups of all dead letters by their error, counted as they change."""
        ...

    def is_grouped(self, queue: str) -> bool:
        """Return whether its groups add up to the dead letters of a queue, as they must."""
        ...

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> int | None:
        """Return when the oldest dead letter of this error died that these queues still keep; None: they keep none."""
        ...

    def stored(self, after: int, upto: int, limit: int) -> list[Stored]:
        """Return the first unfinished jobs with keys above ``after`` and up to ``upto``, as they are on the disk.

        Of each payload only the first :data:`AUDIT_DATA_BYTES`. May be called beside everything else.

        Raises:
            StoreError: they could not be read.
        """
        ...

    def stored_facts(self, after: tuple[str, str], limit: int) -> list[FactRow]:
        """Return the first facts behind a kind and key, by both, as they are on the disk; may be called beside everything else.

        Raises:
            StoreError: they could not be read.
        """
        ...

    def stored_kept(self, queue: str) -> Kept:
        """Return how many records of a queue are on the disk, counted now; may be called beside everything else.

        Raises:
            StoreError: they could not be read.
        """
        ...

    def events_after(self, event_id: int, limit: int) -> list[StoredEvent]:
        """Return kept events with ids above ``event_id``: at most ``limit``, and the last row that is begun ends at :data:`REPLAY_BYTES`."""
        ...

    def first_event_id(self) -> int:
        """Return the id of the oldest kept event; one above ``last_event_id`` when none is kept."""
        ...

    def last_event_at(self) -> int:
        """Return ``at`` or ``stamp``, the later, of the newest batch that had events, however old; 0 without one."""
        ...

    def prune(self, keep: Retention) -> int:
        """Delete some rows that are not to be kept; return how many, 0 when all is done.

        Raises:
            StoreError: the disk refused it; what was deleted before stays deleted.
        """
        ...

    def sample(self, points: int) -> list[Sampled]:
        """Return up to ``points`` of the ended jobs that are kept, taken evenly from the order of their ends, oldest first.

        Raises:
            StoreError: the disk cannot be read.
        """
        ...

    def space(self) -> Space:
        """Return how large the file is and how much is free in it and beside it; quick, and beside everything else.

        Raises:
            StoreError: it could not be read.
        """
        ...

    def shrink(self, size: int) -> int:
        """Give about ``size`` free bytes of the file back to the disk; return how many, 0 when none can be.

        The disk has them when the log is next moved into the file.

        Raises:
            StoreError: the disk refused it; nothing is lost.
        """
        ...

    def log_bytes(self) -> int:
        """Return about how many bytes the log holds, moved into the file or not; 0 when it begins anew."""
        ...

    def checkpoint(self, *, restart: bool) -> None:
        """Move the log into the file, as far as no commit stands in the way.

        With ``restart`` no commit may run meanwhile, and the log is emptied.

        Raises:
            StoreError: the disk or a reader stands in the way; nothing is lost.
        """
        ...

    def copy_to(self, target: Path, on_progress: Callable[[int, int], None]) -> int:
        """Copy the file as it is now to ``target``, which gets its name when it is whole; return its bytes. May be called beside everything else.

        What ``on_progress``, which gets the steps done and all, raises ends it.

        Raises:
            StoreError: saying what stands in the way.
        """
        ...

    def close(self) -> None:
        """Release the file; nothing is written any more."""
        ...
