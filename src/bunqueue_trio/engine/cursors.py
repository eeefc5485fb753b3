"""Pages of the jobs of a queue, and of trails, by the cursors that clients send back: a place as text, of no meaning to them."""

import re
from collections.abc import Iterator
from itertools import chain

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.find import has_come
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.listing import page, place_of, standing
from bunqueue_trio.engine.queue import Queue
from bunqueue_trio.protocol import commands as c

# This many digits fit the integers of the store, and no number of ours has more.
_ENDED_PLACE = re.compile(r"([0-9]{1,18})")
_PLACE = re.compile(r"(-?[0-9]{1,18}),(-?[0-9]{1,18})")
_STATED = re.compile(r"([a-z]+),(.*)", re.DOTALL)


def ended_page(engine: Engine, queue: str, state: State, after: str | None, limit: int) -> tuple[list[Job], str | None]:
    """Return finished jobs of a queue behind the cursor ``after``, newest end first, and the cursor of the next page.

    Raises:
        Refused: no queue has such a name, or no page such a cursor.
    """
    engine.queues.check(queue)
    place = _place(after, _ENDED_PLACE)
    records = engine.ended(queue, state, place[0] if place else None, limit)
    return records.jobs, None if records.before is None else str(records.before)


def oldest_dead(engine: Engine, queue: str, after: str | None, limit: int, now: int) -> tuple[list[Job], str | None]:
    """Return the same of dead letters, oldest end first, and none that has died since the first page was asked for.

    Raises:
        Refused: as :func:`ended_page`.
    """
    engine.queues.check(queue)
    place = _place(after, _PLACE)
    begin, as_of = place or (None, now)
    records = engine.ended(queue, State.FAILED, begin, limit, oldest=True)
    jobs = [job for job in records.jobs if not has_come(job, as_of, now)]
    return jobs, None if records.before is None else f"{records.before},{as_of}"


def unfinished_page(
    engine: Engine, name: str, state: State, after: str | None, limit: int
) -> tuple[list[Job], str | None]:
    """Return the same of unfinished jobs, in the order of :func:`page`.

    Raises:
        Refused: as :func:`ended_page`.
    """
    engine.queues.check(name)
    place = _place(after, _PLACE)
    queue = engine.queues.get(name)
    if queue is None:
        return [], None
    found = page(queue, state, (place[0], place[1]) if place else None, limit)
    return found.jobs, None if found.after is None else f"{found.after[0]},{found.after[1]}"


def behind(queue: Queue | None, states: tuple[State, ...], after: str | None) -> Iterator[Job]:
    """Return the unfinished jobs of a queue in ``states``, one after the other, behind the cursor ``after``; nothing may change meanwhile.

    Raises:
        Refused: it is no cursor of these states.
    """
    begun, first = states, None
    if after is not None:
        found = _STATED.fullmatch(after)
        names = [state.value for state in states]
        if found is None or found[1] not in names:
            raise c.NOT_A_PLACE.refuse()
        place, begun = _place(found[2], _PLACE), states[names.index(found[1]) :]
        first = (place[0], place[1])
    if queue is None:
        return iter(())
    return chain.from_iterable(standing(queue, state, None if i else first, 0) for i, state in enumerate(begun))


def cursor_of(job: Job) -> str:
    """Return the cursor of :func:`behind` whose page begins behind ``job``."""
    return ",".join((job.state.value, *map(str, place_of(job))))


def trail_page(
    engine: Engine, kind: str, key: str, after: str | None, limit: int, *, newest: bool
) -> tuple[list[bytes], int, str | None]:
    """Return lines of a trail, how many it has, and the cursor of the next page; as of the last commit.

    Raises:
        Refused: no page has such a cursor.
    """
    page = engine.trail(kind, key, trail_place(after), limit, newest=newest)
    return [body for _, body in page.lines], page.total, None if page.next is None else str(page.next)


def trail_place(after: str | None) -> int | None:
    """Return the number of the line behind which a page begins; None: at the newest, or the oldest.

    Raises:
        Refused: no page has such a cursor.
    """
    place = _place(after, _ENDED_PLACE)
    return place[0] if place else None


def _place(after: str | None, form: re.Pattern[str]) -> tuple[int, ...]:
    """Return the numbers in a cursor; none: from the first job on."""
    if after is None:
        return ()
    found = form.fullmatch(after)
    if found is None:
        raise c.NOT_A_PLACE.refuse()
    return tuple(map(int, found.groups()))
