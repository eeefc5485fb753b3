"""Handlers of the commands that look at a job and change nothing."""

import msgspec
from msgspec import Raw

from bunqueue_trio.config import ATTEMPTS_KEPT
from bunqueue_trio.engine.ends import answer, end_of
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Job, Series
from bunqueue_trio.engine.lookup import found, unfinished, view_fields
from bunqueue_trio.engine.timeline import timeline
from bunqueue_trio.engine.trails import ATTEMPTS
from bunqueue_trio.engine.why import why
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import trail_replies as tr
from bunqueue_trio.protocol.lines import Attempt

_attempt = msgspec.json.Decoder(Attempt).decode


def _get_job(engine: Engine, command: c.GetJob, now: int, owner: Owner) -> r.Reply:
    return r.JobReply(job=r.JobView(**view_fields(found(engine, command.id, now, data=True))))


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
        cancelled=_cancelled(job),
        discarded_by=note.discarded_by if note else None,
    )


def _get_progress(engine: Engine, command: c.GetProgress, now: int, owner: Owner) -> r.Reply:
    job = found(engine, command.id, now)
    note = job.note
    return r.ProgressReply(
        progress=job.progress, message=note.message if note else None, at=note.progressed_at if note else None
    )


def _cancelled(job: Job) -> r.CancelledView | None:
    cancelled = job.lease.cancelled if job.lease else job.note.cancelled if job.note else None
    if cancelled is None:
        return None
    return r.CancelledView(at=cancelled.at, until=cancelled.until, reason=cancelled.reason, by=cancelled.who)


def _repeat(series: Series) -> Raw:
    shown: dict[str, object] = {
        "every": series.every, "limit": series.limit, "run": series.run, "due": series.due,
    }  # fmt: skip
    if series.name is not None:
        shown["name"] = series.name
    return Raw(msgspec.json.encode(shown))


def _get_result(engine: Engine, command: c.GetResult | c.WaitJob, now: int, owner: Owner) -> r.Reply:
    job = found(engine, command.id, now, result=True)
    return answer(command, end_of(job, job.state, engine.epoch))


def _why(engine: Engine, command: c.Why, now: int, owner: Owner) -> r.Reply:
    return why(engine, found(engine, command.id, now), now)


def _get_attempts(engine: Engine, command: c.GetAttempts, now: int, owner: Owner) -> r.Reply:
    job = found(engine, command.id, now)
    page = engine.trail(ATTEMPTS, job.id, None, ATTEMPTS_KEPT, newest=False)
    return tr.AttemptsReply(attempts=[_attempt(line) for _, line in page.lines])


def _get_timeline(engine: Engine, command: c.GetTimeline, now: int, owner: Owner) -> r.Reply:
    unfinished(engine, command.id, now)
    return timeline(engine, command.id, command.after, now)


HANDLERS: Handlers = {
    c.GetJob: _get_job,
    c.GetState: _get_state,
    c.GetProgress: _get_progress,
    c.GetResult: _get_result,
    c.WaitJob: _get_result,
    c.Why: _why,
    c.GetAttempts: _get_attempts,
    c.GetTimeline: _get_timeline,
}
