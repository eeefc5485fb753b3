"""Handlers of the commands that look at a job and change nothing."""

import msgspec
from msgspec import Raw

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Series
from bunqueue_trio.engine.lookup import found, view_fields
from bunqueue_trio.engine.why import why
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _get_job(engine: Engine, command: c.GetJob, now: int, owner: Owner) -> r.Reply:
    return r.JobReply(job=r.JobView(**view_fields(found(engine, command.id, now))))


def _get_state(engine: Engine, command: c.GetState, now: int, owner: Owner) -> r.Reply:
    job = found(engine, command.id, now)
    options, note, series = job.options, job.note, job.options.series
    return r.StateReply(
        id=job.id,
        state=job.state.value,
        queue=job.queue,
        error=note.error if note else None,
        message=note.message if note else None,
        stalls=job.stalls,
        ttl=options.ttl,
        timeout=options.timeout,
        unique_key=options.unique_key,
        group_id=options.group_id,
        depends_on=list(options.depends_on),
        waiting_on=sorted((note and note.waiting_on) or ()),
        repeat=r.NULL if series is None else _repeat(series),
        lease_until=job.lease.until if job.lease else None,
    )


def _repeat(series: Series) -> Raw:
    shown = {"every": series.every, "limit": series.limit, "run": series.run, "due": series.due}
    return Raw(msgspec.json.encode(shown))


def _get_result(engine: Engine, command: c.GetResult, now: int, owner: Owner) -> r.Reply:
    job = found(engine, command.id, now)
    result = job.note.result if job.note else None
    return r.ResultReply(id=job.id, result=r.NULL if result is None else Raw(result))


def _why(engine: Engine, command: c.Why, now: int, owner: Owner) -> r.Reply:
    return why(engine, found(engine, command.id, now), now)


HANDLERS: Handlers = {
    c.GetJob: _get_job,
    c.GetState: _get_state,
    c.GetResult: _get_result,
    c.Why: _why,
}
