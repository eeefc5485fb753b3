"""Handlers of the commands that change jobs from outside."""

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.lookup import held, unfinished
from bunqueue_trio.engine.retries import key_is_held, requeue
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _cancel(engine: Engine, command: c.Cancel, now: int, owner: Owner) -> r.Reply:
    job = _there(engine, command.id, now)
    engine.acted = not engine.is_cancelled_so(job, command, now)
    engine.cancel_as_said(job, command, now)
    cancelled = None if job.lease is None else job.lease.cancelled
    return r.OK if cancelled is None else r.DataReply(data={"until": cancelled.until})


def _promote(engine: Engine, command: c.Promote, now: int, owner: Owner) -> r.Reply:
    job = unfinished(engine, command.id, now)
    if job is None or job.state is not State.DELAYED:
        raise c.NOT_DELAYED.refuse()
    engine.promote(job, now)
    return r.OK


def _discard(engine: Engine, command: c.Discard, now: int, owner: Owner) -> r.Reply:
    engine.discard(_there(engine, command.id, now), now)
    return r.OK


def _change_priority(engine: Engine, command: c.ChangePriority, now: int, owner: Owner) -> r.Reply:
    job = _resting(engine, command.id, now)
    engine.acted = command.priority != job.priority or command.lifo not in (None, job.options.lifo)
    engine.reorder(job, command.priority, command.lifo)
    engine.tell("updated", now, job.queue, job.id)
    return r.OK


def _change_delay(engine: Engine, command: c.ChangeDelay, now: int, owner: Owner) -> r.Reply:
    job = _resting(engine, command.id, now)
    if command.delay or job.state is State.WAITING_CHILDREN:
        engine.postpone(job, now + command.delay, now)
    elif job.state is State.DELAYED:
        engine.promote(job, now)
    else:
        engine.acted = False
    return r.OK


def _move_to_delayed(engine: Engine, command: c.MoveToDelayed, now: int, owner: Owner) -> r.Reply:
    job = _there(engine, command.id, now) if command.token is None else held(engine, command.id, command.token, now)
    if job.state is State.WAITING_CHILDREN:
        raise c.NEVER_READY.refuse()
    engine.postpone(job, now + command.delay, now)
    return r.OK


def _move_to_wait(engine: Engine, command: c.MoveToWait, now: int, owner: Owner) -> r.Reply:
    if command.token is not None:
        engine.release(held(engine, command.id, command.token, now), now)
        return r.OK
    job = unfinished(engine, command.id, now)
    if job is None:
        _retry(engine, command.id, now)
    elif job.state is State.WAITING_CHILDREN:
        raise c.NEVER_READY.refuse()
    elif job.state is State.ACTIVE:
        engine.release(job, now)
    elif job.state is State.DELAYED:
        engine.promote(job, now)
    else:
        engine.acted = False
    return r.OK


def _retry(engine: Engine, job_id: str, now: int) -> None:
    """Let a dead letter wait again.

    Raises:
        Refused: there is none of this id, or another job has its key.
    """
    dead = engine.find(job_id)
    if dead is None or dead.state is not State.FAILED:
        raise errors.JOB_NOT_FOUND.refuse()
    if key_is_held(engine, dead):
        raise c.KEY_IS_HELD.refuse()
    requeue(engine, dead, now)


def _update(engine: Engine, command: c.Update, now: int, owner: Owner) -> r.Reply:
    data = bytes(command.data)
    if not data:
        raise errors.INVALID_FIELD.refuse("data", "is required")
    job = _resting(engine, command.id, now)
    engine.acted = data != job.data
    engine.update(job, data)
    engine.tell("updated", now, job.queue, job.id)
    return r.OK


def _there(engine: Engine, job_id: str, now: int) -> Job:
    """Return an unfinished job.

    Raises:
        Refused: there is none.
    """
    job = unfinished(engine, job_id, now)
    if job is None:
        raise errors.JOB_NOT_FOUND.refuse()
    return job


def _resting(engine: Engine, job_id: str, now: int) -> Job:
    """Return an unfinished job that nobody works on.

    Raises:
        Refused: there is none.
    """
    job = _there(engine, job_id, now)
    if job.state is State.ACTIVE:
        raise c.IS_ACTIVE.refuse()
    return job


HANDLERS: Handlers = {
    c.Cancel: _cancel,
    c.Promote: _promote,
    c.Discard: _discard,
    c.ChangePriority: _change_priority,
    c.ChangeDelay: _change_delay,
    c.MoveToDelayed: _move_to_delayed,
    c.MoveToWait: _move_to_wait,
    c.Update: _update,
}
