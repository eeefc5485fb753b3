"""Pages of the unfinished jobs of a queue, by state, in the order that somebody who looks at it asks for.

A page goes on behind the place of the last job of the page before, wherever that job is now: so nothing that stays
where it is is left out or told twice, however many others move meanwhile.
"""

from collections.abc import Callable, Iterable
from heapq import nsmallest
from itertools import islice
from typing import NamedTuple

from bunqueue_trio.config import REPLAY_BYTES
from bunqueue_trio.engine.job import Job, State, weight
from bunqueue_trio.engine.queue import BY_PUSH, BY_TIME, Queue, by_delivery

Place = tuple[int, int]
"""Where a job stands among those of its state: what :data:`_PLACES` tells of it."""


class Page(NamedTuple):
    """Jobs, and the place behind which the next page begins; None: this was the last page."""

    jobs: list[Job]
    after: Place | None


def _by_turn(job: Job) -> Place:
    return -job.priority, job.order


_PLACES: dict[State, Callable[[Job], Place]] = {
    State.WAITING: _by_turn, State.DELAYED: BY_TIME, State.WAITING_CHILDREN: BY_PUSH, State.ACTIVE: by_delivery,
}  # fmt: skip


def page(queue: Queue, state: State, after: Place | None, limit: int) -> Page:
    """Return up to ``limit`` jobs of ``queue`` in an unfinished ``state`` behind ``after``; None: from the first on.

    Waiting ones come in the order of their delivery, delayed ones by when they get ready, those that wait for others by
    their push, active ones by how long they have been with their holder, longest first. A page of :data:`REPLAY_BYTES` ends early.
    """
    found = list(islice(standing(queue, state, after, limit), limit + 1))
    most = _fitting(found[:limit])
    if len(found) <= most:
        return Page(found, None)
    return Page(found[:most], place_of(found[most - 1]))


def standing(queue: Queue, state: State, after: Place | None, limit: int) -> Iterable[Job]:
    """Iterate over the jobs of :func:`page` with no end but theirs, of active ones one more than ``limit``; nothing may change meanwhile."""
    if state is State.ACTIVE:
        return _active(queue, after, limit)
    if state is State.WAITING:
        return queue.ready.after(after)
    line = queue.line(state)
    return line if after is None else line.after(after)


def place_of(job: Job) -> Place:
    """Return where an unfinished job stands among those of its state."""
    return _PLACES[job.state](job)


def _fitting(jobs: list[Job]) -> int:
    """Return how many of ``jobs`` go into one page: the one that makes it too large is the last."""
    size = 0
    for i, job in enumerate(jobs):
        size += weight(job)
        if size >= REPLAY_BYTES:
            return i + 1
    return len(jobs)


def _active(queue: Queue, after: Place | None, limit: int) -> list[Job]:
    """Return the active jobs behind ``after``, one more than ``limit`` if there are that many."""
    # All are looked at for each page, 10 ms for 100,000, instead of a line that each pull and ack would pay for. They are
    # nearly in order: only a restart on a clock that was set back puts an older one behind a younger one.
    behind = queue.active if after is None else [job for job in queue.active if by_delivery(job) > after]
    return nsmallest(limit + 1, behind, key=by_delivery)
