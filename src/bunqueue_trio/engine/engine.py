"""The truth about all jobs: what the runtime asks of it, and the deadlines that pass.

Pure and synchronous. Each call is one step: time comes in as ``now`` (epoch ms), which never falls; replies go out as
the return value, and what the step did is collected in ``changed`` and ``events`` for the runtime to take.
What a command means is in ``commands/``, what can happen to a job in ``moves.py``, what its holder or its deadline does to
one in ``holding.py``, what an operator may change of one in ``edits.py``.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sized
from functools import partial
from itertools import islice
from operator import attrgetter

from bunqueue_trio.config import ADVANCE_MAX, FIRED_TOGETHER, FORGET_SLICE, GATHER_JOBS_MAX
from bunqueue_trio.engine.edits import Edits
from bunqueue_trio.engine.firing import fire
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, UNFINISHED, Archive, Job, Records, State
from bunqueue_trio.engine.moves import COMPLETED, WAITING, WAITING_CHILDREN
from bunqueue_trio.engine.queue import Changes, Lines, Queue, Rules
from bunqueue_trio.engine.retrying import is_retrying
from bunqueue_trio.engine.trails import TrailPage
from bunqueue_trio.engine.workers import Worker
from bunqueue_trio.protocol.events import Event

__all__ = ["Changes", "Engine", "Rules"]


class Engine(Edits):
    """All jobs of the server. Not safe for threads, and needs not be: no step can be interrupted."""

    left: int
    changed: dict[Job, None]
    events: list[Event]
    epoch: int

    # --- the runtime's side -------------------------------------------------------------------

    def load(self, jobs: Iterable[Job], now: int, archive: Archive | None = None) -> None:
        """Take over the unfinished jobs of a store, in any order; ``archive`` is who may be asked at a start, if only then.

        Leases, tokens and timeouts go on as they were; jobs of connections, which are gone now, get a
        short grace to be claimed by a heartbeat.
        """
        self.gates.load(now)
        self.configs.load()
        self.marks.load()
        self.workers.load(now)
        # A start with a backlog costs what this loop costs: 0.8 µs for a job that just waits. All are read before any has its
        # place: by turns, each would push the other's memory out of the processor's caches, which costs 0.3 µs more.
        lines: Lines = {}
        newest, special, name, priority, line = self._seq, [], None, 0, list[Job]()
        jobs = list(jobs)
        self.jobs.fill(jobs)
        for job in jobs:
            if job.seq > newest:
                newest = job.seq
            if job.state is WAITING:
                if job.queue is not name or job.priority != priority:
                    name, priority = job.queue, job.priority
                    line = lines.setdefault((name, priority), [])
                line.append(job)
            if job.state is not WAITING or job.attempts or job.options is not DEFAULT_OPTIONS or "@" in job.id:
                special.append(job)
        self._seq = max(newest, self.queues.fill(lines))
        standing: dict[tuple[str, State], list[Job]] = {}
        for job in sorted(special, key=attrgetter("seq")):
            if job.state is not WAITING:
                standing.setdefault((job.queue, job.state), []).append(job)
            self._restore(job, self.queues.open(job.queue), now)
        for (queue, state), jobs_there in standing.items():
            self.queues[queue].fill(state, jobs_there)
        archive = archive or self.archive
        self._take_up_outcomes(archive)
        for state in UNFINISHED:
            self.counts[state] = sum(queue.count(state) for queue in self.queues.values())
        self.planner.load(now)
        self.reruns.load()
        self.retrying.with_dead(self.archive.dead_groups)
        self.auto_retries.load(archive)
        self.figures.load(now)

    def _restore(self, job: Job, queue: Queue, now: int) -> None:
        """Put a loaded job where it is looked up, and set its timer."""
        self._seq = max(self._seq, abs(job.order))
        if job.options.unique_key is not None:
            queue.hold(job.options.unique_key, job)
        if job.options.series is not None:
            self.repeating.add(job)
        if "@" in job.id:
            self.planner.note_begin(job)
        if is_retrying(job):
            self.retrying.add(job)
        if job.state is WAITING_CHILDREN:
            self._dependents.add(job)
        elif job.lease is not None and job.lease.held:
            job.lease.owner = None
            job.lease.until = now + self.rules.restart_grace
        if job.lease is not None:
            self.workers.take_up(job, now)
        self._arm(job)

    def _take_up_outcomes(self, archive: Archive) -> None:
        """Go on with the dependents of jobs that had ended before the process did."""
        ended = [dependency for dependency in self._dependents if dependency not in self.jobs]
        outcomes = archive.outcomes(ended) if ended else {}
        for dependency in ended:
            self._tell(dependency, completed=outcomes.get(dependency) is COMPLETED)

    @property
    def has_chores(self) -> bool:
        """Whether a step has left something to the next one."""
        return bool(self._chores or self._losses)

    @property
    def is_full(self) -> bool:
        """Whether so much has gathered that chores and deadlines wait for the next batch.

        A batch is made and published in one go; an avalanche would make one of any size.
        """
        return len(self.changed) >= GATHER_JOBS_MAX

    @property
    def has_changes(self) -> bool:
        """Whether a step since the last :meth:`take` has left something to write."""
        quiet = not (self.changed or self.events or self.facts.changed or self._reused_ids or self.trails.changed)
        return not quiet

    def next_scheduled(self) -> int | None:
        """Return when a delay, a backoff, a TTL or a pause ends, a gate opens or a schedule is due next; 0 while there are chores.

        But for schedules that wait for :meth:`fire_schedules`.
        """
        if self._chores or self._losses:
            return 0
        due, opens, slot = self.schedule.next_due(), self.gates.due, self.planner.due
        if opens is not None and (due is None or opens < due):
            due = opens
        return slot if slot is not None and (due is None or slot < due) and self.archive.at_once else due

    def next_due(self) -> int | None:
        """Return when :meth:`advance` has something to do next, or None."""
        a, b = self.next_scheduled(), self.leases.next_due()
        return b if a is None or (b is not None and b < a) else a

    def is_due(self, now: int) -> bool:
        """Return whether :meth:`advance` has something to do at ``now``; mostly not, which costs a third of :meth:`next_due`."""
        opens, slot = self.gates.due, self.planner.due
        is_over = not (
            self._chores or self._losses or self.leases.may_be_due(now) or self.schedule.may_be_due(now)
            or (opens is not None and opens <= now) or (slot is not None and slot <= now)
        )  # fmt: skip
        if is_over:
            return False
        due = self.next_due()
        return due is not None and due <= now

    def advance(self, now: int, *, waited: bool = False) -> None:
        """Do what is due at or before ``now``: first the rest of an earlier step, then in the order of the deadlines.

        At most about :data:`ADVANCE_MAX` jobs a call: an avalanche is worked off in several steps. Nothing while the batch
        is full, unless the caller has ``waited`` for room.
        """
        assert now >= self.now, "time never falls: the order of deadlines, leases and ids relies on it"
        self.now = now
        self.left = ADVANCE_MAX if waited or not self.is_full else 0
        self._work_off(now)
        while self.left > 0:
            due = self._next_of_jobs()
            # What brings jobs comes after what ends them.
            if due is None or due > now:
                if not self.archive.at_once or not (names := self.planner.first_due(now, 1)):
                    return
                fire(self, names, now, now)
                continue
            self.left -= 1
            paused = self.gates.paused
            if (name := self.gates.pop_due(due)) is not None:
                self.woken[name] = None
                if self.gates.paused < paused:
                    self.tell("resumed", now, name)
                continue
            job = self.schedule.pop_due(due) or self.leases.pop_due(due)
            assert job is not None
            self._fire(job, now)

    def fire_schedules(self, upto: int, now: int) -> None:
        """Let schedules bring the jobs of slots that were due by ``upto``: some, all at once, if the archive is a network away.

        Then :meth:`advance` leaves them to this, which asks before it changes anything.
        """
        self.advance(now, waited=True)
        if self.left > 0:
            fire(self, self.planner.first_due(upto, FIRED_TOGETHER), upto, now)

    def _next_of_jobs(self) -> int | None:
        times = (self.schedule.next_due(), self.gates.due, self.leases.next_due())
        return min([time for time in times if time is not None], default=None)

    def watch_pulls(self, waiting: Mapping[str, Sized]) -> None:
        """Tell of the pulls that wait for a job of each queue; the runtime goes on changing ``waiting``."""
        self.pulls_waiting = waiting

    def watch_ends(self, awaited: Mapping[str, object]) -> None:
        """Tell of the jobs whose ends somebody waits for; the runtime goes on changing ``awaited``, and takes ``ends``."""
        self.awaited = awaited

    def take(self) -> Changes:
        """Return what has happened since the last call, and begin a new epoch."""
        while not self.forget_some():
            # Those that change once more would be in two batches.
            pass
        changes = Changes(self.epoch, self.changed, self.events, list(self._reused_ids), self._removed)
        if self.facts.changed:
            changes.facts = self.facts.take()
        if self.trails.changed:
            changes.trails = self.trails.take()
        if self.groups:
            changes.groups = dict(self.groups)
            self.groups.clear()
        if self.rewritten:
            changes.rewritten = self.take_rewritten()
        self._reused_in_flight = self._reused_ids
        self.changed, self.events, self._reused_ids, self._removed = {}, [], {}, set()
        self.epoch += 1
        self.delivered_bytes = 0
        return changes

    def forget(self, jobs: Iterable[Job]) -> None:
        """Drop the finished ones among ``jobs``, which the last :meth:`take` gave and which are committed.

        Of many the first now, and the others by :meth:`forget_some`. One that has changed since, and may only now have
        ended, stays until that is committed too.
        """
        if self.auto_retries:
            for job in jobs:
                if job.state is State.FAILED and job not in self.changed:
                    self.auto_retries.note_dead(job)
        self._reused_in_flight = {}
        self._leaving = iter(jobs)
        self.forget_some()

    def forget_some(self) -> bool:
        """Drop some more of the jobs that :meth:`forget` was given; return whether these were the last."""
        some = list(islice(self._leaving, FORGET_SLICE))
        for job in some:
            if job.state in UNFINISHED or job in self.changed:
                continue
            if self.jobs.find(job.id) is job:
                self.jobs.take(job.id)
            # An entry left behind in a heap must not keep a payload alive. Whoever keeps a job beyond its commit must not want that.
            job.data = b""
            job.note = None
        return self.retrying.rank_some() and len(some) < FORGET_SLICE

    def release_owner(self, owner: str, now: int, *, dropped: bool) -> None:
        """Return every job of a connection that is gone to its previous position, at no attempt.

        One that ``dropped``, instead of closing in order, has stalled them: a job that kills its workers must end.
        """
        self.advance(now)
        self._losses.append((partial(self._lose_owner, owner, dropped), deque(self._owned.get(owner, ()))))
        self._work_off(now)
        self.workers.end(owner, now, dropped=dropped)

    def _lose_owner(self, owner: str, dropped: bool, job: Job, now: int) -> None:  # noqa: FBT001 - a partial's
        # Still.
        if job.lease is not None and job.lease.owner == owner:
            self.settle(job, now)
        if job.lease is not None and job.lease.owner == owner:
            if dropped:
                self._stall(job, now)
            else:
                self.release(job, now)

    def release_jobs_of(self, worker: Worker, now: int) -> None:
        """Return every job of a worker to its previous position, at no attempt."""
        self._losses.append((partial(self._lose_worker, worker), deque(worker.jobs)))
        self._work_off(now)

    def _lose_worker(self, worker: Worker, job: Job, now: int) -> None:
        # Still.
        if job in worker.jobs:
            self.settle(job, now)
        if job in worker.jobs:
            self.release(job, now)

    def forget_silent(self, now: int) -> None:
        """Forget workers that were not heard of for long."""
        self.advance(now)
        self.workers.forget_silent(now)

    def give_back(self, job_id: str, token: str, now: int) -> None:
        """Return to its queue a job whose delivery did not arrive, if ``token`` still holds it."""
        self.advance(now)
        job = self.jobs.find(job_id)
        if job is not None and job.lease is not None and job.lease.token == token:
            self.release(job, now)

    # --- queries --------------------------------------------------------------------------------

    def offers(self, name: str) -> bool:
        """Return whether a pull would find something in a queue now: a ready job, behind no gate that is shut."""
        queue = self.queues.get(name)
        if queue is None or not queue.ready:
            return False
        gate = self.gates.get(name)
        return gate is None or gate.is_open(len(queue.active))

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        """Return a job in any state that can be shown, or None; an ended one without its ``data`` or ``result`` where nobody needs them."""
        job = self._known(job_id, data=data, result=result)
        return None if job is None or (job.state is COMPLETED and job.options.remove_on_complete) else job

    def ended(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        """Return some of the finished jobs of a queue, as of the last commit; those whose id is taken anew are left out."""
        records = self.archive.records(queue, state, before, limit, fingerprint, oldest=oldest)
        kept = [
            (job, at) for job, at in zip(records.jobs, records.places, strict=True) if not self._is_replaced(job.id)
        ]
        return Records([job for job, _ in kept], records.before, [at for _, at in kept])

    def dead_left(self, queue: str) -> int:
        """Return how many dead letters of a queue are kept, as of the last commit, less those that wait again."""
        replaced = (self._reused_ids, self._reused_in_flight)
        retried = sum(each == queue for ids in replaced for each in ids.values())
        # While a commit is under way it may have taken some of them already.
        return max(0, self.archive.kept_of(queue)[1] - retried)

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        """Return some of the lines of a trail, as of the last commit; none of a job whose id is taken anew."""
        if self._is_replaced(key):
            return TrailPage([], 0, None)
        return self.archive.trail(kind, key, place, limit, newest=newest)

    def archived_outcomes(self, job_ids: Iterable[str]) -> Mapping[str, State]:
        """Return the states of those of the jobs that have left memory, in one look; unknown ones are left out."""
        find = self.jobs.find
        return self.archive.outcomes([job_id for job_id in job_ids if find(job_id) is None])

    def outcome(self, job_id: str, archived: Mapping[str, State]) -> State | None:
        """Return the state of a job as a dependency: also completed ones without a record."""
        job = self.jobs.find(job_id)
        if job is not None:
            return job.state
        return None if self._is_replaced(job_id) else archived.get(job_id)

    def _known(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        job = self.jobs.find(job_id)
        if job is not None or self._is_replaced(job_id):
            return job
        return self.archive.find(job_id, data=data, result=result)

    def _is_replaced(self, job_id: str) -> bool:
        """Return whether the archive may still have a record that a later job of this id has replaced.

        Exactly one batch is in flight. Between its commit, in a thread, and ``forget`` other steps may run: until then its
        ids count as replaced.
        """
        return job_id in self._reused_ids or job_id in self._reused_in_flight

    @property
    def is_reusing(self) -> bool:
        """Whether ids of ended jobs were freed since the last :meth:`take`."""
        return bool(self._reused_ids)

    def is_reserved(self, job_id: str, queue: str) -> bool:
        """Return whether a bulk push to another queue, half of which is in, has this id."""
        return self.reserved is not None and job_id in self.reserved[1] and queue != self.reserved[0]

    def is_removed(self, job_id: str) -> bool:
        """Return whether a job of this id was removed since the last :meth:`take`."""
        return job_id in self._removed
