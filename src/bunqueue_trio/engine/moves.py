"""All jobs in memory, how each comes, queues and ends, and the only code that writes a job's state.

What its holder and its deadline do to a job is in ``holding.py``, what an operator changes of it in ``edits.py``.

A move does all of its work in one step, but for what the end of a job means for many others, or the end of a
connection for its many jobs: see ``chores.py``.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sized
from functools import partial
from operator import attrgetter
from typing import Any

from msgspec import Raw

from bunqueue_trio.config import QUEUES_IDLE_MAX
from bunqueue_trio.engine.auto_retries import AutoRetries
from bunqueue_trio.engine.configs import Configs
from bunqueue_trio.engine.dependents import Dependents
from bunqueue_trio.engine.ends import End, end_of
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.figures import Figures
from bunqueue_trio.engine.gates import Gates
from bunqueue_trio.engine.job import (
    TRANSITIONS,
    UNFINISHED,
    Archive,
    Cancelled,
    Job,
    NewId,
    Options,
    State,
    deadline,
    has_trails,
    next_run,
)
from bunqueue_trio.engine.jobs import Jobs
from bunqueue_trio.engine.line import Line
from bunqueue_trio.engine.marks import Marks
from bunqueue_trio.engine.planner import Planner
from bunqueue_trio.engine.queue import DEFAULT_RULES, Queue, Queues, Rules, Totals
from bunqueue_trio.engine.reruns import Reruns
from bunqueue_trio.engine.retrying import Retrying
from bunqueue_trio.engine.telling import Telling
from bunqueue_trio.engine.timers import Timers
from bunqueue_trio.engine.trails import Trails
from bunqueue_trio.engine.upkeep import Upkeep
from bunqueue_trio.engine.workers import Owned, Workers

WAITING, DELAYED, WAITING_CHILDREN, ACTIVE = UNFINISHED
COMPLETED, FAILED, REMOVED = State.COMPLETED, State.FAILED, State.REMOVED

CANCELLED = "cancelled"
"""The reason, as clients see it, of a dead letter that was cancelled."""


class Moves(Telling):
    """All jobs, and everything that can happen to one whoever holds it."""

    # More than 30 attributes in the dictionary of an instance are slow to reach, all of them: 0.7 µs a push.
    __slots__ = (
        "_dependents",
        "_leaving",
        "_owned",
        "_removed",
        "_reused_ids",
        "_reused_in_flight",
        "_seq",
        "acted",
        "added_bytes",
        "archive",
        "auto_retries",
        "awaited",
        "by",
        "changed",
        "configs",
        "counts",
        "delivered_bytes",
        "ends",
        "epoch",
        "facts",
        "figures",
        "gates",
        "groups",
        "jobs",
        "leases",
        "marks",
        "new_id",
        "planner",
        "pulls_waiting",
        "queues",
        "repeating",
        "reruns",
        "reserved",
        "retrying",
        "rules",
        "schedule",
        "shared_options",
        "totals",
        "trails",
        "upkeep",
        "woken",
        "workers",
    )

    left: int
    reruns: Reruns
    auto_retries: AutoRetries
    upkeep: Upkeep
    retrying: Retrying
    added_bytes: int
    """Of the payloads of all new jobs since the start, those of series and retries too."""
    delivered_bytes: int
    """Of payloads, to pulls of many jobs since the last :meth:`Engine.take`."""
    _leaving: Iterator[Job]
    """The jobs of the last committed batch that have not been looked at yet: the ended ones leave memory."""

    def __init__(self, new_id: NewId, archive: Archive, rules: Rules = DEFAULT_RULES) -> None:
        super().__init__()
        self.new_id: NewId = new_id
        self.archive: Archive = archive
        self.rules: Rules = rules
        self.jobs: Jobs = Jobs()
        """Every unfinished job, and finished ones until their end is committed."""
        self.counts: dict[State, int] = dict.fromkeys(UNFINISHED, 0)
        self.totals: Totals = Totals()
        self.facts: Facts = Facts()
        self.configs: Configs = Configs(self.facts)
        self.queues: Queues = Queues(self.configs)
        self.schedule: Timers = Timers(active=False)
        """Ends of delays and backoffs, and TTLs."""
        self.leases: Timers = Timers(active=True)
        """Leases and processing timeouts."""
        # Since the last `take`. Each change sets None; whoever writes them may keep there what was made of a job since.
        self.changed: dict[Job, Any] = {}
        self.trails: Trails = Trails()
        self.gates: Gates = Gates(self.facts)
        self.by: str | None = None
        """Who has sent the act that is being done."""
        self.acted: bool | None = None
        """Whether the present act has changed anything, where its reply does not show it; its handler sets this."""
        self.planner: Planner = Planner(self.facts)
        self.figures: Figures = Figures(self.facts)
        self.marks: Marks = Marks(self.facts)
        self.reruns, self.auto_retries, self.upkeep = (
            Reruns(self.facts),
            AutoRetries(self.facts, self.configs),
            Upkeep(),
        )
        self.workers: Workers = Workers(self.facts, self._tell_of_worker)
        self.repeating: Line[Job] = Line(attrgetter("id"))
        """The unfinished runs of all series."""
        self.woken: dict[str, None] = {}
        """Queues that gained a ready job, or whose gate has opened; the runtime empties it when it has served the waiters."""
        self.pulls_waiting: Mapping[str, Sized] = {}
        """Who waits for a job of each queue; see :meth:`Engine.watch_pulls`."""
        self.awaited: Mapping[str, object] = {}
        """The jobs whose ends somebody waits for; see :meth:`Engine.watch_ends`."""
        self.ends: list[End] = []
        """The ends among them that have come; the runtime empties it after each step."""
        self.added_bytes = self.delivered_bytes = 0
        self.groups: dict[Job, str] = {}
        """The fingerprints of the texts that jobs have died of by the word of a client since the last :meth:`Engine.take`.

        Found in the step that brings such a text: one made to be slow costs a ms, and a batch may have thousands.
        """
        # The batch that collects what happens now.
        self.epoch: int = 1
        self.reserved: tuple[str, Collection[str]] | None = None
        """The queue of a bulk push that is half done, and the ids of its jobs; some are still to be added."""
        self.shared_options: dict[Options, Options] = {}
        """Equal options are kept once; see ``commands/push.py``."""
        self._reused_ids: dict[str, str | None] = {}
        """Ids that are used anew, each with the queue whose dead letter the old record is; None: it is no dead letter, or nobody knows."""
        self._reused_in_flight, self._leaving = dict[str, str | None](), iter(tuple[Job, ...]())
        self._owned: Owned = Owned()
        self._dependents, self.retrying, self._seq, self._removed = Dependents(), Retrying(), 0, set[str]()

    # --- moves ------------------------------------------------------------------------------------

    def add(
        self, job_id: str, queue: Queue, data: bytes, options: Options, *, priority: int, run_at: int,
        waiting_on: set[str], now: int,
    ) -> Job:  # fmt: skip
        """Add a new job, in the state that follows from ``run_at`` and its dependencies."""
        self._seq += 1
        job = Job(job_id, queue.name, data, options, priority, now, run_at, self._seq)
        job.epoch = self.epoch
        self.jobs.add(job)
        self.totals.pushed += 1
        self.added_bytes += len(data)
        if options.unique_key is not None:
            queue.hold(options.unique_key, job)
        if options.series is not None:
            self.repeating.add(job)
        if "@" in job_id:
            self.planner.note_begin(job)
        self.emit("pushed", job, now).data = Raw(data)
        if waiting_on:
            job.noted().waiting_on = waiting_on
            self._dependents.add(job)
            self._enter(job, WAITING_CHILDREN)
            self.emit("waiting-children", job, now)
        elif run_at > now:
            self._enter_by_time(job, now)
        else:
            # The same integer: 32 bytes less for a job that waits.
            job.order = -job.seq if options.lifo else job.seq
            self._enter(job, WAITING)
        return job

    def remove(self, job: Job, now: int, *, wanted: bool = True) -> None:
        """Remove an unfinished job: somebody ``wanted`` that, or it has outlived its TTL."""
        prev = job.state
        self._end(job, REMOVED, now)
        self.emit("removed", job, now).prev = prev.value
        self._tell(job.id, completed=False, wanted=wanted)
        self._work_off(now)

    def drop(self, job: Job, now: int) -> None:
        """Cancel an unfinished job without giving a reason: nothing is left of it, unless it was cancelled with a grace before."""
        if job.lease is not None and job.lease.cancelled is not None:
            self.call_off(job, job.lease.cancelled, now)
        else:
            self.totals.cancelled += 1
            self.remove(job, now)

    def call_off(self, job: Job, cancelled: Cancelled, now: int, said: str | None = None) -> None:
        """End an unfinished job that is cancelled; if its failures are kept, keep the reason and what its worker said."""
        prev, note = job.state, job.noted()
        note.cancelled, note.reason, note.error = cancelled, CANCELLED, cancelled.words(said)
        self.totals.cancelled += 1
        self._end(job, FAILED, now)
        if job.options.remove_on_fail:
            self._move(job, REMOVED)
            self._forget_removed(job)
        self.emit("removed", job, now).prev = prev.value
        self._tell(job.id, completed=False, wanted=True)
        self._work_off(now)

    def promote(self, job: Job, now: int) -> None:
        """Make a delayed job ready now, behind those that are."""
        self.schedule.disarm(job)
        if job.attempts:
            self.retrying.take(job)
        self._enter(job, WAITING)
        # Not before: its place among the delayed jobs depends on it.
        job.run_at = now
        if job.attempts:
            self.retrying.add(job)
        self.tell("promoted", now, job.queue, job.id)

    def replace(self, job_id: str, retried_in: str | None = None) -> None:
        """Free an id whose job has ended, wherever its record is; ``retried_in``: a queue's dead letter waits again."""
        old = self.jobs.take(job_id)
        self.trails.cut_waiting(job_id)
        if old is not None:
            if has_trails(old):
                # It may leave no record, with which its trails would go.
                self.trails.cut(job_id)
            if old in self.changed:
                # Its end is in no batch yet, so it leaves no record.
                retried_in = None
            elif old.state is FAILED:
                retried_in = old.queue
            self._move(old, REMOVED)
        self._reused_ids.setdefault(job_id, retried_in)

    def standing(self, job_id: str) -> Job | None:
        """Return a job that has not ended, or None."""
        job = self.jobs.find(job_id)
        return job if job is not None and job.state in UNFINISHED else None

    # --- inside ---------------------------------------------------------------------------------

    def _move(self, job: Job, to: State) -> None:
        """Change the state of ``job``, every list and every count with it. The only writer of ``job.state``."""
        before = job.state
        assert to in TRANSITIONS[before], (job.id, before, to)
        if before in UNFINISHED:
            self.counts[before] -= 1
            if before is not WAITING:
                self.queues[job.queue].leave(job, before)
        job.state = to
        if to in UNFINISHED:
            self.counts[to] += 1
            # It gets its place first.
            if to is not WAITING:
                self.queues[job.queue].enter(job, to)
        if self.queues.recount is not None:
            self.queues.recount.moved(job, before, to)
        self.changed[job] = None

    def _enter(self, job: Job, state: State) -> None:
        """Put ``job`` into ``state``, which is not active: first its place, then its timer."""
        if job.attempts and job.state is ACTIVE:
            self.retrying.add(job)
        self._move(job, state)
        if state is WAITING:
            if job.order == 0:
                self._seq += 1
                job.order = -self._seq if job.options.lifo else self._seq
            self.queues[job.queue].ready.add(job)
            self.woken[job.queue] = None
        self._arm(job)

    def _enter_by_time(self, job: Job, now: int) -> None:
        """Let ``job`` wait for ``run_at``, or queue at once; its place is by when it gets ready."""
        job.order = 0
        if job.run_at > now:
            self._enter(job, DELAYED)
            self.emit("delayed", job, now).delay = job.run_at - now
        else:
            self._enter(job, WAITING)

    def _arm(self, job: Job) -> None:
        """Set the one timer of ``job`` by its state."""
        due = deadline(job)
        timers = self.leases if job.state is ACTIVE else self.schedule
        if due is not None:
            timers.arm(job, due)
        elif job.due is not None:
            timers.disarm(job)

    def _leave_active(self, job: Job) -> None:
        lease = job.lease
        assert job.state is ACTIVE
        assert lease is not None
        self.leases.disarm(job)
        if self.gates and self.gates.is_limited(job.queue):
            self.woken[job.queue] = None
        if self.workers and (worker := self.workers.get(lease.worker or lease.owner or "")) is not None:
            worker.jobs.pop(job, None)
        if lease.owner is not None:
            self._owned.take(lease.owner, job)
        job.lease = None

    def _end(self, job: Job, state: State, now: int) -> None:
        """Take ``job`` out of everything that holds unfinished jobs, and into its last state."""
        queue = self.queues[job.queue]
        if job.state is ACTIVE:
            self._leave_active(job)
        else:
            self.schedule.disarm(job)
            if job.attempts:
                self.retrying.take(job)
        before = job.state
        self._move(job, state)
        if before is WAITING:
            queue.ready.take(job)
        elif before is WAITING_CHILDREN:
            # Each of them is looked up: a job with 1,000 dependencies costs as much as 60 plain ones.
            self.left -= len(job.noted().waiting_on or ()) // 16
            self._dependents.remove(job)
        if job.options.unique_key is not None:
            queue.free(job.options.unique_key)
        if job.options.series is not None:
            self.repeating.remove(job)
        self._note_end(job, state, now)
        if state is REMOVED:
            self._forget_removed(job)
        if len(self.queues) > QUEUES_IDLE_MAX and queue.is_empty:
            self.queues.drop(job.queue)

    def _note_end(self, job: Job, state: State, now: int) -> None:
        """Note when ``job`` has ended, and pass that on to those who wait for this job."""
        note = job.noted()
        note.finished_at = now
        if note.rerun is not None:
            self.reruns.note_end(job, state, now)
        if "@" in job.id:
            self.planner.note_end(job, now, completed=state is COMPLETED)
        if self.awaited and job.id in self.awaited:
            self.ends.append(end_of(job, state, self.epoch))

    def _blame(self, job: Job, error: str, now: int) -> None:
        job.noted().error = error
        self.emit("failed", job, now).error = error

    def _bury(
        self, job: Job, error: str, now: int, reason: str | None = None, *, wanted: bool = False
    ) -> None:  # fmt: skip
        """End ``job`` badly, and everything that waits for it; ``reason`` where its attempts and stalls do not tell.

        Where somebody ``wanted`` that, no attempt has failed, and it is no death to be found.
        """
        if reason is not None:
            job.noted().reason = reason
        if not wanted:
            self.figures.note_failure(job.queue)
        self._to_dead_letters(job, error, now, wanted=wanted)
        self._tell(job.id, completed=False, wanted=wanted)
        self._work_off(now)

    def _to_dead_letters(self, job: Job, error: str, now: int, *, wanted: bool) -> None:
        """End ``job`` in the dead-letter queue, or nowhere if it does not want to be kept."""
        self._blame(job, error, now)
        # Muted errors are not counted; while none is muted, no error is looked at.
        if not wanted and (not self.marks or not self.marks.note_death(job, error, now)):
            self.figures.note_death(job.queue)
            self.totals.died += 1
            if "@" in job.id:
                self.planner.note_death(job, now)
        self._end(job, FAILED, now)
        self.totals.failed += 1
        self._next_run(job, now)
        if job.options.remove_on_fail:
            self._move(job, REMOVED)
            self._forget_removed(job)

    def _forget_removed(self, job: Job) -> None:
        self.jobs.take(job.id)
        self._removed.add(job.id)
        if has_trails(job):
            self.trails.cut(job.id)

    def _tell(self, job_id: str, *, completed: bool, wanted: bool = False) -> None:
        """Let everything that waits for a job, which has ended, know of it: when the chores are worked off."""
        waiting = self._dependents.detach(job_id)
        if waiting:
            hear = self._hear_completed if completed else partial(self._hear_failed, wanted)
            self._chores.append((partial(hear, job_id), deque(waiting)))

    def _hear_completed(self, dependency: str, job: Job, now: int) -> None:
        if self._dependents.settle(job, dependency):
            self.changed[job] = None
            if job.noted().waiting_on is None:
                self._enter_by_time(job, now)

    def _hear_failed(self, wanted: bool, dependency: str, job: Job, now: int) -> None:  # noqa: FBT001 - a partial's
        if job.note is not None and dependency in (job.note.waiting_on or ()):
            self.fail_dependent(job, dependency, now, wanted=wanted)
            self._tell(job.id, completed=False, wanted=wanted)

    def fail_dependent(self, job: Job, dependency: str, now: int, *, wanted: bool = False) -> None:
        """Bury a job in ``waiting-children``, one of whose dependencies cannot complete any more, as somebody may have ``wanted``."""
        self._to_dead_letters(job, f"Dependency {dependency} failed", now, wanted=wanted)

    def _next_run(self, job: Job, now: int, *, expired: bool = False) -> None:
        """Create the next run of a repeating job that has just ended."""
        options = next_run(job.options, now, expired=expired)
        if options is not None and options.series is not None:
            queue, due = self.queues.open(job.queue), options.series.due
            self.add(
                self.new_id(now), queue, job.data, options,
                priority=job.priority, run_at=due, waiting_on=set(), now=now,
            )  # fmt: skip
