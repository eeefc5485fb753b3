"""Handlers of the commands that look at many jobs at once."""

from bunqueue_trio.engine.cursors import ended_page, unfinished_page
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import UNFINISHED, State
from bunqueue_trio.engine.lookup import listed
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r

_STATES = {state.value: state for state in (*UNFINISHED, State.COMPLETED, State.FAILED)}


def _get_jobs(engine: Engine, command: c.GetJobs, now: int, owner: Owner) -> r.Reply:
    state = _STATES.get(command.state)
    if state is None:
        raise c.UNKNOWN_STATE.refuse()
    if state not in UNFINISHED:
        jobs, after = ended_page(engine, command.queue, state, command.after, command.limit)
    else:
        jobs, after = unfinished_page(engine, command.queue, state, command.after, command.limit)
    return r.JobsReply(jobs=[listed(job) for job in jobs], next=after)


HANDLERS: Handlers = {c.GetJobs: _get_jobs}
