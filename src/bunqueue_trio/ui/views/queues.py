"""Queues: all of them, and one."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice, pairwise
from typing import Any
from urllib.parse import urlencode

import msgspec
import trio

from bunqueue_trio import errors
from bunqueue_trio.config import MINUTE_MS
from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.queue_settings import GROUPS, Told, tell_limits
from bunqueue_trio.pages.words import count, span
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.queue_replies import FigureView, QueueView
from bunqueue_trio.runtime.history import Past, QueueMinute
from bunqueue_trio.runtime.picture import QueueLook
from bunqueue_trio.ui import charts
from bunqueue_trio.ui.actions import bind
from bunqueue_trio.ui.ask import Ask, Screen, Wrong
from bunqueue_trio.ui.doing import told_of
from bunqueue_trio.ui.first import first

PAGE = 50
# Names that are compared with a name of which there is no queue.
COMPARED_MAX = 100
# Of the newest: who has said something longer ago is not told.
ACTS_LOOKED, ACTS_PAGE = 500, 100
STATES = ("waiting", "delayed", "waiting-children", "active", "completed", "failed")


ORDERS: Mapping[str, tuple[str, Callable[[QueueLook], int]]] = {
    "fullest": ("fullest first", lambda q: -q.jobs),
    "oldest": ("longest wait first", lambda q: sys.maxsize if q.oldest_ready_at is None else q.oldest_ready_at),
    "failed": ("most failed first", lambda q: -q.dead),
}
"""What the queues are ordered by beside their names: as a choice, and the place of one."""


async def index(ask: Ask) -> Screen:
    """Return the page of all queues: by name with a cursor, or the fullest first."""
    text, by = ask.query.get("q", "").strip(), ask.query.get("by", "name")
    told, _ = await ask.found()
    picture, past = told.queues, told.past
    after = None
    if by in ORDERS:
        place = ORDERS[by][1]
        shown, found = await first(picture, PAGE, lambda q: text in q.name, lambda q: (place(q), q.name))
    else:
        behind = ask.query.get("after", "")
        shown, found = await first(picture, PAGE, lambda q: text in q.name and q.name > behind, lambda q: q.name)
        after = shown[-1].name if found > PAGE else None
    lines = {q.name: [m.waiting for m in past.queues.get(q.name, ())] for q in shown}
    more = f"/ui/queues?{urlencode({'q': text, 'after': after})}" if after is not None else None
    return Screen(
        "queues.html", "Queues", "queues",
        {
            "shown": shown, "total": len(picture), "found": found, "text": text, "by": by, "orders": [(each, label) for each, (label, _) in ORDERS.items()], "more": more,
            "lines": {name: line for name, line in lines.items() if len(line) > 1},
            "begins": not ask.query.get("after"),
        },
        live_s=3,
    )  # fmt: skip


async def one(ask: Ask) -> Screen:
    """Return the page of one queue."""
    view = await of(ask)
    name = view.name
    rates = (await ask.look(c.GetCountsPerPriority(queue=name))).counts
    picture, found = await ask.found()
    line = picture.past.queues.get(name, ())
    told = await ask.look(c.GetFigures(queue=name))
    settings = await _settings(ask, name)
    is_unknown = not (
        any(view.counts.values()) or view.pulls_waiting or any(each.is_set for each in settings) or view.paused
    )
    return Screen(
        "queue.html", name, "queues",
        {
            "queue": view, "found": [each for each in found if each.queue == name], "priorities": list(rates.items())[:12],
            "states": [(state, view.counts[state]) for state in STATES], "charts": _charts(told.minutes, MINUTE_MS, 60, "minute", view, ask.now),
            "week": _charts(told.hours, 60 * MINUTE_MS, 168, "hour", view, ask.now), "actions": _actions(ask, view, {each.setting.group for each in settings if each.is_set}),
            "is_unknown": is_unknown and not told.hours, "meant": _meant(name, picture.queues) if is_unknown else None,
            "lately": _lately(line), "died": _died(picture.past, name, ask.now), "took": next((m for m in reversed(told.minutes) if m.p50 is not None), None), "settings": settings, "own": sum(each.is_set for each in settings),
        },
        live_s=3,
    )  # fmt: skip


def _meant(name: str, queues: Sequence[QueueLook]) -> str | None:
    """Return the queue whose name is most like this one, of those that are about as long; a comparison takes 20 µs."""
    names = (each.name for each in queues if abs(len(each.name) - len(name)) <= 2 and each.name != name)
    return next(iter(get_close_matches(name, [*islice(names, COMPARED_MAX)], n=1)), None)


async def of(ask: Ask) -> QueueView:
    """Return the queue that the path names.

    Raises:
        Wrong: nothing can have this name.
    """
    try:
        return (await ask.look(c.GetQueue(queue=ask.queue))).queue
    except Refused as refused:
        if refused.code != errors.INVALID_QUEUE.code:
            raise
        raise Wrong(f"{ask.queue[:100]!r} cannot be the name of a queue", 404) from None


async def _settings(ask: Ask, name: str) -> list[Told]:
    """Return how a queue treats its jobs, and who has said so, where that is among the newest acts."""
    view = msgspec.to_builtins((await ask.look(c.GetQueue(queue=name))).queue)
    told, acts, after = [*await told_of(ask, name), *tell_limits(view, name, ())], list[Any](), None
    while any(each.is_set for each in told) and len(acts) < ACTS_LOOKED:
        page = await ask.look(c.Actions(limit=ACTS_PAGE, after=after))
        acts += page.actions
        after = page.next
        await trio.lowlevel.checkpoint()
        if after is None:
            break
    known = [msgspec.to_builtins(act) for act in acts if act.queue == name]
    return [*await told_of(ask, name, known), *tell_limits(view, name, known)] if known else told


def _actions(ask: Ask, view: QueueView, own: Collection[str]) -> dict[str, list[Any]]:
    name = view.name
    flow = [bind(ask, "resume", queue=name) if view.paused else bind(ask, "pause", queue=name)]
    flow.append(bind(ask, "limit", queue=name))
    if view.concurrency is not None:
        flow.append(bind(ask, "unlimit", queue=name))
    flow.append(bind(ask, "rate", queue=name))
    if view.rate_limit is not None:
        flow.append(bind(ask, "unrate", queue=name))
    dead = [bind(ask, "retry-all", queue=name), bind(ask, "purge-all", queue=name)] if view.counts["failed"] else []
    settings = [bind(ask, f"set-{group}", queue=name) for group in GROUPS]
    settings += [bind(ask, f"reset-{group}", queue=name) for group in GROUPS if group in own]
    return {
        "flow": flow,
        "dead": dead,
        "settings": settings,
        "remove": [bind(ask, "drain", queue=name), bind(ask, "clean", queue=name)],
    }


_FIGURES: tuple[tuple[str, str, str, str], ...] = (
    ("In", "pushed", "ink", ""), ("Done", "completed", "good", ""), ("Attempts failed", "failed", "bad", ""),
    ("Waiting", "waiting", "ink", "job"), ("Oldest waiting", "oldest", "ink", "ms"), ("95 % ran at most", "p95", "ink", "ms"),
)  # fmt: skip
"""For each figure of a period: its label, its field, its tone and its unit; an empty unit is the period's own."""


def _died(past: Past, name: str, now: int) -> int:
    """Return how many died within the hour, those of the minute that goes on, too."""
    return sum(minute.died for minute in past.of(name, now - 60 * MINUTE_MS)) + past.died.get(name, 0)


def _charts(
    periods: Sequence[FigureView], unit_ms: int, most: int, unit: str, view: QueueView, now: int
) -> list[tuple[str, Any, str, str]]:
    """Return the charts of the last periods, gaps and all; each with its label, its last value, and of when that is."""
    present = {"waiting": view.counts["waiting"], "oldest": now - (view.oldest_ready_at or now)}
    found = {(now - each.at) // unit_ms: each for each in periods}
    ages = [age for age in found if age < most]
    if len(ages) < 2:
        return []
    line = [found.get(age) for age in range(max(ages), -1, -1)]
    if line[-1] is None:
        # Its end is still to come.
        line.pop()
    made = []
    for label, name, tone, of in _FIGURES:
        # What comes and goes in a period is not known before its end: what was so far would look like a fall.
        whole = line[:-1] if not of and line[-1] is not None and line[-1].at % unit_ms and unit_ms > MINUTE_MS else line
        values = [(getattr(each, name) or 0) if each is not None else 0 for each in whole]
        value = present.get(name, values[-1])
        last = span(value) if of == "ms" else count(value, of) if of else f"{value:,}"
        when = "now" if name in present else f"in the last {unit}" if of else f"in the last whole {unit}"
        said = f"{label}, last {len(values)} {'whole ' if len(whole) < len(line) else ''}{unit}s; {last} {when}"
        made.append((label, charts.area(values, said, tone), last, when))
    return made


def _lately(line: Sequence[QueueMinute]) -> dict[str, float] | None:
    """Return how a queue went in the last five minutes, by the minute; None when nothing is known."""
    last = list(line)[-5:]
    if len(last) < 2:
        return None
    seconds = (last[-1].at - last[0].at) / 60_000 or 1
    comes, goes = sum(m.pushed for m in last[1:]) / seconds, sum(m.completed for m in last[1:]) / seconds
    falls = (last[0].waiting - last[-1].waiting) / seconds
    empty = last[-1].waiting / falls if falls > 0 and all(a.waiting >= b.waiting for a, b in pairwise(last)) else None
    return {"comes": comes, "goes": goes} | ({"empty_ms": empty * 60_000} if empty else {})
