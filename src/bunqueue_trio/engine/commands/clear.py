"""Handlers of the commands that remove, or promote, many jobs of a queue at once: a bounded number in each step."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from bunqueue_trio.config import ADVANCE_MAX
from bunqueue_trio.engine.cursors import behind, cursor_of, ended_page, unfinished_page
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.find import LOOKS, has_come
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import UNFINISHED, Job, State, weight
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r

ROW_BYTES = 200
"""About what a job takes of the file beside what it carries, its places in the indexes included."""
_RESTING = {state.value: state for state in (State.WAITING, State.DELAYED, State.WAITING_CHILDREN)}
_ENDED = {state.value: state for state in (State.COMPLETED, State.FAILED)}


def _drain(engine: Engine, command: c.Drain, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    queue = engine.queues.get(command.queue)
    states = (State.WAITING, State.DELAYED) if command.delayed else (State.WAITING,)
    jobs, after = _of_before(behind(queue, states, command.after), command, command.limit, now)
    if queue is None:
        return r.DrainReply(count=0, left=0)
    count = _remove(engine, jobs, now)
    _tell(engine, command.queue, count, now)
    # It may have been empty in between, and made anew by the next run of a series.
    queue = engine.queues.get(command.queue, queue)
    left = len(queue.ready) + (len(queue.delayed) if command.delayed else 0)
    return r.DrainReply(count=count, left=left, next=after)


def _promote(engine: Engine, command: c.PromoteJobs, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    queue = engine.queues.get(command.queue)
    jobs, after = _of_before(behind(queue, (State.DELAYED,), command.after), command, command.count, now)
    for job in jobs:
        engine.promote(job, now)
    return r.PromoteReply(count=len(jobs), left=0 if queue is None else len(queue.delayed), next=after)


def _of_before(
    jobs: Iterable[Job], command: c.Drain | c.PromoteJobs, limit: int, now: int
) -> tuple[list[Job], str | None]:
    """Return the next ``limit`` of ``jobs`` but for what has come since a command began, past some thousand of those at most, and where to go on."""
    as_of, found, last = command.as_of, list[Job](), None
    for looked, job in enumerate(jobs):
        if len(found) == limit:
            # Before that place is nothing else but what has come: the next step need not look at it again.
            return found, command.after
        if last is not None and looked == limit + LOOKS:
            return found, cursor_of(last)
        if as_of is None or not has_come(job, as_of, now):
            found.append(job)
        last = job
    return found, None


def _clean(engine: Engine, command: c.Clean, now: int, owner: Owner) -> r.Reply:
    before = min(now, now if command.as_of is None else command.as_of) - command.grace
    if (state := _RESTING.get(command.state)) is not None:
        jobs, after = unfinished_page(engine, command.queue, state, command.after, command.limit)
        old = [job for job in jobs if job.created_at <= before]
    elif (state := _ENDED.get(command.state)) is not None:
        jobs, after = ended_page(engine, command.queue, state, command.after, command.limit)
        old = [job for job in jobs if (job.noted().finished_at or 0) <= before]
    else:
        raise c.NOT_CLEANABLE.refuse()
    size = sum(ROW_BYTES + weight(job) for job in old)
    if command.dry_run:
        engine.acted = False
        ids = [job.id for job in old]
    elif state in UNFINISHED:
        # Of those that wait for others some end with the ones before them.
        ids = [job.id for job in old if _remove(engine, [job], now)]
    else:
        ids = [job.id for job in old]
        _drop(engine, old)
    if not command.dry_run:
        _tell(engine, command.queue, len(ids), now)
    return r.CleanReply(count=len(ids), ids=ids, scanned=len(jobs), bytes=size, next=after)


def _obliterate(engine: Engine, command: c.Obliterate, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    queue, jobs = engine.queues.get(command.queue), list[Job]()
    if queue is not None:
        if queue.active and not command.force:
            raise c.HAS_ACTIVE.refuse()
        everything = chain(queue.active, queue.ready.after(None), queue.delayed, queue.waiting_children)
        jobs = list(_of_one_step(islice(everything, command.limit)))
    # All is read before anything is changed: a disk that cannot be read refuses the whole.
    records, has_more, left = list[Job](), False, command.limit - len(jobs)
    for state in _ENDED.values():
        found, after = ended_page(engine, command.queue, state, None, max(1, left))
        has_more = has_more or after is not None or len(found) > left
        records += found[:left]
        left -= len(found[:left])
    count = _remove(engine, jobs, now) + len(records)
    _drop(engine, records)
    _tell(engine, command.queue, count, now)
    is_done = not (has_more or _is_left(engine, command.queue))
    if is_done and (engine.gates.drop(command.queue) | engine.configs.drop(command.queue)):
        engine.auto_retries.turn(command.queue, None)
        engine.woken[command.queue] = None
        engine.acted = True
    return r.ObliterateReply(count=count, done=is_done)


def _of_one_step(jobs: Iterable[Job]) -> Iterator[Job]:
    """Yield as many of ``jobs`` as one step may end: each dependency that they wait for is to be forgotten, too."""
    left = ADVANCE_MAX
    for job in jobs:
        if left <= 0:
            return
        left -= 1 if job.note is None else 1 + len(job.note.waiting_on or ()) // 16
        yield job


def _is_left(engine: Engine, name: str) -> bool:
    """Return whether there are jobs of a queue still, or it gets records: what was removed may have ended others that waited for it."""
    queue = engine.queues.get(name)
    return (
        engine.has_chores
        or (queue is not None and not queue.is_empty)
        or any(job.queue == name and job.state.value in _ENDED for job in engine.changed)
    )


def _remove(engine: Engine, jobs: list[Job], now: int) -> int:
    """Cancel those of ``jobs`` that are still unfinished; return how many."""
    count = 0
    for job in jobs:
        if job.state in UNFINISHED:
            engine.totals.cancelled += 1
            engine.remove(job, now)
            count += 1
    return count


def _tell(engine: Engine, queue: str, count: int, now: int) -> None:
    if count:
        engine.tell("cleaned", now, queue).count = count


def _drop(engine: Engine, records: list[Job]) -> None:
    """Delete the records of ended jobs with the next commit."""
    for job in records:
        engine.replace(job.id, job.queue if job.state is State.FAILED else None)


HANDLERS: Handlers = {c.Drain: _drain, c.PromoteJobs: _promote, c.Clean: _clean, c.Obliterate: _obliterate}
