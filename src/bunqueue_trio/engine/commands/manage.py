"""Handlers of the commands that change jobs from outside."""

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.lookup import held, unfinished
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _cancel(engine: Engine, command: c.Cancel, now: int, owner: Owner) -> r.Reply:
    job = _there(engine, command.id, now)
    engine.totals.cancelled += 1
    engine.remove(job, now)
    return r.OK


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
    engine.reorder(_resting(engine, command.id, now), command.priority, command.lifo)
    return r.OK


def _change_delay(engine: Engine, command: c.ChangeDelay, now: int, owner: Owner) -> r.Reply:
    job = _resting(engine, command.id, now)
    if command.delay or job.state is State.WAITING_CHILDREN:
        engine.postpone(job, now + command.delay, now)
    elif job.state is State.DELAYED:
        engine.promote(job, now)
    return r.OK


def _move_to_delayed(engine: Engine, command: c.MoveToDelayed, now: int, owner: Owner) -> r.Reply:
    job = _there(engine, command.id, now) if command.token is None else held(engine, command.id, command.token, now)
    if job.state is State.WAITING_CHILDREN:
        raise c.NEVER_READY.refuse()
    engine.postpone(job, now + command.delay, now)
    return r.OK


def _update(engine: Engine, command: c.Update, now: int, owner: Owner) -> r.Reply:
    data = bytes(command.data)
    if not data:
        raise errors.INVALID_FIELD.refuse("data", "is required")
    engine.update(_resting(engine, command.id, now), data)
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
    c.Update: _update,
}
