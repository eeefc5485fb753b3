"""Handlers of the commands that change jobs from outside."""

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import State
from bunqueue_trio.engine.lookup import unfinished
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _cancel(engine: Engine, command: c.Cancel, now: int, owner: Owner) -> r.Reply:
    job = unfinished(engine, command.id, now)
    if job is None:
        raise errors.JOB_NOT_FOUND.refuse()
    engine.totals.cancelled += 1
    engine.remove(job, now)
    return r.OK


def _promote(engine: Engine, command: c.Promote, now: int, owner: Owner) -> r.Reply:
    job = unfinished(engine, command.id, now)
    if job is None or job.state is not State.DELAYED:
        raise c.NOT_DELAYED.refuse()
    engine.promote(job, now)
    return r.OK


HANDLERS: Handlers = {
    c.Cancel: _cancel,
    c.Promote: _promote,
}
