"""Every move of a job, and all that is kept of jobs: the only code that changes the state of one.

A move does all of its work in one step, but for what the end of a job means for many others, or the end of a
connection for its many jobs: such chores are done in the order they came up, as far as the step may, and go on with
the next one. A crash loses none of them: a dependent on the disk still names what it waits for, and a job whose
connection has gone still has its lease.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sized
from functools import partial

from msgspec import Raw

from bunqueue_trio.config import ADVANCE_MAX, QUEUES_IDLE_MAX
from bunqueue_trio.engine.dependents import Dependents
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.gates import Gates
from bunqueue_trio.engine.job import (
    TRANSITIONS,
    UNFINISHED,
    Archive,
    Job,
    Lease,
    NewId,
    Options,
    State,
    deadline,
    expiry,
    next_run,
    wait_ms,
)
from bunqueue_trio.engine.queue import DEFAULT_RULES, Queue, Queues, Rules, Totals
from bunqueue_trio.engine.timers import Timers
from bunqueue_trio.protocol.events import Event, EventType

Chore = tuple[Callable[[Job, int], None], Iterator[Job]]
"""What is still to be done, to each of many jobs."""

WAITING, DELAYED, WAITING_CHILDREN, ACTIVE = UNFINISHED
COMPLETED, FAILED, REMOVED = State.COMPLETED, State.FAILED, State.REMOVED

UNRECOVERABLE, TIMEOUT = "unrecoverable", "timeout"
"""Why a job is dead, where its attempts and stalls do not tell; as clients see it."""


class Moves:
    """What there is of jobs, and what can happen to one."""

    def __init__(self, new_id: NewId, archive: Archive, rules: Rules = DEFAULT_RULES) -> None:
        self.new_id = new_id
        self.archive = archive
        self.rules = rules
        self.jobs: dict[str, Job] = {}
        """Every unfinished job, and finished ones until their end is committed."""
        self.queues: Queues = Queues()
        self.counts: dict[State, int] = dict.fromkeys(UNFINISHED, 0)
        self.totals: Totals = Totals()
        self.schedule: Timers = Timers(active=False)
        """Ends of delays and backoffs, and TTLs."""
        self.leases: Timers = Timers(active=True)
        """Leases and processing timeouts."""
        self.changed: dict[Job, None] = {}
        self.events: list[Event] = []
        self.facts: Facts = Facts()
        self.gates: Gates = Gates(self.facts)
        self.woken: dict[str, None] = {}
        """Queues that gained a ready job, or whose gate has opened; the runtime empties it when it has served the waiters."""
        self.pulls_waiting: Mapping[str, Sized] = {}
        """Who waits for a job of each queue; see :meth:`Engine.watch_pulls`."""
        self.added_bytes: int = 0
        """Of the payloads of all new jobs since the start, those of series and retries too."""
        self.epoch: int = 1  # the batch that collects what happens now
        self.handed: int = 0  # the newest epoch among the jobs that the last pull gave
        self.shared_options: dict[Options, Options] = {}
        """Equal options are kept once; see ``commands/push.py``."""
        self._reused_ids: dict[str, str | None] = {}
        """Ids whose ended job makes room, and of which queue's dead letters its record is one; None: that is not known, or of none."""
        self._reused_in_flight: dict[str, str | None] = {}
        self._removed: set[str] = set()
        self._dependents = Dependents()
        self._chores: deque[Chore] = deque()
        """What the ends of jobs mean for others."""
        self._losses: deque[Chore] = deque()
        """What the ends of connections mean for their jobs; after the chores, so that one job is over before the next."""
        self._is_working = False
        self.now: int = 0
        """The time of the last :meth:`advance`."""
        self.left: int = ADVANCE_MAX
        """How many chores the present step may still do; whatever begins a step sets it anew."""
        self._owned: dict[str, dict[Job, None]] = {}
        self._seq = 0

    # --- moves ------------------------------------------------------------------------------------

    def emit(self, kind: EventType, job: Job, now: int) -> Event:
        """Collect an event of ``job``; the caller may fill in its optional fields, in this very step.

        Events are encoded when the changes are taken: what is filled in later is never seen.
        """
        event = Event(kind, job.queue, job.id, now)
        self.events.append(event)
        return event

    def add(
        self, job_id: str, queue: Queue, data: bytes, options: Options, priority: int, run_at: int,
        waiting_on: set[str], now: int,
    ) -> Job:  # fmt: skip
        """Bring a new job into the world, in the state that ``run_at`` and its dependencies ask for."""
        self._seq += 1
        job = Job(job_id, queue.name, data, options, priority, now, run_at, self._seq)
        job.epoch = self.epoch
        self.jobs[job_id] = job
        self.totals.pushed += 1
        self.added_bytes += len(data)
        if options.unique_key is not None:
            queue.keys[options.unique_key] = job
        self.emit("pushed", job, now).data = Raw(data)
        if waiting_on:
            job.noted().waiting_on = waiting_on
            self._dependents.add(job)
            self._enter(job, WAITING_CHILDREN)
            self.emit("waiting-children", job, now)
        else:
            self._enter_by_time(job, now)
        return job

    def deliver(self, job: Job, now: int, lock_ttl: int | None, owner: str | None) -> Lease:
        """Make ``job``, just taken from its queue, active; return its lease."""
        timeout = job.options.timeout
        ttl = lock_ttl or self.rules.lease
        unlimited = timeout is not None or (owner is not None and lock_ttl is None)
        until = None if unlimited else now + ttl
        timeout_at = None if timeout is None else now + timeout
        lease = Lease(self.new_id(now), ttl, until, timeout_at, owner, owner is not None)
        self.schedule.disarm(job)
        self._move(job, ACTIVE)
        job.started_at = now
        job.lease = lease
        if owner is not None:
            self._owned.setdefault(owner, {})[job] = None
        self._arm(job)
        self.totals.pulled += 1
        self.emit("pulled", job, now)
        if job.epoch > self.handed:
            self.handed = job.epoch
        return lease

    def renew(self, job: Job, now: int, duration: int | None, owner: str | None) -> None:
        """Extend the lease of an active job; a job of a connection that is gone gets a new holder."""
        lease = job.lease
        assert lease is not None
        if lease.held and lease.owner is None:
            lease.owner, lease.held = owner, owner is not None
            if owner is not None:
                self._owned.setdefault(owner, {})[job] = None
                lease.until = None
        if job.options.timeout is not None:
            lease.until = None  # its timeout alone governs it
        elif duration is not None:
            lease.until = now + duration
        elif lease.until is not None:
            lease.until = now + lease.ttl
        self._arm(job)
        self.changed[job] = None

    def complete(self, job: Job, result: bytes | None, now: int) -> None:
        """End an active job well."""
        if result is not None:
            job.noted().result = result
        self._end(job, COMPLETED, now)
        self.totals.completed += 1
        self.emit("completed", job, now)
        self._next_run(job, now)
        self._tell(job.id, completed=True)
        self._work_off(now)

    def fail(self, job: Job, error: str, now: int, *, retry_in: int | None = None, reason: str | None = None) -> None:
        """Charge an attempt: retry an active job after its backoff, or ``retry_in`` ms; or bury it, for ``reason``."""
        job.attempts += 1
        if job.attempts >= job.options.max_attempts:
            self._bury(job, error, now, reason)
            return
        self._blame(job, error, now)
        self._leave_active(job)
        self.totals.retried += 1
        job.run_at = now + (wait_ms(job) if retry_in is None else retry_in)
        self.emit("retried", job, now).prev = ACTIVE.value
        self._enter_by_time(job, now)

    def give_up(self, job: Job, error: str, now: int) -> None:
        """Charge an attempt and bury an active job, whatever attempts are left."""
        job.attempts += 1
        self._bury(job, error, now, UNRECOVERABLE)

    def release(self, job: Job, now: int) -> None:
        """Return an active job to its previous position, at no attempt."""
        self._leave_active(job)
        self._enter(job, WAITING)
        self.emit("retried", job, now).prev = ACTIVE.value

    def remove(self, job: Job, now: int) -> None:
        """Take an unfinished job out of the world: cancelled, or outlived its TTL."""
        prev = job.state
        self._end(job, REMOVED, now)
        self.emit("removed", job, now).prev = prev.value
        self._tell(job.id, completed=False)
        self._work_off(now)

    def promote(self, job: Job, now: int) -> None:
        """Make a delayed job ready now, behind those that are."""
        self.schedule.disarm(job)
        self._enter(job, WAITING)
        job.run_at = now  # not before: it stands among the delayed ones by it

    def replace(self, job_id: str, retried_in: str | None = None) -> None:
        """Free an id whose job has ended, wherever its record is; ``retried_in``: a queue's dead letter waits again."""
        old = self.jobs.pop(job_id, None)
        if old is not None:
            if old in self.changed:
                retried_in = None  # its end is in no batch yet, so it leaves no record
            elif old.state is FAILED:
                retried_in = old.queue
            self._move(old, REMOVED)
        self._reused_ids.setdefault(job_id, retried_in)

    def settle(self, job: Job, now: int) -> None:
        """Do what is over for ``job``, however many other deadlines are due before it."""
        if job.due is not None and job.due <= now:
            (self.leases if job.state is ACTIVE else self.schedule).disarm(job)
            self._fire(job, now)

    def standing(self, job_id: str) -> Job | None:
        """Return a job that has not ended, or None."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.state in UNFINISHED else None

    # --- inside ---------------------------------------------------------------------------------

    def _move(self, job: Job, to: State) -> None:
        """Change the state of ``job``, every list and every count with it. The only writer of ``job.state``."""
        before = job.state
        assert to in TRANSITIONS[before], (job.id, before, to)
        if before in UNFINISHED:
            queue = self.queues[job.queue]
            queue.counts[before] -= 1
            self.counts[before] -= 1
            if before is not WAITING:
                queue.leave(job, before)
        job.state = to
        if to in UNFINISHED:
            queue = self.queues[job.queue]
            queue.counts[to] += 1
            self.counts[to] += 1
            if to is not WAITING:  # it gets its place first
                queue.enter(job, to)
        if self.queues.recount is not None:
            self.queues.recount.moved(job, before, to)
        self.changed[job] = None

    def _enter(self, job: Job, state: State) -> None:
        """Put ``job`` into ``state``, which is not active: first its place, then its timer."""
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

    def _fire(self, job: Job, now: int) -> None:
        """Do what the deadline of ``job``, just disarmed, asks for."""
        if job.state is ACTIVE:
            lease = job.lease
            assert lease is not None
            if lease.timeout_at is not None and (lease.until is None or lease.timeout_at <= lease.until):
                self.fail(job, f"Job timed out after {job.options.timeout} ms", now, reason=TIMEOUT)
            elif lease.held and lease.owner is None:
                self.release(job, now)
            else:
                self._stall(job, now)
            return
        expires = expiry(job)
        if expires is not None and (job.state is not DELAYED or expires <= job.run_at):
            self.totals.expired += 1
            self.remove(job, now)
            self._next_run(job, now, expired=True)
        else:
            self._enter(job, WAITING)

    def _stall(self, job: Job, now: int) -> None:
        job.stalls += 1
        self.totals.stalled += 1
        self.emit("stalled", job, now)
        if job.stalls > self.rules.stalls_max:
            self.totals.lost_to_stalls += 1
            self._bury(job, f"Job stalled {job.stalls} times", now)
        else:
            self._leave_active(job)
            self._enter(job, WAITING)

    def _leave_active(self, job: Job) -> None:
        lease = job.lease
        assert job.state is ACTIVE
        assert lease is not None
        self.leases.disarm(job)
        if self.gates and self.gates.is_limited(job.queue):
            self.woken[job.queue] = None
        if lease.owner is not None:
            owned = self._owned[lease.owner]
            del owned[job]
            if not owned:
                del self._owned[lease.owner]
        job.lease = None

    def _end(self, job: Job, state: State, now: int) -> None:
        """Take ``job`` out of everything that holds unfinished jobs, and into its last state."""
        queue = self.queues[job.queue]
        if job.state is ACTIVE:
            self._leave_active(job)
        else:
            self.schedule.disarm(job)
        before = job.state
        self._move(job, state)
        if before is WAITING:
            queue.ready.take(job)
        elif before is WAITING_CHILDREN:
            # As each of them is looked up: a job with 1,000 dependencies costs as much as 60 plain ones.
            self.left -= len(job.noted().waiting_on or ()) // 16
            self._dependents.remove(job)
        if job.options.unique_key is not None:
            del queue.keys[job.options.unique_key]
        job.noted().finished_at = now
        if state is REMOVED:
            self._forget_removed(job)
        if len(self.queues) > QUEUES_IDLE_MAX and not any(queue.counts.values()):
            self.queues.drop(job.queue)

    def _blame(self, job: Job, error: str, now: int) -> None:
        job.noted().error = error
        self.emit("failed", job, now).error = error

    def _bury(self, job: Job, error: str, now: int, reason: str | None = None) -> None:
        """End ``job`` badly, and everything that waits for it; ``reason`` where its attempts and stalls do not tell."""
        if reason is not None:
            job.noted().reason = reason
        self._to_dead_letters(job, error, now)
        self._tell(job.id, completed=False)
        self._work_off(now)

    def _to_dead_letters(self, job: Job, error: str, now: int) -> None:
        """End ``job`` in the dead-letter queue, or nowhere if it does not want to be kept."""
        self._blame(job, error, now)
        self._end(job, FAILED, now)
        self.totals.failed += 1
        self._next_run(job, now)
        if job.options.remove_on_fail:
            self._move(job, REMOVED)
            self._forget_removed(job)

    def _forget_removed(self, job: Job) -> None:
        del self.jobs[job.id]
        self._removed.add(job.id)

    def _tell(self, job_id: str, *, completed: bool) -> None:
        """Let everything that waits for a job, which has ended, know of it: when the chores are worked off."""
        waiting = self._dependents.detach(job_id)
        if waiting:
            hear = self._hear_completed if completed else self._hear_failed
            self._chores.append((partial(hear, job_id), iter(waiting)))

    def _work_off(self, now: int) -> None:
        """Do the chores, first come, first served, as far as this step may. The rest is for :meth:`advance`.

        What a crash leaves undone is taken up again when the jobs are loaded.
        """
        if self._is_working:
            return  # a chore has made others: they are in line
        self._is_working = True
        while self.left > 0 and (chores := self._chores or self._losses):
            do, jobs = chores[0]
            job = next(jobs, None)
            if job is None:
                chores.popleft()
            else:
                self.left -= 1
                do(job, now)
        self._is_working = False

    def _hear_completed(self, dependency: str, job: Job, now: int) -> None:
        if self._dependents.settle(job, dependency):
            self.changed[job] = None
            if job.noted().waiting_on is None:
                self._enter_by_time(job, now)

    def _hear_failed(self, dependency: str, job: Job, now: int) -> None:
        if job.note is not None and dependency in (job.note.waiting_on or ()):
            self.fail_dependent(job, dependency, now)
            self._tell(job.id, completed=False)

    def fail_dependent(self, job: Job, dependency: str, now: int) -> None:
        """Bury a job in ``waiting-children``, one of whose dependencies cannot complete any more."""
        self._to_dead_letters(job, f"Dependency {dependency} failed", now)

    def _next_run(self, job: Job, now: int, *, expired: bool = False) -> None:
        """Create the next run of a repeating job that has just ended."""
        options = next_run(job.options, now, expired=expired)
        if options is not None and options.series is not None:
            queue, due = self.queues.open(job.queue), options.series.due
            self.add(self.new_id(now), queue, job.data, options, job.priority, due, set(), now)
