"""What an operator changes of a job that is there: when its turn is, and what it carries.

A job keeps its key in the store. What a row is not written anew for otherwise, such as its payload, is in ``rewritten``.
"""

from msgspec import UNSET
from msgspec.structs import replace

from bunqueue_trio.config import QUEUES_IDLE_MAX
from bunqueue_trio.engine.holding import Holding
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Archive, Cancelled, Job, NewId
from bunqueue_trio.engine.moves import ACTIVE, DELAYED, WAITING, WAITING_CHILDREN
from bunqueue_trio.engine.queue import DEFAULT_RULES, Rules
from bunqueue_trio.engine.retrying import is_retrying
from bunqueue_trio.protocol import commands as c

DISCARDED = "discarded"
"""Why a job is dead that an operator did not want to run; as clients see it."""


class Edits(Holding):
    """Moves that nobody makes but an operator."""

    __slots__ = ("rewritten",)

    added_bytes: int

    def __init__(self, new_id: NewId, archive: Archive, rules: Rules = DEFAULT_RULES) -> None:
        super().__init__(new_id, archive, rules)
        self.rewritten: dict[Job, None] = {}
        """Jobs whose whole row is to be written, of those that have one."""

    def take_rewritten(self) -> dict[Job, None]:
        """Return those since the last call."""
        taken, self.rewritten = self.rewritten, {}
        return taken

    def discard(self, job: Job, now: int) -> None:
        """Make a dead letter of an unfinished job, at no attempt."""
        job.noted().discarded_by = self.by
        self._bury(job, "Discarded", now, DISCARDED, wanted=True)

    def cancel_as_said(self, job: Job, said: "c.Cancel | c.ActOnJobs", now: int) -> None:
        """Remove an unfinished job; where it is said why, by whom or how much time its worker has, a record of it is kept."""
        if said.reason is None and said.by is None and said.grace is None:
            self.drop(job, now)
            return
        self.cancel(job, self._as_said(job, said, now), now)

    def _as_said(self, job: Job, said: "c.Cancel | c.ActOnJobs", now: int) -> Cancelled:
        until = now + said.grace if said.grace and job.state is ACTIVE else None
        return Cancelled(now, until, said.reason, said.by, self.by)

    def is_cancelled_so(self, job: Job, said: "c.Cancel | c.ActOnJobs", now: int) -> bool:
        """Return whether an active job is cancelled, and this would change nothing of it: not why, and not until when."""
        before = None if job.lease is None else job.lease.cancelled
        if before is None or not said.grace:
            return False
        return before.again(self._as_said(job, said, now)) == before

    def cancel(self, job: Job, cancelled: Cancelled, now: int) -> None:
        """Call off an unfinished job: at once, or when its worker has ended it, at the latest when its grace is over."""
        if job.state is not ACTIVE:
            self.call_off(job, cancelled, now)
            return
        assert job.lease is not None
        if job.lease.cancelled is not None:
            cancelled = job.lease.cancelled.again(cancelled)
        if cancelled.until is None:
            # Its worker learns why the job is not its own any more.
            self._tell_cancelling(job, cancelled, now)
            self.call_off(job, cancelled, now)
            return
        job.lease.cancelled = cancelled
        self.changed[job] = None
        self._arm(job)
        self._tell_cancelling(job, cancelled, now)

    def _tell_cancelling(self, job: Job, cancelled: Cancelled, now: int) -> None:
        event = self.tell("cancelling", now, job.queue, job.id)
        event.until = UNSET if cancelled.until is None else cancelled.until
        event.reason = UNSET if cancelled.reason is None else cancelled.reason

    def reorder(self, job: Job, priority: int, lifo: bool | None) -> None:  # noqa: FBT001 - as it is in the options
        """Give another priority to a job that is not active: it stands where it would if it had always had that."""
        ready = self.queues[job.queue].ready
        if job.state is WAITING:
            ready.take(job)
        job.priority = priority
        if lifo is not None and lifo is not job.options.lifo:
            options = replace(job.options, lifo=lifo)
            job.options = DEFAULT_OPTIONS if options == DEFAULT_OPTIONS else options
            job.order = -job.order
        if job.state is WAITING:
            ready.add(job)
        self._rewrite(job)

    def put_into(self, job: Job, name: str, now: int) -> None:
        """Put a job that is not active into another queue, behind those that wait there at its priority; nothing else of it changes."""
        old, new = self.queues[job.queue], self.queues.open(name)
        state, key = job.state, job.options.unique_key
        if state is WAITING:
            old.ready.take(job)
        else:
            old.leave(job, state)
        if key is not None:
            old.free(key)
            new.hold(key, job)
        if job.note is not None:
            self.reruns.note_moved(job, name)
        if self.queues.recount is not None:
            self.queues.recount.put_into(job, name)
        if is_retrying(job):
            self.retrying.take(job)
        job.queue = new.name
        if is_retrying(job):
            self.retrying.add(job)
        if state is WAITING:
            self._seq += 1
            job.order = -self._seq if job.options.lifo else self._seq
            new.ready.add(job)
            self.woken[new.name] = None
        else:
            new.enter(job, state)
        if len(self.queues) > QUEUES_IDLE_MAX and old.is_empty:
            self.queues.drop(old.name)
        self._rewrite(job)
        # Who listens to one of the queues only hears of it, too.
        self.tell("updated", now, old.name, job.id).reason = f"moved to {new.name}"
        self.tell("updated", now, new.name, job.id).reason = f"moved from {old.name}"

    def update(self, job: Job, data: bytes) -> None:
        """Give another payload to a job that is not active."""
        job.data = data
        self.added_bytes += len(data)
        self._rewrite(job)

    def postpone(self, job: Job, run_at: int, now: int) -> None:
        """Let an unfinished job be ready at ``run_at``, which is later than ``now``; an active one at no attempt."""
        queue, retries = self.queues[job.queue], is_retrying(job)
        if job.state is ACTIVE and self._is_called_off(job, now):
            return
        if retries:
            self.retrying.take(job)
        if job.state is ACTIVE:
            self._leave_active(job)
            self.emit("retried", job, now).prev = ACTIVE.value
        elif job.state is WAITING:
            queue.ready.take(job)
        elif job.state is DELAYED:
            queue.leave(job, DELAYED)
        job.run_at = run_at
        if retries:
            self.retrying.add(job)
        self.changed[job] = None
        if job.state is WAITING_CHILDREN:
            return
        if job.state is DELAYED:
            queue.enter(job, DELAYED)
            self._arm(job)
            self.emit("delayed", job, now).delay = run_at - now
        else:
            self._enter_by_time(job, now)

    def _rewrite(self, job: Job) -> None:
        self.changed[job] = None
        if job.epoch != self.epoch:
            self.rewritten[job] = None
            # Whoever pulls it waits for this commit: a crash must not take back what is delivered.
            job.epoch = self.epoch
