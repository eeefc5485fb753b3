"""What a queue does that retries its dead letters by itself: those whose time has come wait again, some in each step."""

from itertools import takewhile

import msgspec

from bunqueue_trio.config import AUTO_RETRY_SLICE
from bunqueue_trio.engine.configs import ALL
from bunqueue_trio.engine.edits import DISCARDED
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.holding import UNRECOVERABLE
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.lookup import reason_of
from bunqueue_trio.engine.many import not_retried
from bunqueue_trio.engine.moves import CANCELLED
from bunqueue_trio.engine.retries import archived_dependencies, requeue
from bunqueue_trio.engine.trails import LOG
from bunqueue_trio.protocol.lines import LogLine

FINAL = frozenset({CANCELLED, DISCARDED, UNRECOVERABLE})
"""Why a job is dead that somebody has said is not to run again."""

# Characters of what it died of, in its log: the trails of its life before have gone.
_ERROR_MAX = 500
_encode = msgspec.json.Encoder().encode


def auto_slice(engine: Engine, name: str, now: int) -> None:
    """Retry the dead letters of a queue whose time has come, or some of them; all is read before anything is changed."""
    autos, one = engine.auto_retries, engine.auto_retries.get(name)
    if one is None:
        # Told not to meanwhile.
        return
    page = engine.ended(name, State.FAILED, one.after, AUTO_RETRY_SLICE, oldest=True)
    # In the order in which they died: where the clock was set back, one that died before has its time behind others, and is not passed.
    due = [*takewhile(lambda job: autos.due_of(job) <= now, page.jobs)]
    outcomes = archived_dependencies(engine, due)
    is_whole = len(due) == len(page.jobs)
    if due:
        one.after, one.upto = page.places[len(due) - 1], due[-1].noted().finished_at or 0
    if is_whole and page.before is not None:
        one.after = page.before
    for job in due:
        if may_be_retried(engine, job) and not_retried(engine, job, outcomes) is None:
            _retry(engine, job, now)
    autos.note(name)
    if not is_whole:
        autos.look_at(name, autos.due_of(page.jobs[len(due)]))
    elif page.before is not None:
        autos.look_at(name, now)


def may_be_retried(engine: Engine, job: Job) -> bool:
    """Return whether a dead letter is one that its queue, which does so, retries by itself."""
    note = job.noted()
    if note.auto_retries >= engine.configs.dead.get(job.queue, ALL).most or reason_of(job) in FINAL:
        return False
    return (note.finished_at or 0) >= engine.auto_retries[job.queue].since


def outlook(engine: Engine, job: Job, now: int) -> tuple[str, int | None]:
    """Return what becomes of a dead letter by itself, as the end of a sentence, and when."""
    autos, done = engine.auto_retries, job.noted().auto_retries
    passing, most = autos.get(job.queue), engine.configs.dead.get(job.queue, ALL).most
    before = f", after {done} of {most} retries by the server" if done else ""
    if passing is None or not may_be_retried(engine, job):
        return before, None
    due, which = autos.due_of(job), f"{done + 1} of {most}"
    if due > now:
        return f", which the server retries by itself ({which})", due
    if (job.noted().finished_at or 0) <= passing.upto:
        return f"{before}, and something stood in the way of the next when it was due", None
    return f", which the server is about to retry ({which})", due


def _retry(engine: Engine, dead: Job, now: int) -> None:
    count, error = dead.noted().auto_retries + 1, (dead.noted().error or "").strip().partition("\n")[0][:_ERROR_MAX]
    most = engine.configs.dead.get(dead.queue, ALL).most
    job = requeue(engine, dead, now)
    note = job.noted()
    note.auto_retries, note.logged = count, True
    said = f"Retried by the server, {count} of {most}, after: {error}"
    engine.trails.add(LOG, job.id, now, _encode(LogLine(timestamp=now, level="info", message=said)))
    engine.totals.auto_retried += 1
