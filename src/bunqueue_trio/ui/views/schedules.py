"""Schedules: what brings jobs by itself, when each does so next, and what became of its past slots."""

from typing import Any
from urllib.parse import urlencode

import trio
from msgspec import Raw

from bunqueue_trio.errors import Refused
from bunqueue_trio.pages import words
from bunqueue_trio.pages.schedule_findings import troubles
from bunqueue_trio.pages.words import count
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.protocol.scheduled import ScheduleView
from bunqueue_trio.ui.actions import bind
from bunqueue_trio.ui.ask import Ask, Screen, Wrong
from bunqueue_trio.ui.payload import show

# Each with its payload, of which some are large.
PAGE = 25
PAST = 20
UPCOMING = 5


async def index(ask: Ask) -> Screen:
    """Return a page of all schedules, and behind them of the jobs that repeat."""
    after = ask.query.get("after", "")
    told = await ask.look(c.ListSchedules(limit=PAGE, after=after[:1000] or None))
    await trio.lowlevel.checkpoint()
    more = None if told.next is None else f"/ui/schedules?{urlencode({'after': told.next})}"
    picture, _ = await ask.found()
    trouble = troubles(picture.told.schedules)
    return Screen(
        "schedules.html", "Schedules", "schedules",
        {
            "rows": [(each, when(each), href(each.name), trouble.get(each.name)) for each in told.schedules], "repeats": told.repeats,
            "more": more, "begins": not after,
        },
        live_s=5,
    )  # fmt: skip


async def one(ask: Ask) -> Screen:
    """Return the page of one schedule: its next runs, and what became of the slots behind it."""
    name, before = ask.values["name"], ask.query.get("before", "")
    try:
        each = (await ask.look(c.GetSchedule(name=name))).schedule
        runs = await ask.look(c.GetScheduleRuns(name=name, next=UPCOMING, limit=PAST, before=before[:1000] or None))
    except Refused as refused:
        if refused.status == 503:
            raise
        raise Wrong(f"{name[:200]}: {refused}", refused.status) from None
    _, found = await ask.found()
    await trio.lowlevel.checkpoint()
    goes_on = "resume-schedule" if each.state == "paused" else "pause-schedule"
    # An empty object is what was put by who wanted nothing special.
    options = show(each.options, ask.mask) if bytes(each.options) not in (b"{}", b"null") else None
    return Screen(
        "schedule.html", name, "schedules",
        {
            "each": each, "found": [one for one in found if one.schedule == name], "when": when(each), "facts": _facts(each), "upcoming": runs.upcoming, "past": runs.past,
            "data": show(Raw(bytes(each.data) or b"null"), ask.mask), "options": options, "begins": not before, "base": href(name),
            "more": None if runs.next is None else f"{href(name)}?{urlencode({'before': runs.next})}",
            "actions": [bind(ask, act, name=name) for act in ("run-schedule", goes_on, "delete-schedule")],
        },
        live_s=5,
    )  # fmt: skip


def href(name: str) -> str:
    """Return the address of the page of a schedule."""
    return f"/ui/schedules/{segment_of(name)}"


def when(each: ScheduleView) -> str:
    """Return when a schedule runs, in words."""
    if each.cron is not None:
        return each.cron
    return "once" if each.every is None else f"every {words.whole(each.every)}"


_MISFIRES = {
    "skip": "a slot that was missed is left out",
    "once": "if slots were missed, the last of them runs",
    "all": "slots that were missed run, at most {0.misfire_max}",
}
_OVERLAPS = {
    "allow": "it runs beside the jobs before",
    "skip": "a slot is left out while a job before has not ended",
    "queue": "one slot waits for the end of all jobs before",
    "cancel": "the jobs before are cancelled",
}


def _facts(each: ScheduleView) -> list[tuple[str, Any]]:
    """Return what else was said of a schedule, as words and times in epoch ms."""
    found: list[tuple[str, Any]] = [
        ("When it was missed", _MISFIRES[each.misfire].format(each)), ("When the job before runs", _OVERLAPS[each.overlap]),
    ]  # fmt: skip
    if each.window is not None:
        found.append(("Too late after", words.whole(each.window)))
    if each.jitter:
        found.append(("Spread over", words.whole(each.jitter)))
    if each.limit is not None:
        found.append(("Runs at most", count(each.limit, "time")))
    if each.source is not None:
        found.append(("Declared by", each.source))
    return found
