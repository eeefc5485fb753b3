"""Handlers of the commands by which a holder says how its job goes."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.fingerprint import fingerprint, is_remembered, work_of
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import UNFINISHED, State
from bunqueue_trio.engine.lookup import held
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r

FAILURE_ACKS = 3
"""How much more work than an ack a failure is, with a short text: 10 µs and 3 µs."""
ACK_CHARACTERS = 512
"""Characters of an error or a stack that are the work of an ack more: to keep them, and to tell a death by them."""

DEATH_ACKS = 80
"""How much more it is to find out what a job died of: 100 µs of most texts, 2 ms of one made to be slow."""
# Of the µs that it may take at most, of which a long text takes a tenth unless it is made to be slow, as much as an ack.
_DEATH_US = 8


def _ack(engine: Engine, command: c.Ack, now: int, owner: Owner) -> r.Reply:
    job = held(engine, command.id, command.token, now)
    engine.complete(job, bytes(command.result) or None, now)
    return r.OK


def _ack_batch(engine: Engine, command: c.AckBatch, now: int, owner: Owner) -> r.Reply:
    acks = Acks(engine, command)
    acks.add(len(command.ids), now)
    return acks.reply


class Acks:
    """The acks of a batch, which may be done in several steps.

    Raises:
        Refused: its lists do not fit together; nothing was changed.
    """

    __slots__ = ("_engine", "_ignored", "_place", "_rows", "done")

    def __init__(self, engine: Engine, command: c.AckBatch) -> None:
        tokens = _matching("tokens", command.tokens, command.ids)
        results = _matching("results", command.results, command.ids)
        self._engine = engine
        self._rows = list(zip(command.ids, tokens, results, strict=True))
        self._place = 0
        self._ignored: dict[str, None] = {}
        self.done: set[str] = set()
        """The jobs that are acked."""

    @property
    def reply(self) -> r.Reply:
        """The answer, once all are done."""
        return r.DataReply(data={"ignoredIds": list(self._ignored)}) if self._ignored else r.OK

    def prepare(self) -> bool:
        """Return that the first may be done: nothing is to be kept for later steps, each ack stands for itself."""
        return True

    def add(self, count: int, now: int) -> bool:
        """Do the next ``count``; return whether these were the last."""
        engine, acked, ignored = self._engine, self.done, self._ignored
        begin, self._place = self._place, self._place + count
        for job_id, token, result in self._rows[begin : self._place]:
            if job_id in acked:
                # A batch put together from several lists.
                continue
            try:
                job = held(engine, job_id, token, now)
            except errors.Refused:
                ignored[job_id] = None
            else:
                engine.complete(job, bytes(result or b"") or None, now)
                acked.add(job_id)
                # A worker that got a job back holds it by two tokens, of which one counts.
                ignored.pop(job_id, None)
        return self._place >= len(self._rows)


def _matching(name: str, values: Sequence[Any] | None, ids: list[str]) -> Sequence[Any]:
    if values is None:
        return (None,) * len(ids)
    if len(values) != len(ids):
        raise errors.INVALID_FIELD.refuse(name, "must be as long as ids")
    return values


def _fail(engine: Engine, command: c.Fail, now: int, owner: Owner) -> r.Reply:
    _check_ending(command)
    _charge(engine, command, now)
    return r.OK


def _fail_batch(engine: Engine, command: c.FailBatch, now: int, owner: Owner) -> r.Reply:
    failures = Failures(engine, command)
    while not failures.add(sum(map(most_acks_of, command.failures)), now):
        # They were more work than it looked.
        pass
    return failures.reply


def acks_of(failure: c.Failure) -> int:
    """Return how many acks the work of a failure is."""
    return FAILURE_ACKS + (len(failure.error or "") + len(failure.stack or "")) // ACK_CHARACTERS


def most_acks_of(failure: c.Failure) -> int:
    """Return the same if the job dies of it."""
    return acks_of(failure) + DEATH_ACKS


class Failures:
    """The failures of a batch, which may be done in several steps, each of as much work as with acks.

    Raises:
        Refused: one of them says what cannot be; nothing was changed.
    """

    __slots__ = ("_engine", "_failures", "_ignored", "_last", "_run_at", "done")

    def __init__(self, engine: Engine, command: c.FailBatch) -> None:
        for i, failure in enumerate(command.failures):
            try:
                _check_ending(failure)
            except errors.Refused as refused:
                raise errors.Refused(refused.status, f"failures[{i}]: {refused}", refused.code) from None
        self._engine = engine
        self._failures = command.failures
        self._run_at: list[int | None] = []
        self._last: str | None = None
        self._ignored: dict[str, None] = {}
        self.done: set[str] = set()
        """The jobs that have failed."""

    @property
    def reply(self) -> r.Reply:
        """The answer, once all are done."""
        ignored = list(self._ignored) if self._ignored else msgspec.UNSET
        return r.FailBatchReply(data=r.Failed(run_at=self._run_at, ignored_ids=ignored))

    def prepare(self) -> bool:
        """Return that the first may be done: nothing is to be kept for later steps, each failure stands for itself."""
        return True

    def add(self, count: int, now: int) -> bool:
        """Do as many as are the work of ``count`` acks; return whether these were the last."""
        failed, ignored, begin, work = self.done, self._ignored, len(self._run_at), 0
        for failure in self._failures[begin:]:
            work += acks_of(failure)
            if work > count and len(self._run_at) > begin:
                break
            run_at = None
            # Else a batch put together from several lists.
            if failure.id not in failed:
                try:
                    run_at = _charge(self._engine, failure, now)
                except errors.Refused:
                    ignored[failure.id] = None
                else:
                    failed.add(failure.id)
                    if failure.error != self._last or not is_remembered(failure.error or ""):
                        # The group of its error is found; one text after the other is mostly the same.
                        work += max(DEATH_ACKS, work_of(failure.error or "") // _DEATH_US)
                    self._last = failure.error
                    # A worker that got a job back holds it by two tokens, of which one counts.
                    ignored.pop(failure.id, None)
            self._run_at.append(run_at)
        return len(self._run_at) >= len(self._failures)


def _check_ending(failure: c.Fail | c.Failure) -> None:
    if failure.unrecoverable and failure.retry_in is not None:
        raise c.RETRY_EXCLUDED.refuse()


def _charge(engine: Engine, failure: c.Fail | c.Failure, now: int) -> int | None:
    """Charge a failed attempt; return when the next one may begin, None for never.

    Raises:
        Refused: nobody holds the job by this token; nothing was changed.
    """
    job = held(engine, failure.id, failure.token, now)
    error = "Unknown error" if failure.error is None else failure.error
    if failure.unrecoverable:
        engine.give_up(job, error, now, stack=failure.stack)
    else:
        engine.fail(job, error, now, retry_in=failure.retry_in, stack=failure.stack)
    if job.state is State.FAILED and job.noted().cancelled is None:
        engine.groups[job] = fingerprint(job.noted().error or "").key
    return job.run_at if job.state in UNFINISHED else None


def _heartbeat(engine: Engine, command: c.Heartbeat, now: int, owner: Owner) -> r.Reply:
    job = held(engine, command.id, command.token, now)
    engine.renew(job, now, command.duration, owner, proven=command.token is not None)
    data: dict[str, object] = {"ok": True, "count": 1}
    cancelled = job.lease.cancelled if job.lease else None
    if cancelled is not None:
        data["cancelled"] = {"reason": cancelled.reason, "by": cancelled.who, "until": cancelled.until}
    return r.DataReply(data=data)


def _heartbeat_batch(engine: Engine, command: c.HeartbeatBatch, now: int, owner: Owner) -> r.Reply:
    heartbeats = Heartbeats(engine, command, owner)
    heartbeats.add(len(command.ids), now)
    return heartbeats.reply


class Heartbeats:
    """The heartbeats of a batch, which may be done in several steps.

    Raises:
        Refused: its lists do not fit together; nothing was changed.
    """

    __slots__ = ("_cancelled", "_engine", "_lost", "_owner", "_place", "_renewed", "_rows")

    def __init__(self, engine: Engine, command: c.HeartbeatBatch, owner: Owner) -> None:
        self._engine = engine
        self._owner = owner
        self._rows = list(zip(command.ids, _matching("tokens", command.tokens, command.ids), strict=True))
        self._place = 0
        self._lost: dict[str, None] = {}
        self._renewed: set[str] = set()
        self._cancelled: list[str] = []

    @property
    def reply(self) -> r.Reply:
        """The answer, once all are done."""
        data: dict[str, object] = {"ok": True, "count": len(self._renewed)}
        if self._lost:
            data["lostIds"] = list(self._lost)
        if self._cancelled:
            data["cancelledIds"] = self._cancelled
        return r.DataReply(data=data)

    def prepare(self) -> bool:
        """Return that the first may be done: nothing is to be kept for later steps, each heartbeat stands for itself."""
        return True

    def add(self, count: int, now: int) -> bool:
        """Do the next ``count``; return whether these were the last."""
        begin, self._place = self._place, self._place + count
        for job_id, token in self._rows[begin : self._place]:
            if job_id in self._renewed:
                continue
            try:
                job = held(self._engine, job_id, token, now)
                self._engine.renew(job, now, None, self._owner, proven=token is not None)
            except errors.Refused:
                self._lost[job_id] = None
            else:
                self._renewed.add(job_id)
                self._lost.pop(job_id, None)
                if job.lease is not None and job.lease.cancelled is not None:
                    self._cancelled.append(job_id)
        return self._place >= len(self._rows)


def _extend_lock(engine: Engine, command: c.ExtendLock, now: int, owner: Owner) -> r.Reply:
    job = held(engine, command.id, command.token, now)
    engine.renew(job, now, command.duration, owner, proven=True)
    return r.OK


def _release(engine: Engine, command: c.Release, now: int, owner: Owner) -> r.Reply:
    engine.release(held(engine, command.id, command.token, now), now)
    return r.OK


def _progress(engine: Engine, command: c.Progress, now: int, owner: Owner) -> r.Reply:
    job = held(engine, command.id, command.token, now)
    job.progress = command.progress
    note = job.noted()
    note.progressed_at = now
    if command.message is not None:
        note.message = command.message
    engine.renew(job, now, None, owner, proven=command.token is not None)
    engine.emit("progress", job, now).progress = command.progress
    return r.OK


HANDLERS: Handlers = {
    c.Ack: _ack,
    c.AckBatch: _ack_batch,
    c.Fail: _fail,
    c.FailBatch: _fail_batch,
    c.Heartbeat: _heartbeat,
    c.HeartbeatBatch: _heartbeat_batch,
    c.ExtendLock: _extend_lock,
    c.Release: _release,
    c.Progress: _progress,
}
