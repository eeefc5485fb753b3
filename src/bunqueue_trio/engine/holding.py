"""What becomes of a job by the word of its holder, from its delivery on; and by time, where no word comes.

Time also ends the delay and the TTL of a job that nobody holds: a job has one deadline, and here is all that one can ask for.
"""

import math

from bunqueue_trio.engine.attempts import STALLED, note_attempt
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.job import Archive, Job, Lease, NewId, expiry, has_trails, wait_ms
from bunqueue_trio.engine.moves import ACTIVE, COMPLETED, DELAYED, WAITING, Moves
from bunqueue_trio.engine.queue import DEFAULT_RULES, Rules
from bunqueue_trio.engine.workers import Lost, Worker

UNRECOVERABLE, TIMEOUT = "unrecoverable", "timeout"
"""Why a job is dead, where its attempts and stalls do not tell; as clients see it."""


class Holding(Moves):
    """Moves of a job that somebody holds, or whose deadline passes."""

    __slots__ = ("at_once_until", "handed")

    def __init__(self, new_id: NewId, archive: Archive, rules: Rules = DEFAULT_RULES) -> None:
        super().__init__(new_id, archive, rules)
        self.handed: int = 0
        """The newest epoch that the answer to the last pull has to wait for."""
        self.at_once_until: float = 0 if rules.fenced else math.inf
        """Until then (epoch ms) a delivery is known before its own commit; later only after that."""

    # --- by the word of its holder ----------------------------------------------------------------

    def deliver(
        self, job: Job, now: int, lock_ttl: int | None, owner: str | None, worker: Worker | None = None
    ) -> Lease:
        """Make ``job``, just taken from its queue, active; return its lease."""
        timeout = job.options.timeout
        ttl = lock_ttl or self.rules.lease
        if lock_ttl is None and self.configs.stalls:
            ttl = self.configs.lease(job.queue, ttl)
        unlimited = timeout is not None or (owner is not None and lock_ttl is None)
        until = None if unlimited else now + ttl
        timeout_at = None if timeout is None else now + timeout
        lease = Lease(self.new_id(now), ttl, until, timeout_at, owner, owner is not None)
        self.schedule.disarm(job)
        if job.attempts:
            self.retrying.take(job)
        self._move(job, ACTIVE)
        job.started_at = now
        job.lease = lease
        if owner is not None:
            self._owned.add(owner, job)
        if worker is not None:
            worker.jobs[job] = None
            if worker.id != owner:
                lease.worker = worker.id
        self._arm(job)
        self.totals.pulled += 1
        self.emit("pulled", job, now)
        epoch = job.epoch if now <= self.at_once_until else self.epoch
        if epoch > self.handed:
            self.handed = epoch
        return lease

    def renew(self, job: Job, now: int, duration: int | None, owner: str | None, *, proven: bool) -> None:
        """Extend the lease of an active job; a job of a connection that is gone gets a new holder.

        Where the token has ``proven`` that it is the worker's that has the job, it comes over to another connection of that
        worker: the old one may hang without anybody knowing it. And from whoever has claimed it without the token.
        """
        lease = job.lease
        assert lease is not None
        if lease.held and lease.owner is None:
            if owner is not None:
                self._take_over(job, owner, now)
                lease.owner, lease.until, lease.unproven = owner, None, not proven
            elif proven:
                lease.held = False
        elif proven and lease.owner is not None and self._comes_over(owner, lease):
            self._bring_over(job, lease, owner, now)
        elif (worker := self.workers.of(lease)) is not None:
            worker.heard_at = now
        if job.options.timeout is not None:
            # Its timeout alone governs it.
            lease.until = None
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
        lease = job.lease
        assert lease is not None
        # A look without a call: this is done for each job.
        if self.workers and (worker := self.workers.get(lease.worker or lease.owner or "")) is not None:
            worker.heard_at = now
            worker.done += 1
            self.workers.done += 1
        self._end(job, COMPLETED, now)
        if job.options.remove_on_complete and has_trails(job):
            self.trails.cut(job.id)
        self.totals.completed += 1
        self.emit("completed", job, now)
        self._next_run(job, now)
        self._tell(job.id, completed=True)
        self._work_off(now)

    def fail(
        self, job: Job, error: str, now: int, *, retry_in: int | None = None, reason: str | None = None,
        stack: str | None = None,
    ) -> None:  # fmt: skip
        """Charge an attempt: retry an active job after its backoff, or ``retry_in`` ms; or bury it, for ``reason``."""
        self._charge(job)
        note_attempt(self.trails, self.workers, job, now, reason=reason, error=error, stack=stack)
        if self._is_called_off(job, now, error):
            return
        if job.attempts >= job.options.max_attempts:
            self._bury(job, error, now, reason)
            return
        self.figures.note_failure(job.queue)
        self._blame(job, error, now)
        job.noted().fingerprint = fingerprint(error).key
        self._leave_active(job)
        self.totals.retried += 1
        job.run_at = now + (wait_ms(job) if retry_in is None else retry_in)
        self.emit("retried", job, now).prev = ACTIVE.value
        self._enter_by_time(job, now)

    def give_up(self, job: Job, error: str, now: int, *, stack: str | None = None) -> None:
        """Charge an attempt and bury an active job, whatever attempts are left."""
        self._charge(job)
        note_attempt(self.trails, self.workers, job, now, reason=UNRECOVERABLE, error=error, stack=stack)
        if not self._is_called_off(job, now, error):
            self._bury(job, error, now, UNRECOVERABLE)

    def release(self, job: Job, now: int) -> None:
        """Return an active job to its previous position, at no attempt; one that is cancelled ends."""
        if self._is_called_off(job, now):
            return
        self._leave_active(job)
        self._enter(job, WAITING)
        self.emit("retried", job, now).prev = ACTIVE.value

    # --- by time ----------------------------------------------------------------------------------

    def settle(self, job: Job, now: int) -> None:
        """Let the deadlines of ``job`` that have passed take effect, however many others are due before them."""
        if job.due is not None and job.due <= now:
            (self.leases if job.state is ACTIVE else self.schedule).disarm(job)
            self._fire(job, now)

    def _fire(self, job: Job, now: int) -> None:
        """Let the deadline of ``job`` take effect; it was just disarmed."""
        if job.state is ACTIVE:
            lease = job.lease
            assert lease is not None
            if self._is_called_off(job, now):
                return
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
            self.remove(job, now, wanted=False)
            self._next_run(job, now, expired=True)
        else:
            self._enter(job, WAITING)

    def _stall(self, job: Job, now: int) -> None:
        if self._is_called_off(job, now):
            return
        job.stalls += 1
        said = f"Job stalled {job.stalls} time{'' if job.stalls == 1 else 's'}"
        note_attempt(self.trails, self.workers, job, now, reason=STALLED, error=said)
        self.totals.stalled += 1
        self.emit("stalled", job, now)
        if self.configs.is_too_many(job.queue, job.stalls, self.rules.stalls_max):
            self.totals.lost_to_stalls += 1
            self.workers.lost = Lost(job.id, job.queue)
            self._bury(job, said, now)
        else:
            self._leave_active(job)
            self._enter(job, WAITING)

    # --- of both ----------------------------------------------------------------------------------

    def _comes_over(self, owner: str | None, lease: Lease) -> bool:
        if lease.unproven:
            return owner != lease.owner
        return owner is not None and self.workers.is_of_holder(owner, lease)

    def _bring_over(self, job: Job, lease: Lease, owner: str | None, now: int) -> None:
        assert lease.owner is not None
        self._owned.take(lease.owner, job)
        if not lease.unproven:
            self.workers.left_behind.add(lease.owner)
        if owner is None:
            # Whoever speaks over HTTP holds it by its lease alone.
            self.workers.let_go(job)
            lease.held, lease.until = False, now
        else:
            self._take_over(job, owner, now)
        lease.owner, lease.unproven = owner, False

    def _take_over(self, job: Job, owner: str, now: int) -> None:
        """List an active job with the connection that holds it now, and with who speaks over that."""
        self._owned.add(owner, job)
        self.workers.claim(job, owner, now)

    def _charge(self, job: Job) -> None:
        job.attempts += 1
        assert job.lease is not None
        if (worker := self.workers.of(job.lease)) is not None:
            worker.failed += 1
            self.workers.failed += 1

    def _is_called_off(self, job: Job, now: int, said: str | None = None) -> bool:
        """End an active job that is cancelled, instead of letting it wait again; return whether it was."""
        assert job.lease is not None
        if job.lease.cancelled is None:
            return False
        self.call_off(job, job.lease.cancelled, now, said)
        return True
