"""Acts on more jobs than somebody would wait for: they go on by themselves, and a page shows how far they are."""

import secrets
from typing import Any

from msgspec.structs import replace

from bunqueue_trio.config import NO_LIMIT
from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.words import count, done_to
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.errands import Does, Errand, Step
from bunqueue_trio.ui.action import Done
from bunqueue_trio.ui.ask import Ask, Wrong

LARGE = 1000
"""Jobs of which a page says at once what became of them: a second or two."""
STEP = 500
"""Jobs after which it shows more: some slices."""


async def begin_if_large(ask: Ask, command: c.ActOnJobs, title: str, done: str) -> Done | None:
    """Let an act go on by itself if it is on many jobs, and return the page that shows how far it is.

    Raises:
        Refused: it cannot be done, or too many are under way.
    """
    by, core = ask.by, ask.server.core
    tried: Any = await core.execute(replace(command, dry_run=True), by=by)
    if tried.count <= LARGE and tried.next is None:
        return None
    # What is pushed meanwhile stands behind what was there, and nobody has agreed to it. Where there were too many to count there is no end to that.
    rest, left = command, tried.count + sum(tried.refused.values()) if tried.next is None else NO_LIMIT

    async def step() -> Step:
        nonlocal rest, left
        reply: Any = await core.execute(replace(rest, limit=min(STEP, left)), by=by)
        left -= reply.count + sum(reply.refused.values())
        if reply.next is not None:
            rest = replace(rest, after=reply.next)
        return Step(reply.count, reply.refused, reply.next is None or left <= 0, reply.ending)

    return begin(ask, title, done, tried.count, step, is_more=tried.next is not None)


def begin(ask: Ask, title: str, done: str, total: int, step: Does, *, is_more: bool = False) -> Done:
    """Let an act on ``total`` jobs or more go on by itself, and return the page that shows how far it is.

    Raises:
        Refused: too many are under way.
    """
    number = secrets.token_urlsafe(9)
    errand = Errand(number, title, done, ask.by.who, ask.now, total, is_more=is_more)
    ask.server.errands.begin(errand, step)
    return Done("", where=f"/ui/acts/{number}")


async def all_of(step: Does) -> int:
    """Do all steps of an act, and return to how many jobs it was done.

    Raises:
        Refused: it cannot be done.
        Wrong: it was refused after some had been done.
    """
    done = 0
    while True:
        try:
            told = await step()
        except Refused as refused:
            if not done:
                raise
            raise Wrong(f"{refused}; {count(done, 'job was', 'jobs were')} done before", refused.status) from None
        done += told.done
        if told.is_last:
            return done


def says(errand: Errand, why: str) -> str:
    """Return how far it is, or what it has done; ``why`` not to some."""
    if errand.ended_at is None:
        waits = f". It waits, and tries again: {errand.trouble}" if errand.trouble else ""
        of = "" if errand.done >= errand.total else f" of {errand.total:,}{' or more' if errand.is_more else ''}"
        return f"{errand.done:,}{of} {errand.done_is}{why}{waits}"
    ended = f"{done_to(errand.done, errand.ending, errand.done_is)}{why}."
    return f"{ended} It has ended before its end: {errand.trouble}." if errand.trouble else ended
