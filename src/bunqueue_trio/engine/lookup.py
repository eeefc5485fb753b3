"""How handlers find the job that a command is about; deadlines of that job that have passed take effect first."""

from typing import Any

from msgspec import UNSET, Raw

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED, Job, Shape, State
from bunqueue_trio.protocol.replies import BackoffView, ListedJob


def held(engine: Engine, job_id: str, token: str | None, now: int) -> Job:
    """Return the active job, if the caller may speak for it.

    Raises:
        Refused: it is not active, or ``token`` is not the one of its delivery.
    """
    job = engine.jobs.find(job_id)
    if job is not None and job.due is not None and job.due <= now:
        engine.settle(job, now)
    if job is None or job.lease is None:
        raise errors.NOT_ACTIVE.refuse()
    if token is not None and token != job.lease.token:
        raise errors.LOST_LOCK.refuse()
    return job


def unfinished(engine: Engine, job_id: str, now: int) -> Job | None:
    """Return a job that has not ended by ``now``, or None."""
    job = engine.standing(job_id)
    if job is not None:
        engine.settle(job, now)
    return engine.standing(job_id)


def found(engine: Engine, job_id: str, now: int, *, data: bool = False, result: bool = False) -> Job:
    """Return a job in any state that can be shown.

    Raises:
        Refused: there is none.
    """
    unfinished(engine, job_id, now)
    job = engine.find(job_id, data=data, result=result)
    if job is None:
        raise errors.JOB_NOT_FOUND.refuse()
    return job


def begun_at(job: Job) -> int | None:
    """Return when the attempt began that goes on, or was the last; None: the job waits for its next one."""
    return job.started_at if job.state is State.ACTIVE or job.state not in UNFINISHED else None


def view_fields(job: Job) -> dict[str, Any]:
    """Return the fields of the view of ``job`` that the contract shows."""
    options = job.options
    return {
        "id": job.id,
        "queue": job.queue,
        "data": Raw(job.data),
        "priority": job.priority,
        "created_at": job.created_at,
        "run_at": job.run_at,
        "started_at": begun_at(job),
        "completed_at": job.note.finished_at if job.note else None,
        "attempts": job.attempts,
        "max_attempts": options.max_attempts,
        "backoff": options.backoff if options.shape is None else backoff_view(options.backoff, options.shape),
        "progress": job.progress,
        "tags": list(options.tags),
        "lifo": options.lifo,
        "remove_on_complete": options.remove_on_complete,
        "remove_on_fail": options.remove_on_fail,
        "name": options.name or UNSET,
    }


def listed(job: Job) -> ListedJob:
    """Return ``job`` as lists show it."""
    error = job.note.error if job.note else None
    reason = reason_of(job) if job.state is State.FAILED else None
    return ListedJob(**view_fields(job), state=job.state.value, error=error, reason=reason)


def backoff_view(delay: int, shape: Shape) -> BackoffView:
    """Return a backoff as it was given."""
    return BackoffView(
        type="fixed" if shape.fixed else "exponential",
        delay=delay,
        max_delay=UNSET if shape.max_delay is None else shape.max_delay,
        jitter=UNSET if shape.jitter is None else shape.jitter,
    )


def reason_of(job: Job) -> str:
    """Return of what kind the end of a dead job was."""
    if (reason := job.noted().reason) is not None:
        return reason
    if job.attempts >= job.options.max_attempts:
        return "max_attempts_exceeded"
    return "dependency_failed" if job.started_at is None else "stalled"
