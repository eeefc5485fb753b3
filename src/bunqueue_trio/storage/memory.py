"""The in-memory twin of the SQLite store: same rows, same rules, no file and no thread."""

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nsmallest

from bunqueue_trio.config import PRUNE_ROWS, REPLAY_BYTES
from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.job import Job, Records, State, weight
from bunqueue_trio.storage.rows import ChangedRow, FactRow, FinishedRow, JobRow, Reader, outcome
from bunqueue_trio.storage.store import Batch, FinishedCounts, Retention, Space, StoredEvent, event_rows


class MemoryStore:
    """A store that outlives the engine but not the process; for tests and simulation."""

    inline = True

    def __init__(self) -> None:
        self._rows = Reader()
        self._jobs: dict[int, JobRow] = {}
        self._finished: dict[str, FinishedRow] = {}  # in the order of the ends
        self._ends: dict[str, int] = {}  # which end that was
        self._last_end = 0
        self._facts: dict[tuple[str, str], bytes] = {}
        self._events: list[tuple[int, int, list[bytes], int]] = []  # last id, time, bodies, stamp
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
        if batch.finished:
            added = Counter((record.queue, record.state) for record in batch.finished)
            self.finished_counts = self.finished_counts + added
            self.finished_totals.update(record.state for record in batch.finished)
        self._events += [(last_id, batch.at, bodies, batch.stamp) for last_id, bodies in event_rows(batch)]
        self.last_event_id = batch.last_event_id

    def find(self, job_id: str) -> Job | None:
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

    def records(self, queue: str, state: State, before: int | None, limit: int) -> Records:
        """Return some of the finished jobs; see :class:`Store`."""
        found: list[Job] = []
        size, last = 0, 0
        for job_id, row in reversed(self._finished.items()):
            if (row.queue, row.state) != (queue, state.value) or (before is not None and self._ends[job_id] >= before):
                continue
            if len(found) >= limit or size >= REPLAY_BYTES:
                return Records(found, last)
            found.append(self._rows.finished(row))
            size += weight(found[-1])
            last = self._ends[job_id]
        return Records(found, None)

    def stored(self, after: int, upto: int, limit: int) -> list[Stored]:
        """Return unfinished jobs as they are stored; see :class:`Store`."""
        keys = nsmallest(limit, (seq for seq in self._jobs if after < seq <= upto))
        return [self._rows.stored(self._jobs[seq].cut()) for seq in keys]

    def events_after(self, event_id: int, limit: int) -> list[StoredEvent]:
        """Return kept events; see :class:`Store`."""
        found: list[StoredEvent] = []
        size = 0
        for last_id, _, bodies, _ in self._events:
            if last_id > event_id and len(found) < limit and size < REPLAY_BYTES:
                size += sum(map(len, bodies)) + len(bodies) - 1
                first = last_id - len(bodies) + 1
                found += [StoredEvent(first + i, body) for i, body in enumerate(bodies)]
        return [event for event in found if event.id > event_id]

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
        """Delete some of what is not to be kept; see :class:`Store`."""
        doomed: dict[str, None] = {}
        for state, limit in keep.finished_max().items():
            ids = [job_id for job_id, row in self._finished.items() if row.state == state]
            doomed |= dict.fromkeys(ids[: min(max(0, len(ids) - limit), PRUNE_ROWS)])
        aged = [job_id for job_id, row in self._finished.items() if row.finished_at < keep.finished_since]
        doomed |= dict.fromkeys(aged[:PRUNE_ROWS])
        for job_id in doomed:
            self._drop(job_id)
        past = max((entry[0] for entry in self._events if entry[1] < keep.events_since), default=0)
        past = max(past, self.last_event_id - keep.events_max)
        kept = [entry for entry in self._events if entry[0] == self.last_event_id or entry[0] > past]
        pruned = len(self._events) - len(kept)
        self._events = kept
        return len(doomed) + pruned

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

    def _drop(self, job_id: str) -> None:
        row = self._finished.pop(job_id, None)
        self._ends.pop(job_id, None)
        if row is not None:
            self.finished_counts = self.finished_counts - Counter([(row.queue, row.state)])
            self.finished_totals[row.state] -= 1
