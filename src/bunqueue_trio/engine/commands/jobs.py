"""Handlers of the commands that look at many jobs at once."""

import re

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import UNFINISHED, Job, State
from bunqueue_trio.engine.listing import page
from bunqueue_trio.engine.lookup import view_fields
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r

_STATES = {state.value: state for state in (*UNFINISHED, State.COMPLETED, State.FAILED)}
# So many digits fit the integers of the store, and no number of ours has more.
_ENDED_PLACE = re.compile(r"([0-9]{1,18})")
_PLACE = re.compile(r"(-?[0-9]{1,18}),(-?[0-9]{1,18})")


def _get_jobs(engine: Engine, command: c.GetJobs, now: int, owner: Owner) -> r.Reply:
    state = _STATES.get(command.state)
    if state is None:
        raise c.UNKNOWN_STATE.refuse()
    if state not in UNFINISHED:
        jobs, after = ended_page(engine, command.queue, state, command.after, command.limit)
    else:
        jobs, after = _unfinished_page(engine, command.queue, state, command.after, command.limit)
    listed = [
        r.ListedJob(**view_fields(job), state=job.state.value, error=job.note.error if job.note else None)
        for job in jobs
    ]  # fmt: skip
    return r.JobsReply(jobs=listed, next=after)


def ended_page(engine: Engine, queue: str, state: State, after: str | None, limit: int) -> tuple[list[Job], str | None]:
    """Return finished jobs of a queue behind the cursor ``after``, newest end first, and the cursor of the next page.

    Raises:
        Refused: no queue has such a name, or no page such a cursor.
    """
    engine.queues.check(queue)
    place = _place(after, _ENDED_PLACE)
    records = engine.ended(queue, state, place[0] if place else None, limit)
    return records.jobs, None if records.before is None else str(records.before)


def _unfinished_page(
    engine: Engine, name: str, state: State, after: str | None, limit: int
) -> tuple[list[Job], str | None]:
    engine.queues.check(name)
    place = _place(after, _PLACE)
    queue = engine.queues.get(name)
    if queue is None:
        return [], None
    found = page(queue, state, (place[0], place[1]) if place else None, limit)
    return found.jobs, None if found.after is None else f"{found.after[0]},{found.after[1]}"


def _place(after: str | None, form: re.Pattern[str]) -> tuple[int, ...]:
    """Return the numbers in a cursor; none: from the first job on."""
    if after is None:
        return ()
    found = form.fullmatch(after)
    if found is None:
        raise c.NOT_A_PLACE.refuse()
    return tuple(map(int, found.groups()))


HANDLERS: Handlers = {c.GetJobs: _get_jobs}
