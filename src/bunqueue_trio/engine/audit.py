"""The self-audit: looks whether everything that the engine keeps of its jobs agrees, and with the disk.

Theory of operation. A pass first goes through all stored jobs in the order of their keys (:meth:`Pass.rows`):
each is held against its job in memory, and that job against every structure that must hold it. Then it goes
through the structures (:meth:`Pass.structures`) and holds each entry against its job. Between two calls the
engine goes on; within one nothing changes, so each comparison is exact, and so are the counts at the end
(``recount.py``). A fault is never a guess. What would take a search through a large heap is not told at
once: an entry that is missing there is noticed when it would be the first.

Nothing here changes anything, and nothing asserts: what is found is reported, and the engine goes on.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from itertools import islice
from operator import attrgetter, length_hint
from typing import Any, NamedTuple

from bunqueue_trio.config import AUDIT_DATA_BYTES, AUDIT_SLICE
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED, Job, Lease, Note, State, deadline
from bunqueue_trio.engine.line import Line
from bunqueue_trio.engine.queue import Queue
from bunqueue_trio.engine.ready import BY_PLACE, Ready
from bunqueue_trio.engine.recount import Recount
from bunqueue_trio.engine.retrying import group_of, is_retrying
from bunqueue_trio.engine.timers import Timers

# Entries of a heap that are looked through at once: 0.5 ms.
HEAP_SEARCHED = 5000

KINDS = (
    "counts", "index", "ready", "timers", "leases", "keys", "dependents",
    "disk_missing", "disk_extra", "disk_different", "disk_unreadable", "facts", "records",
)  # fmt: skip
"""What can be wrong: the counts; the index of the jobs; their place in line; deadlines; leases and who holds
them; unique keys; dependencies; a row that is not there, should not be, differs, or cannot be read; facts, such as pauses;
and how many records are kept."""


class AuditFault(NamedTuple):
    """Something that must not be."""

    kind: str
    what: str


class Stored(NamedTuple):
    """An unfinished job as it is on the disk, with the first bytes of its payload; None: cannot be read."""

    seq: int
    job: Job | None


_SAME = (
    "id", "queue", "priority", "created_at", "run_at", "seq", "order", "state", "attempts", "stalls",
    "progress", "started_at", "options",
)  # fmt: skip
_same = attrgetter(*_SAME)


class Pass:
    """One look at everything. To be closed at its end, whatever that is.

    Before :meth:`rows` is called, what the engine held when this was made must be committed.
    """

    def __init__(self, engine: Engine, connected: Container[str]) -> None:
        self._engine = engine
        self._connected = connected
        self.last_seq: int = engine._seq
        """The newest job that this pass looks at on the disk."""
        self._count = engine.queues.recount = Recount(self.last_seq)
        self._seen = array("q")
        self._missing: set[int] = set()
        self._countable = True
        self.faults: list[AuditFault] = []
        """What was found; whoever takes it clears it."""

    def close(self) -> None:
        """Let the engine count for itself again."""
        self._engine.queues.recount = None

    def note(self, kind: str, what: str) -> None:
        """Take down a fault."""
        self.faults.append(AuditFault(kind, what))

    # --- from the disk to the memory --------------------------------------------------------------

    def rows(self, rows: Iterable[Stored], upto: int, unsettled: Container[int]) -> None:
        """Check ``rows``: all that is stored after those of the call before and up to key ``upto``.

        ``unsettled`` are the keys of the jobs whose last change may not have been on the disk when it was read.
        """
        jobs: list[Job] = []
        for seq, stored in rows:
            self._seen.append(seq)
            if stored is None:
                self._countable = False
                self.note("disk_unreadable", f"row {seq} cannot be read")
                continue
            job = self._engine.jobs.find(stored.id)
            if job is None or job.seq != seq or job.state not in UNFINISHED:
                if seq not in unsettled:
                    self.note("disk_extra", f"job {stored.id} is stored (row {seq}) and is not in memory")
                continue
            different = _differences(stored, job)
            if different and seq not in unsettled:
                self.note("disk_different", f"job {job.id}: {', '.join(different)} on the disk differ")
            self._count.add(job.queue, job.state)
            jobs.append(job)
        self._count.upto = upto
        self._places(jobs)

    def _places(self, jobs: list[Job]) -> None:
        """Hold unfinished jobs against everything that must hold them."""
        lines: dict[tuple[str, int], list[Job]] = {}
        armed: dict[bool, set[tuple[int, int, Job]]] = {True: set(), False: set()}
        for job in jobs:
            queue = self._engine.queues.get(job.queue)
            if queue is None:
                self.note("index", f"job {job.id} is in queue {job.queue}, which is not there")
                continue
            self._job(job, queue)
            if job.state is State.WAITING:
                lines.setdefault((job.queue, job.priority), []).append(job)
            if job.armed is not None:
                armed[job.state is State.ACTIVE].add((job.armed, job.seq, job))
        for active, timers in ((False, self._engine.schedule), (True, self._engine.leases)):
            # What is first is valid now.
            timers.next_due()
            # While it is swept they are in two places.
            for due, _, job in () if timers._old else _missing(timers._heap, armed[active]):
                self.note("timers", f"job {job.id} is {job.state} and its deadline {due} is in no timer")
        for (name, priority), members in lines.items():
            self._standing(members, self._engine.queues[name].ready.line(priority))

    def _job(self, job: Job, queue: Queue) -> None:
        if max(job.seq, abs(job.order)) > self._engine._seq:
            self.note("index", f"job {job.id} has a key or place that will be given again")
        key = job.options.unique_key
        if key is not None and queue.keys.get(key) is not job:
            self.note("keys", f"job {job.id} does not hold its key {key!r} in queue {job.queue}")
        if self._lease(job):
            due = deadline(job)
            if job.due != due:
                self.note("timers", f"job {job.id} is {job.state} and has the deadline {job.due} instead of {due}")
            elif (due is None) != (job.armed is None) or (
                due is not None and job.armed is not None and job.armed > due
            ):
                self.note("timers", f"job {job.id} is {job.state}, due at {due} and armed for {job.armed}")
        self._dependencies(job)
        if job.state is State.ACTIVE:
            listed = job in queue.active
        elif job.state is State.WAITING:
            # See `_standing`.
            listed = True
        else:
            listed = job in queue.line(job.state)
        if not listed:
            self.note("index", f"job {job.id} is {job.state} and not in the list of its queue")
        if is_retrying(job) and ((group := self._engine.retrying.get(group_of(job))) is None or job not in group.line):
            self.note("index", f"job {job.id} has failed and is in no group of those that are tried again")

    def _lease(self, job: Job) -> bool:
        """Check who holds ``job``; return whether its deadline is known."""
        lease, active = job.lease, job.state is State.ACTIVE
        if active is not (lease is not None) or (active and job.started_at is None):
            self.note("leases", f"job {job.id} is {job.state} and has {'no' if lease is None else 'a'} lease")
            return False
        if lease is None:
            return True
        if lease.owner is None:
            if deadline(job) is None:
                self.note("leases", f"job {job.id} is active with a lease that nobody ends")
        elif job not in self._engine._owned.get(lease.owner, ()):
            self.note("leases", f"job {job.id} is not among those of its connection {lease.owner}")
        elif lease.owner not in self._connected and not self._engine.has_chores:
            self.note("leases", f"job {job.id} is held by connection {lease.owner}, which is gone")
        return True

    def _dependencies(self, job: Job) -> None:
        waiting_on = (job.note and job.note.waiting_on) or ()
        if (job.state is State.WAITING_CHILDREN) is not bool(waiting_on):
            self.note("dependents", f"job {job.id} is {job.state} and waits for {len(waiting_on)} others")
        if self._engine.has_chores:
            # Who waits for what has ended may not know it yet.
            return
        for dependency in waiting_on:
            if job not in self._engine._dependents._waiting.get(dependency, ()):
                self.note("dependents", f"job {job.id} waits for {dependency}, which does not know")
            if self._engine.standing(dependency) is None:
                self.note("dependents", f"job {job.id} waits for {dependency}, which is not unfinished")

    def _standing(self, jobs: list[Job], line: Line[Job] | None) -> None:
        """Check that ``jobs``, waiting in the same queue with the same priority, stand in its line."""
        for job in jobs:
            if job.order == 0:
                self.note("ready", f"job {job.id} is waiting and has no place")
            elif line is None or job not in line:
                self.note("ready", f"job {job.id} is waiting and stands in no line")

    # --- from the structures to the jobs ------------------------------------------------------------

    def structures(self, pending: Callable[[], int]) -> Iterator[int]:
        """Check every entry of every structure, and at the end the counts; after all rows.

        Yields how many entries were looked at since. ``pending`` tells how many changed jobs are not
        committed yet.
        """
        engine = self._engine
        for queue in list(engine.queues.values()):
            ready = queue.ready
            if ready._lower.lines and not ready._blocks:
                self.note("ready", f"the first line of queue {queue.name} is empty, and others are not")
            for priority, line in _lines(ready):
                lower = ready._lower.lines.get(priority)
                if lower is not None and not (lower and priority in ready._lower.priorities):
                    self.note("ready", f"the line of queue {queue.name}, priority {priority}, is empty or unknown")
                name = f"the line of queue {queue.name}, priority {priority},"
                yield from self._line("ready", name, line, partial(self._entry, queue, priority))
            for state in (State.DELAYED, State.WAITING_CHILDREN):
                name = f"the list of {state} jobs of queue {queue.name}"
                yield from self._line("index", name, queue.line(state), partial(self._listed, queue, state))
            yield from _chunked(list(queue.active), partial(self._active, queue))
            yield from _chunked(list(queue.keys), partial(self._key, queue))
        yield from self._timers(engine.schedule, "schedule")
        yield from self._timers(engine.leases, "leases")
        yield from _chunked(list(engine._dependents._waiting), self._dependents)
        yield from _chunked(list(engine._owned), self._owner)
        yield from _chunked(list(engine.queues.values()), self._queue)
        yield from self._groups()
        for key, group in list(engine.retrying.items()):
            yield from self._line(
                "index", f"the group {key} of those that are tried again", group.line, partial(self._tried, key)
            )
            if not engine.retrying.is_ranked(key):
                self.note("index", f"error {key} stands among those of another size")
        self._totals(pending())
        yield 1

    def _line(self, kind: str, name: str, line: Line[Job], check: Callable[[Job], None]) -> Iterator[int]:
        """Check a line part by part, each as it is then; the place of the last one of a part tells where to go on."""
        last: Any = None
        while True:
            part = list(islice(iter(line) if last is None else line.after(last), AUDIT_SLICE))
            reached = last
            for job in part:
                place = line.place(job)
                if reached is not None and place <= reached:
                    self.note(kind, f"{name} is out of order")
                else:
                    reached = place
                    check(job)
            yield 1 + len(part)
            if reached == last:
                return
            last = reached

    def _entry(self, queue: Queue, priority: int, job: Job) -> None:
        """Check a job that stands in the line of ``queue`` with ``priority``."""
        if job.state is not State.WAITING:
            self.note("ready", f"job {job.id} is {job.state} and stands in the line of queue {queue.name}")
        elif job.queue != queue.name or job.priority != priority:
            self.note("ready", f"job {job.id} stands in the line of queue {queue.name}, priority {priority}")
        self._known(job, "stands in a line")

    def _listed(self, queue: Queue, state: State, job: Job) -> None:
        if job.state is not state or job.queue != queue.name:
            self.note("index", f"job {job.id}, {job.state}, is among the {state} ones of queue {queue.name}")
        self._known(job, f"is among the {state} ones")

    def _tried(self, key: str, job: Job) -> None:
        if not is_retrying(job) or group_of(job) != key:
            self.note("index", f"job {job.id}, {job.state}, is among those of error {key} that are tried again")
        self._known(job, "is tried again")

    def _active(self, queue: Queue, job: Job) -> None:
        if job in queue.active:
            self._listed(queue, State.ACTIVE, job)

    def _key(self, queue: Queue, key: str) -> None:
        job = queue.keys.get(key)
        if job is None:
            return
        if job.options.unique_key != key or job.queue != queue.name or job.state not in UNFINISHED:
            self.note("keys", f"key {key!r} of queue {queue.name} is held by job {job.id}, {job.state}, wrongly")
        else:
            self._known(job, f"holds key {key!r}")

    def _timers(self, timers: Timers, name: str) -> Iterator[int]:
        for start in range(0, len(timers._heap), AUDIT_SLICE):
            part = timers._heap[start : start + AUDIT_SLICE]
            for when, _, job in part:
                if timers._valid(when, job):
                    self._known(job, "has a deadline")
            yield len(part)
        if timers._heap and not timers._old and len(timers._heap) <= HEAP_SEARCHED:
            # A set: an entry left behind counts again once its job is armed for the same time again.
            valid = len({entry for entry in timers._heap if timers._valid(entry[0], entry[2])})
            if valid != len(timers):
                self.note("timers", f"the {name} counts {len(timers)} deadlines and has {valid}")
            yield 1 + len(timers._heap) // 10

    def _dependents(self, dependency: str) -> None:
        waiting = self._engine._dependents._waiting.get(dependency)
        if waiting is None:
            return
        if self._engine.standing(dependency) is None:
            self.note("dependents", f"jobs wait for {dependency}, which is not unfinished: {len(waiting)}")
        for job in islice(waiting, AUDIT_SLICE):
            if dependency not in ((job.note and job.note.waiting_on) or ()):
                self.note("dependents", f"job {job.id} is noted to wait for {dependency}, and does not")
            self._known(job, f"is noted to wait for {dependency}")

    def _owner(self, owner: str) -> None:
        for job in islice(self._engine._owned.get(owner, ()), AUDIT_SLICE):
            if job.lease is None or job.lease.owner != owner:
                self.note("leases", f"job {job.id} is among those of connection {owner}, and is not its")
            self._known(job, f"is among those of connection {owner}")

    def _known(self, job: Job, what: str) -> None:
        """Check that ``job``, an entry of some structure, is a job of this engine, and is stored."""
        if job.state not in UNFINISHED or self._engine.jobs.find(job.id) is not job:
            self.note("index", f"job {job.id} {what} and is not among the unfinished jobs")
        elif job.seq <= self.last_seq and job.seq not in self._missing:
            at = bisect_left(self._seen, job.seq)
            if at == len(self._seen) or self._seen[at] != job.seq:
                self._missing.add(job.seq)
                self.note("disk_missing", f"job {job.id} is in memory and has no row ({job.seq}) on the disk")

    def _queue(self, queue: Queue) -> None:
        if self._engine.queues.get(queue.name) is not queue:
            # It was empty, and made room.
            return
        ready, standing = queue.ready, sum(len(line) for _, line in _lines(queue.ready))
        if len(ready) != standing:
            self.note("ready", f"queue {queue.name} counts {len(ready)} waiting jobs, of which {standing} are there")
        below = ready._lower.priorities.first()
        if len(ready._lower.lines) != len(ready._lower.priorities) or (below is not None and below >= ready._priority):
            self.note("ready", f"queue {queue.name} has lines of other priorities than it knows")
        if self._told:
            for state, n in queue.counts.items():
                counted = self._count.numbers[state].get(queue.name, 0)
                if n != counted:
                    self.note("counts", f"queue {queue.name} counts {n} {state} jobs and has {counted}")

    def _groups(self) -> Iterator[int]:
        archive, last = self._engine.archive, ""
        while names := archive.queues_after(last, AUDIT_SLICE):
            for name in names:
                if not archive.is_grouped(name):
                    self.note("counts", f"the groups of queue {name} are not all of its dead letters")
            last = names[-1]
            yield len(names)

    def _totals(self, pending: int) -> None:
        engine = self._engine
        finished = len(engine.jobs) - sum(engine.counts.values())
        # Those of a batch that was just committed leave in steps.
        if not 0 <= finished <= pending + length_hint(engine._leaving):
            self.note("index", f"{finished} finished jobs are kept in memory, of which {pending} are not committed")
        if self._told:
            totals = {state: sum(numbers.values()) for state, numbers in self._count.numbers.items()}
            if totals != engine.counts:
                self.note("counts", f"all queues count {_text(engine.counts)} and have {_text(totals)}")

    @property
    def _told(self) -> bool:
        """Whether every job was met on the disk, so that the counts can be compared."""
        return self._countable and not self._missing


def _lines(ready: Ready) -> list[tuple[int, Line[Job]]]:
    """Return the lines of a queue, each with its priority, also those that should not be there."""
    return [(ready._priority, Line(BY_PLACE, ready._blocks)), *ready._lower.lines.items()]


def _missing(heap: list[Any], wanted: set[Any]) -> Iterable[Any]:
    """Return those of the entries ``wanted`` that are not in ``heap``; of a large one, what should be its first."""
    if not wanted or len(heap) <= HEAP_SEARCHED:
        return wanted.difference(heap) if wanted else ()
    return [entry for entry in wanted if entry < heap[0]]


def _chunked(items: list[Any], check: Callable[[Any], None]) -> Iterator[int]:
    for start in range(0, len(items), AUDIT_SLICE):
        part = items[start : start + AUDIT_SLICE]
        for item in part:
            check(item)
        yield len(part)


def _differences(stored: Job, job: Job) -> list[str]:
    """Return the names of the fields in which a job differs between disk and memory."""
    same = _same(stored) == _same(job)
    different = [] if same else [name for name in _SAME if getattr(stored, name) != getattr(job, name)]
    if stored.data != job.data[:AUDIT_DATA_BYTES]:
        different.append("data")
    if stored.note is not job.note and (stored.note or Note()) != (job.note or Note()):
        different.append("note")
    if _holder(stored.lease) != _holder(job.lease):
        different.append("lease")
    return different


def _holder(lease: Lease | None) -> tuple[object, ...] | None:
    """Return what must be the same of a lease on the disk and in memory. Not the end of a connection's lease: a start sets it anew."""
    if lease is None:
        return None
    return lease.token, lease.ttl, lease.timeout_at, lease.held, None if lease.held else lease.until


def _text(counts: dict[State, int]) -> str:
    return ", ".join(f"{n} {state}" for state, n in counts.items())
