"""The in-memory twin of the SQLite store: same rows, same rules, no file and no thread."""

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nlargest, nsmallest

from bunqueue_trio.config import PRUNE_ROWS, REPLAY_BYTES
from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.audit_kept import Kept
from bunqueue_trio.engine.job import Job, Records, State, Trace, weight
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import ACTIONS, BOUNDS, Line, TrailChange, TrailPage
from bunqueue_trio.storage.rows import ChangedRow, FactRow, FinishedRow, JobRow, Reader, outcome, trace
from bunqueue_trio.storage.store import (
    RS,
    Batch,
    FinishedCounts,
    Retention,
    Sampled,
    Space,
    StoredEvent,
    event_rows,
    stored_events,
)
from bunqueue_trio.storage.unseen import Unseen


class _Trail:
    """The lines of one trail by their numbers, as time and body."""

    def __init__(self) -> None:
        self.lines: dict[int, tuple[int, bytes]] = {}
        self.next = 1

    def add(self, line: Line) -> None:
        """Add ``line``, and let the oldest ones go that are too many."""
        self.lines[self.next] = line.at, line.body
        self.next += 1
        bound = BOUNDS[line.kind]
        while len(self.lines) > 1 and (len(self.lines) > bound.lines or self.size() > bound.size):
            del self.lines[min(self.lines)]

    def size(self) -> int:
        """Return the bytes of all lines."""
        return sum(len(body) for _, body in self.lines.values())


class MemoryStore(Unseen):
    """A store that outlives the engine but not the process; for tests and simulation."""

    inline = True
    at_once = True

    def __init__(self) -> None:
        self._rows = Reader()
        self._jobs: dict[int, JobRow] = {}
        # In the order of the ends.
        self._finished: dict[str, FinishedRow] = {}
        # Which end that was.
        self._ends: dict[str, int] = {}
        self._last_end = 0
        self._facts: dict[tuple[str, str], bytes] = {}
        # By key and kind.
        self._trails: dict[str, dict[str, _Trail]] = {}
        # Last id, time, bodies, stamp.
        self._events: list[tuple[int, int, list[bytes], int]] = []
        self.finished_counts: FinishedCounts = Counter()
        self.finished_totals: Counter[str] = Counter()
        self.last_event_id: int = 0

    def load(self) -> Iterable[Job]:
        """Return every unfinished job; see :class:`Store`."""
        return self._rows.unfinished(row for _, row in sorted(self._jobs.items()))

    def load_facts(self) -> Iterable[FactRow]:
        """Return every fact; see :class:`Store`."""
        return [FactRow(kind, key, value) for (kind, key), value in sorted(self._facts.items())]

    def commit(self, batch: Batch) -> None:
        """Write ``batch``; see :class:`Store`."""
        for (job_id,) in batch.reused_ids:
            self._drop(job_id)
        for row in map(JobRow._make, batch.new):
            assert row.seq not in self._jobs
            self._jobs[row.seq] = row
        for changed in map(ChangedRow._make, batch.changed):
            self._jobs[changed.seq] = self._jobs[changed.seq].changed(changed)
        for row in batch.rewritten:
            assert row.seq in self._jobs
            self._jobs[row.seq] = row
        for (seq,) in batch.ended:
            self._jobs.pop(seq, None)
        for record in batch.finished:
            assert record.id not in self._finished
            self._finished[record.id] = record
            self._last_end += 1
            self._ends[record.id] = self._last_end
        for kind, key, value in batch.facts:
            if value is None:
                self._facts.pop((kind, key), None)
            else:
                self._facts[kind, key] = value
        self._change_trails(batch.trails)
        if batch.finished:
            added = Counter((record.queue, record.state) for record in batch.finished)
            self.finished_counts = self.finished_counts + added
            self.finished_totals.update(record.state for record in batch.finished)
        self._events += [(last_id, batch.at, bodies, batch.stamp) for last_id, bodies in event_rows(batch)]
        self.last_event_id = batch.last_event_id

    async def write(self, batch: Batch, *, quick: bool) -> None:
        """Commit ``batch``; see :class:`Store`."""
        self.commit(batch)

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        """Return a finished job that is kept; see :class:`Store`."""
        row = self._finished.get(job_id)
        return None if row is None else self._rows.finished(row)

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        """Return how some jobs ended; see :class:`Store`."""
        return {job_id: outcome(self._finished[job_id].state) for job_id in job_ids if job_id in self._finished}

    def kept_of(self, queue: str) -> tuple[int, int]:
        """Return how many completed and failed jobs of a queue are kept; see :class:`Store`."""
        return self.finished_counts[queue, "completed"], self.finished_counts[queue, "failed"]

    def queues_after(self, name: str, limit: int) -> list[str]:
        """Return the next queues of which finished jobs are remembered; see :class:`Store`."""
        return nsmallest(limit, {queue for queue, _ in self.finished_counts if queue > name})

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        """Return what is kept of some finished jobs; see :class:`Store`."""
        rows = nlargest(limit, (row for job_id, row in self._finished.items() if first <= job_id < end))
        return [trace((row.id, row.state, row.started_at, row.finished_at, row.note)) for row in rows]

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        """Return some of the finished jobs; see :class:`Store`."""
        found: list[Job] = []
        places: list[int] = []
        size = 0
        rows = self._finished.items()
        for job_id, row in rows if oldest else reversed(rows):
            place = self._ends[job_id]
            if before is not None and (place <= before if oldest else place >= before):
                continue
            if (row.queue, row.state) != (queue, state.value):
                continue
            if fingerprint not in (None, row.fingerprint):
                continue
            if len(found) >= limit or size >= REPLAY_BYTES:
                return Records(found, places[-1], places)
            found.append(self._rows.finished(row._replace(result=None)))
            size += weight(found[-1])
            places.append(place)
        return Records(found, None, places)

    @property
    def dead_groups(self) -> DeadGroups:
        """The groups of all dead letters; see :class:`Store`."""
        rows = self._finished.values()
        return DeadGroups(Counter((row.queue, row.fingerprint) for row in rows if row.fingerprint is not None))

    def is_grouped(self, queue: str) -> bool:
        """Return whether its groups add up; see :class:`Store`."""
        return self.kept_of(queue)[1] == self.dead_groups.total(queue)

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> int | None:
        """Return since when there are some; see :class:`Store`."""
        first: dict[str, int] = {}
        for row in self._finished.values():
            if row.fingerprint == fingerprint and row.queue in queues:
                first.setdefault(row.queue, row.finished_at)
        return min(first.values(), default=None)

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        """Return some of the lines of a trail; see :class:`Store`."""
        trail = self._trails.get(key, {}).get(kind)
        if trail is None:
            return TrailPage([], 0, None)
        found: list[tuple[int, bytes]] = []
        size = 0
        for n in sorted(trail.lines, reverse=newest):
            if place is not None and (n >= place if newest else n <= place):
                continue
            if len(found) >= limit or size >= REPLAY_BYTES:
                return TrailPage(found, len(trail.lines), found[-1][0])
            found.append((n, trail.lines[n][1]))
            size += len(found[-1][1])
        return TrailPage(found, len(trail.lines), None)

    def stored(self, after: int, upto: int, limit: int) -> list[Stored]:
        """Return unfinished jobs as they are stored; see :class:`Store`."""
        keys = nsmallest(limit, (seq for seq in self._jobs if after < seq <= upto))
        return [self._rows.stored(self._jobs[seq].cut()) for seq in keys]

    def stored_facts(self, after: tuple[str, str], limit: int) -> list[FactRow]:
        """Return facts as they are stored; see :class:`Store`."""
        keys = nsmallest(limit, (key for key in self._facts if key > after))
        return [FactRow(kind, key, self._facts[kind, key]) for kind, key in keys]

    def stored_kept(self, queue: str) -> Kept:
        """Return how many records there are; see :class:`Store`."""
        of_it = [row for row in self._finished.values() if row.queue == queue]
        states = Counter(row.state for row in of_it)
        groups = Counter(row.fingerprint for row in of_it if row.fingerprint is not None)
        return Kept(states["completed"], states["failed"], groups)

    def events_after(self, event_id: int, limit: int) -> list[StoredEvent]:
        """Return kept events; see :class:`Store`."""
        found: list[StoredEvent] = []
        size = 0
        for last_id, _, bodies, _ in self._events:
            if last_id > event_id and len(found) < limit and size < REPLAY_BYTES:
                size += sum(map(len, bodies)) + len(bodies) - 1
                found += stored_events(last_id, len(bodies), RS.join(bodies), event_id, limit - len(found))
        return found

    def first_event_id(self) -> int:
        """Return the id of the oldest kept event; see :class:`Store`."""
        if not self._events:
            return self.last_event_id + 1
        last_id, _, bodies, _ = self._events[0]
        return last_id - len(bodies) + 1

    def last_event_at(self) -> int:
        """Return the time of the newest events; see :class:`Store`."""
        return max(self._events[-1][1], self._events[-1][3]) if self._events else 0

    def prune(self, keep: Retention) -> int:
        """Delete some rows that are not to be kept; see :class:`Store`."""
        doomed: dict[str, None] = {}
        for state, limit in keep.finished_max().items():
            ids = [job_id for job_id, row in self._finished.items() if row.state == state]
            doomed |= dict.fromkeys(ids[: min(max(0, len(ids) - limit), PRUNE_ROWS)])
        aged = [job_id for job_id, row in self._finished.items() if row.finished_at < keep.finished_since]
        doomed |= dict.fromkeys(aged[:PRUNE_ROWS])
        for queue, (most, since) in keep.dead_of.items():
            dead = [job_id for job_id, row in self._finished.items() if (row.queue, row.state) == (queue, "failed")]
            aged = [job_id for job_id in dead if self._finished[job_id].finished_at < since]
            doomed |= dict.fromkeys(aged[:PRUNE_ROWS] + dead[: min(max(0, len(dead) - most), PRUNE_ROWS)])
        for job_id in doomed:
            self._drop(job_id)
        past = max((entry[0] for entry in self._events if entry[1] < keep.events_since), default=0)
        past = max(past, self.last_event_id - keep.events_max)
        kept = [entry for entry in self._events if entry[0] == self.last_event_id or entry[0] > past]
        pruned = len(self._events) - len(kept)
        self._events = kept
        return len(doomed) + pruned + self._prune_actions(keep)

    def sample(self, points: int) -> list[Sampled]:
        """Return some of the ended jobs; see :class:`Store`."""
        rows = list(self._finished.values())
        places = dict.fromkeys(n * (len(rows) - 1) // max(1, points - 1) for n in range(points if rows else 0))
        return [
            Sampled(row.finished_at, len(row.data) + len(row.result or b""), row.queue, row.state)
            for row in (rows[i] for i in places)
        ]

    def space(self) -> Space:
        """Return nothing: there is no file."""
        return Space(0, 0, 0)

    def shrink(self, size: int) -> int:
        """Do nothing: there is no file."""
        return 0

    def log_bytes(self) -> int:
        """Return 0: there is no log."""
        return 0

    def checkpoint(self, *, restart: bool) -> None:
        """Do nothing: there is no log."""

    def close(self) -> None:
        """Keep everything, for the next engine."""

    def _change_trails(self, changes: Iterable[TrailChange]) -> None:
        for change in changes:
            if isinstance(change, Line):
                if not change.of_record or change.key in self._finished:
                    self._trails.setdefault(change.key, {}).setdefault(change.kind, _Trail()).add(change)
            elif change.kind is None:
                self._trails.pop(change.key, None)
            else:
                self._trails.get(change.key, {}).pop(change.kind, None)

    def _prune_actions(self, keep: Retention) -> int:
        trail = self._trails.get("", {}).get(ACTIONS)
        if trail is None:
            return 0
        oldest = sorted(trail.lines)[:PRUNE_ROWS]
        aged = max((n for n in oldest if trail.lines[n][0] < keep.actions_since), default=0)
        doomed = [n for n in oldest if n <= max(aged, trail.next - 1 - keep.actions_max)]
        for n in doomed:
            del trail.lines[n]
        return len(doomed)

    def _drop(self, job_id: str) -> None:
        row = self._finished.pop(job_id, None)
        self._ends.pop(job_id, None)
        if row is not None:
            self._trails.pop(job_id, None)
            self.finished_counts = self.finished_counts - Counter([(row.queue, row.state)])
            self.finished_totals[row.state] -= 1
