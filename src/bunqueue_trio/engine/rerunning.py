"""What a rerun does: the next dead letters of its filter wait again, some in each step."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from bunqueue_trio.config import RERUN_SLICE
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.find import select
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.many import not_retried
from bunqueue_trio.engine.reruns import Rerun
from bunqueue_trio.engine.retries import archived_dependencies, requeue
from bunqueue_trio.engine.workers import is_there

# Without a step for as long, what a rerun waits for is worth a word.
RERUN_HELD_MS = 60_000
# Queues of its open jobs that are looked at.
QUEUES_LOOKED = 20
# Workers, for all queues of which it is not plain that somebody works on them: 0.5 µs each.
WORKERS_LOOKED = 5000


def first_of(engine: Engine, one: Rerun) -> tuple[list[Job], bool]:
    """Return some of the dead letters that a rerun would begin with, and whether there may be more."""
    page = select(engine, one.filter, [State.FAILED], after=None, limit=min(one.count, RERUN_SLICE), now=one.started_at)
    return page.jobs, page.after is not None


def rerun_slice(engine: Engine, one: Rerun, most: int, now: int) -> None:
    """Retry up to ``most`` of the next dead letters of a rerun, and none of a paused queue."""
    # What has died since it began is not to be retried for ever, and takes no place in a slice.
    wanted = one.filter if one.filter.older is not None else replace(one.filter, older=0)
    page = select(engine, wanted, [State.FAILED], after=one.after, limit=min(most, RERUN_SLICE), now=one.started_at)
    jobs, before = page.jobs, one.paused_at
    one.paused_at = next((job.queue for job in jobs if _is_paused(engine, job.queue)), None)
    if one.paused_at is not None:
        if before != one.paused_at:
            engine.reruns.note(one)
        return
    outcomes = archived_dependencies(engine, jobs)
    # They queue in the order in which they died.
    for job in reversed(jobs):
        code = not_retried(engine, job, outcomes)
        if code is not None:
            one.refused[code] = one.refused.get(code, 0) + 1
            continue
        one.note_retried(requeue(engine, job, now), now)
    one.after, one.exhausted = page.after, page.after is None
    one.turn(now)
    engine.reruns.note(one)


class Held(NamedTuple):
    """What holds up a rerun that is under way; times in epoch ms."""

    rerun: str
    code: str
    """``paused``, ``rate-limit``, ``concurrency``, ``nobody-asks`` or ``disk``."""
    queue: str | None
    says: str
    since: int
    retried: int
    open: int
    died: int


def held(engine: Engine, now: int) -> Iterator[Held]:
    """Yield what holds up the reruns that are under way, of each that does not get on."""
    asked = Asked(engine, now)
    for one in engine.reruns.under_way():
        if (found := _held(engine, one, now, asked)) is not None:
            yield found


class Asked:
    """Knows whether somebody works on a queue, as far as one step may look at workers."""

    def __init__(self, engine: Engine, now: int) -> None:
        self._engine = engine
        self._now = now
        self._left = WORKERS_LOOKED
        self._known: dict[str, bool] = {}

    def is_for(self, name: str) -> bool:
        """Return whether somebody does; where there are too many workers to look, it is not said that nobody does."""
        if name not in self._known:
            self._left -= len(self._engine.workers)
            self._known[name] = self._left < 0 or is_asked_for(self._engine, name, self._now)
        return self._known[name]


def _held(engine: Engine, one: Rerun, now: int, asked: Asked) -> Held | None:
    since, waits = max(one.moved_at, one.started_at), one.allowance() <= 0
    refused = engine.reruns.refused.get(one.id)
    if refused is not None and not waits:
        return _told(one, "disk", None, refused, since)
    # Those that it waits for; else those that come next.
    names = [*islice(one.open_in, QUEUES_LOOKED)] if waits else [one.paused_at] if one.paused_at is not None else []
    for name in names:
        gate = engine.gates.get(name)
        if gate is not None and gate.pause is not None:
            return _told(one, "paused", name, f"queue {name} is paused", max(since, gate.pause.since))
    if now - since < RERUN_HELD_MS:
        # It is usual to wait for some seconds.
        return None
    for name in names:
        queue, gate = engine.queues.get(name), engine.gates.get(name)
        if queue is None or not queue.ready:
            continue
        if gate is not None and gate.opens_at is not None:
            return _told(one, "rate-limit", name, f"the rate limit of queue {name} lets none through", since)
        if gate is not None and not gate.is_open(len(queue.active)):
            return _told(one, "concurrency", name, f"queue {name} has as many active jobs as it may have", since)
        if not asked.is_for(name):
            return _told(one, "nobody-asks", name, f"nobody asks for jobs of queue {name}", since)
    return None


def _told(one: Rerun, code: str, queue: str | None, says: str, since: int) -> Held:
    return Held(one.id, code, queue, says, since, one.retried, one.open, one.died)


def why(engine: Engine, one: Rerun, now: int, asked: Asked) -> str | None:
    """Return why a rerun has stopped or stands still, or None: also where those that it waits for cannot run."""
    if not one.is_under_way:
        return one.why
    found = _held(engine, one, now, asked)
    return None if found is None else found.says


def is_asked_for(engine: Engine, name: str, now: int) -> bool:
    """Return whether somebody works on a queue: waits for its jobs, has one, or has named it and was heard of lately."""
    queue = engine.queues.get(name)
    if engine.pulls_waiting.get(name) or (queue is not None and queue.active):
        return True
    return any(
        worker.quiet_since is None and is_there(worker, now) and worker.works_on(name)
        for worker in engine.workers.values()
    )


def _is_paused(engine: Engine, name: str) -> bool:
    gate = engine.gates.get(name)
    return gate is not None and gate.pause is not None
