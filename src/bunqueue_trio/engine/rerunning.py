"""What a rerun does: the next dead letters of its filter wait again, some in each step."""

from collections.abc import Iterable

from bunqueue_trio.config import RERUN_SLICE
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.find import select
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.many import not_retried
from bunqueue_trio.engine.reruns import Rerun
from bunqueue_trio.engine.retries import archived_dependencies, requeue


def first_of(engine: Engine, one: Rerun) -> tuple[list[Job], bool]:
    """Return some of the dead letters that a rerun would begin with, and whether there may be more."""
    page = select(engine, one.filter, [State.FAILED], None, min(one.count, RERUN_SLICE), one.started_at)
    return page.jobs, page.after is not None


def rerun_slice(engine: Engine, one: Rerun, most: int, now: int) -> None:
    """Retry up to ``most`` of the next dead letters of a rerun, and none of a paused queue."""
    page = select(engine, one.filter, [State.FAILED], one.after, min(most, RERUN_SLICE), one.started_at)
    # What has died since it began is not to be retried for ever.
    jobs = [job for job in page.jobs if (job.noted().finished_at or 0) <= one.started_at]
    before = one.why
    one.why = _why_paused(engine, [job.queue for job in jobs])
    if one.why is not None:
        if before != one.why:
            engine.reruns.note(one)
        return
    outcomes = archived_dependencies(engine, jobs)
    # They queue in the order in which they died.
    for job in reversed(jobs):
        code = not_retried(engine, job, outcomes)
        if code is not None:
            one.refused[code] = one.refused.get(code, 0) + 1
            continue
        one.note_retried(requeue(engine, job, now))
    one.after, one.exhausted = page.after, page.after is None
    one.turn(now)
    engine.reruns.note(one)


def why(engine: Engine, one: Rerun) -> str | None:
    """Return why a rerun has stopped or stands still, or None: also where those that it waits for cannot run."""
    if one.why is None and one.is_under_way and one.allowance() <= 0:
        return _why_paused(engine, one.open_in)
    return one.why


def _why_paused(engine: Engine, queues: Iterable[str]) -> str | None:
    for name in queues:
        gate = engine.gates.get(name)
        if gate is not None and gate.pause is not None:
            return f"queue {name} is paused"
    return None
