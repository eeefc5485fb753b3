"""Errors: the dead letters by what they died of, what those of one error have in common, and how a first retry fares."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import trio

from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.acts import which
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.groups import ErrorGroup
from bunqueue_trio.protocol.replies import DeadLetter
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.protocol.rerun_replies import RerunView
from bunqueue_trio.runtime.history import MINUTE_MS
from bunqueue_trio.ui import charts
from bunqueue_trio.ui.actions import STOP_AT, Bound, bind
from bunqueue_trio.ui.ask import Ask, Screen
from bunqueue_trio.ui.doing import dead_letters
from bunqueue_trio.ui.first import first
from bunqueue_trio.ui.payload import common, show
from bunqueue_trio.ui.render import clock_time
from bunqueue_trio.ui.views.queues import of

# On the page of all, the fullest.
QUEUES_LOOKED = 20
# Dead letters on the page of one error, or of one queue; on the page of all errors, in its queues together: 20 ms.
GROUP_LOOKED = 1000
GROUPS_SHOWN = 100
# Each with a chart: 70 KB.
ROWS_SHOWN = 50
# Payloads that are compared.
COMPARED = 100
SHOWN, SHOWN_MORE = 20, 200
# Characters of a fingerprint that are looked for: ours have 12.
FINGERPRINT_MAX = 100
WATCHED = 20
RERUNS_SHOWN = 10
CANCELLED = "cancelled"
"""The group of those that were cancelled: no error, and nothing that a retry of all takes along."""


class Row(NamedTuple):
    """An error of a queue, as the list shows it."""

    queue: str
    group: ErrorGroup
    number: int
    href: str
    chart: Any
    is_new: bool
    """The oldest of them that is kept died within the last quarter of an hour."""


async def index(ask: Ask) -> Screen:
    """Return the page of all errors, or of those of one queue."""
    only = ask.query.get("queue", "")
    looks = (await ask.found())[0].queues
    dead, dead_in = await first(
        looks, QUEUES_LOOKED, lambda q: q.dead and only in ("", q.name), lambda q: (-q.dead, q.name)
    )
    rows: list[Row] = []
    most = GROUP_LOOKED // max(1, len(dead))
    for queue in dead:
        letters = await dead_letters(ask, queue.name, most)
        died: dict[str | None, list[DeadLetter]] = {}
        for letter in letters:
            died.setdefault(letter.fingerprint, []).append(letter)
        told = ask.look(c.DlqGroups(queue=queue.name, limit=GROUPS_SHOWN))
        await trio.lowlevel.checkpoint()
        rows += (_row(queue.name, group, died.get(group.fingerprint, []), ask.now) for group in told.groups)
    rows.sort(key=lambda row: (row.group.fingerprint == CANCELLED or row.group.mark == "muted", -row.number, row.queue))
    shown = rows[:ROWS_SHOWN]
    return Screen(
        "errors.html", "Errors", "errors",
        {
            "rows": shown, "queues": dead, "dead_in": dead_in, "only": only, "looked": QUEUES_LOOKED, "told": sum(row.number for row in shown),
            "total": sum(queue.dead for queue in looks if only in ("", queue.name)), "reruns": reruns(ask, lambda wanted: only in ("", wanted.get("queue"))),
        },
        live_s=5,
    )  # fmt: skip


class RerunRow(NamedTuple):
    """A rerun, as the lists show it."""

    view: RerunView
    which: str
    stop: Bound | None


def reruns(ask: Ask, matches: Callable[[dict[str, Any]], bool]) -> list[RerunRow]:
    """Return the newest reruns whose filter is wanted."""
    rows: list[RerunRow] = []
    for view in ask.look(c.ListReruns()).reruns:
        wanted = msgspec.json.decode(view.filter)
        if len(rows) < RERUNS_SHOWN and matches(wanted):
            is_under_way = view.state in ("first", "rest")
            rows.append(
                RerunRow(
                    view, which(wanted, clock_time), bind(ask, "stop-rerun", rerun=view.id) if is_under_way else None
                )
            )
    return rows


def _row(queue: str, group: ErrorGroup, letters: Sequence[DeadLetter], now: int) -> Row:
    number = group.queues.get(queue, group.count)
    said = f"deaths a minute within the last hour, {number} in all"
    if len(letters) < number:
        said += f", of the newest {len(letters)}"
    chart = charts.area(_per_minute(letters, now), said, "bad")
    is_new = group.fingerprint != CANCELLED and group.mark is None and now - group.first_seen < 15 * MINUTE_MS
    href = f"/ui/errors/{segment_of(queue)}?{urlencode({'fingerprint': group.fingerprint})}"
    return Row(queue, group, number, href, chart, is_new)


def _per_minute(letters: Sequence[DeadLetter], now: int, minutes: int = 60) -> list[int]:
    """Return how many of some dead letters died in each of the last minutes."""
    counts = [0] * minutes
    for letter in letters:
        age = (now - (letter.entered_at or 0)) // MINUTE_MS
        if 0 <= age < minutes:
            counts[minutes - 1 - age] += 1
    return counts


async def one(ask: Ask) -> Screen:
    """Return the page of one error of a queue."""
    view, fingerprint = of(ask), ask.query.get("fingerprint", "")[:FINGERPRINT_MAX]
    letters = await dead_letters(ask, view.name, GROUP_LOOKED, fingerprint)
    told = ask.look(c.DlqGroups(queue=view.name, limit=GROUPS_SHOWN)).groups
    group = next((group for group in told if group.fingerprint == fingerprint), None)
    # Of a queue with very many errors the rare ones are not among the first; their newest letter says what they are.
    said = group.shape if group else (letters[0].error or "").partition("\n")[0][:200] if letters else ""
    shown = SHOWN_MORE if ask.query.get("show") == "more" else SHOWN
    about, watched = {"queue": view.name, "fingerprint": fingerprint}, _watched(ask)
    await trio.lowlevel.checkpoint()
    return Screen(
        "group.html", said or "An error", "errors",
        {
            "queue": view, "reason": letters[0].reason if letters else "", "shape": said, "letters": letters,
            "number": group.queues.get(view.name, group.count) if group else len(letters),
            "is_cut": group is None and len(letters) >= GROUP_LOOKED,
            "first": group.first_seen if group else letters[-1].entered_at if letters else None,
            "common": _common(ask, letters),
            "shown": [(letter, show(letter.job.data, ask.mask, 160)) for letter in letters[:shown]],
            "more": f"/ui/errors/{segment_of(view.name)}?{urlencode({'fingerprint': fingerprint, 'show': 'more'})}" if len(letters) > shown == SHOWN else None,
            "chart": charts.area(_per_minute(letters, ask.now), "deaths a minute within the last hour", "bad"),
            "mark": group.mark if group else None, "marked_at": group.marked_at if group else None,
            "actions": _actions(ask, about, group.mark if group else None) if letters else [],
            "pause": bind(ask, "resume" if view.paused else "pause", queue=view.name),
            "reruns": reruns(ask, lambda wanted: wanted == about),
            "watched": watched, "verdict": _verdict(dict(watched)),
        },
        live_s=5,
    )  # fmt: skip


def _actions(ask: Ask, about: dict[str, str], mark: str | None) -> list[Any]:
    if about["fingerprint"] == CANCELLED:
        return [bind(ask, "purge-group", **about)]
    marks = {
        None: ("fix-group", "mute-group"),
        "fixed": ("unmark-group",),
        "muted": ("unmark-group",),
        "back": ("fix-group", "unmark-group"),
    }
    names = ("rerun-group", "retry-group", "purge-group", *marks[mark])
    return [bind(ask, name, **about) for name in names]


def _common(ask: Ask, letters: Sequence[DeadLetter]) -> list[tuple[str, str]]:
    """Return what all of the newest letters have in common, as name and value."""
    some = list(letters)[:COMPARED]
    if len(some) < 2:
        return []
    found = [(each.what, each.value) for each in common([letter.job.data for letter in some], ask.mask)]
    tags = set.intersection(*(set(letter.job.tags) for letter in some))
    found += [("tag", tag) for tag in sorted(tags)[:5]]
    attempts = {letter.job.attempts for letter in some}
    if len(attempts) == 1:
        found.append(("attempts", str(next(iter(attempts)))))
    return found


def _watched(ask: Ask) -> list[tuple[str, int]]:
    """Return in which states the jobs are that were retried first, and how many in each."""
    ids = [each for each in ask.query.get("watch", "").split(",") if each][:WATCHED]
    states: Counter[str] = Counter()
    for job_id in ids:
        try:
            states[ask.look(c.GetState(id=job_id)).state] += 1
        except Refused:
            states["gone"] += 1
    return states.most_common()


def _verdict(states: dict[str, int]) -> tuple[str, str]:
    """Return what the fate of those that were retried first means for the others, and whether that is good or bad."""
    total, died = sum(states.values()), states.get("failed", 0)
    ended = died + states.get("completed", 0) + states.get("gone", 0)
    if died * 100 > STOP_AT * total:
        return (
            "bad",
            f"{died:,} of {total:,} died again: leave the others where they are, and look at the newest error.",
        )
    if ended < total:
        return "", f"{total - ended:,} of {total:,} have not ended yet: wait for them before you retry the others."
    return "good", f"{total - died:,} of {total:,} did not die again: the others can be retried."
