"""How handlers find the job that a command is about; deadlines of that job that have passed take effect first."""

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED, Job


def held(engine: Engine, job_id: str, token: str | None, now: int) -> Job:
    """Return the active job, if the caller may speak for it.

    Raises:
        Refused: it is not active, or ``token`` is not the one of its delivery.
    """
    job = engine.jobs.get(job_id)
    if job is not None and job.due is not None and job.due <= now:
        engine.settle(job, now)
    if job is None or job.lease is None:
        raise errors.NOT_ACTIVE.refuse()
    if token is not None and token != job.lease.token:
        raise errors.LOST_LOCK.refuse()
    return job


def unfinished(engine: Engine, job_id: str, now: int) -> Job | None:
    """Return a job that has not ended, or None."""
    job = engine.jobs.get(job_id)
    if job is not None and job.state in UNFINISHED:
        engine.settle(job, now)
    return None if job is None or job.state not in UNFINISHED else job


def found(engine: Engine, job_id: str, now: int) -> Job:
    """Return a job in any state that can be shown.

    Raises:
        Refused: there is none.
    """
    unfinished(engine, job_id, now)
    job = engine.find(job_id)
    if job is None:
        raise errors.JOB_NOT_FOUND.refuse()
    return job
