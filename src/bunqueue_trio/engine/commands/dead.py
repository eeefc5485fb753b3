"""Handlers of the commands about dead letters."""

from bunqueue_trio.engine.auto_retrying import outlook
from bunqueue_trio.engine.cursors import ended_page, oldest_dead
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.find import select
from bunqueue_trio.engine.fingerprint import is_key
from bunqueue_trio.engine.groups import groups_page
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.lookup import reason_of, view_fields
from bunqueue_trio.engine.moves import CANCELLED
from bunqueue_trio.engine.retries import archived_dependencies, key_is_held, requeue, waits_for_a_dead_one
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _list(engine: Engine, command: c.Dlq, now: int, owner: Owner) -> r.Reply:
    jobs, after = _page(engine, command, now)
    entries = [
        r.DeadLetter(
            job=r.JobView(**view_fields(job)),
            entered_at=job.noted().finished_at,
            reason=reason_of(job),
            error=job.noted().error,
            fingerprint=job.noted().fingerprint,
            retry_count=job.noted().auto_retries,
            next_retry_at=outlook(engine, job, now)[1],
        )
        for job in jobs
    ]
    return r.DeadReply(entries=entries, total=engine.dead_left(command.queue), next=after)


def _page(engine: Engine, command: c.Dlq | c.PurgeDlq, now: int) -> tuple[list[Job], str | None]:
    """Return a page of the dead letters that a command is about, newest first, and where to go on."""
    if command.fingerprint is None and command.error is None:
        return ended_page(engine, command.queue, State.FAILED, command.after, command.limit)
    wanted = c.Filter(queue=command.queue, fingerprint=command.fingerprint, error=command.error)
    found = select(engine, wanted, [State.FAILED], after=command.after, limit=command.limit, now=now)
    return found.jobs, found.after


def _oldest(engine: Engine, command: c.RetryDlq, now: int) -> tuple[list[Job], str | None]:
    """Return the same, oldest first: they queue in the order in which they died."""
    if command.fingerprint is None and command.error is None:
        return oldest_dead(engine, command.queue, command.after, command.limit, now)
    wanted = c.Filter(queue=command.queue, fingerprint=command.fingerprint, error=command.error)
    found = select(engine, wanted, [State.FAILED], after=command.after, limit=command.limit, now=now, oldest=True)
    return found.jobs, found.after


def _groups(engine: Engine, command: c.DlqGroups, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    page = groups_page(engine, command.queue, command.after, command.limit, retrying=command.retrying)
    return r.GroupsReply(groups=page.groups, total=page.total, next=page.after)


def _all_groups(engine: Engine, command: c.DeadGroups, now: int, owner: Owner) -> r.Reply:
    page = groups_page(engine, None, command.after, command.limit, retrying=command.retrying)
    return r.GroupsReply(groups=page.groups, total=page.total, next=page.after)


def _retry(engine: Engine, command: c.RetryDlq, now: int, owner: Owner) -> r.Reply:
    job_id = command.id if command.job_id is None else command.job_id
    if job_id is not None:
        return _retry_one(engine, command, job_id, now)
    if bytes(command.data):
        raise c.DATA_OF_ONE.refuse()
    jobs, after = _oldest(engine, command, now)
    outcomes = archived_dependencies(engine, jobs)
    retried = [
        requeue(engine, job, now)
        for job in jobs
        if reason_of(job) != CANCELLED and not (key_is_held(engine, job) or waits_for_a_dead_one(engine, job, outcomes))
    ]
    return r.RetryReply(count=len(retried), left=engine.dead_left(command.queue), next=after)


def _retry_one(engine: Engine, command: c.RetryDlq, job_id: str, now: int) -> r.Reply:
    job = _dead(engine, command.queue, job_id)
    if key_is_held(engine, job):
        raise c.KEY_IS_HELD.refuse()
    requeue(engine, job, now, bytes(command.data) or None)
    return r.RetryReply(count=1, left=engine.dead_left(command.queue), next=None)


def _dead(engine: Engine, queue: str, job_id: str) -> Job:
    """Return a dead letter of a queue.

    Raises:
        Refused: it is none.
    """
    engine.queues.check(queue)
    job = engine.find(job_id)
    if job is None or job.state is not State.FAILED or job.queue != queue:
        raise c.NOT_DEAD.refuse()
    return job


def _purge(engine: Engine, command: c.PurgeDlq, now: int, owner: Owner) -> r.Reply:
    job_id, after = command.id if command.job_id is None else command.job_id, None
    if job_id is not None:
        jobs = [_dead(engine, command.queue, job_id)]
    else:
        jobs, after = _page(engine, command, now)
    for job in jobs:
        engine.replace(job.id, job.queue)
    return r.PurgeReply(count=len(jobs), left=engine.dead_left(command.queue), next=after)


def _mark(engine: Engine, command: c.MarkGroup, now: int, owner: Owner) -> r.Reply:
    if not is_key(command.fingerprint):
        raise c.NOT_A_GROUP.refuse()
    engine.acted = engine.marks.set(command.fingerprint, None if command.mark == "none" else command.mark, now)
    return r.OK


HANDLERS: Handlers = {
    c.MarkGroup: _mark,
    c.Dlq: _list,
    c.DlqGroups: _groups,
    c.DeadGroups: _all_groups,
    c.RetryDlq: _retry,
    c.PurgeDlq: _purge,
}
