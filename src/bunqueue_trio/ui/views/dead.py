"""Errors: the dead letters by what they died of, what jobs are tried again after, what those of one error have in common, and how a first retry fares."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import trio

from bunqueue_trio.config import MINUTE_MS
from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.acts import which
from bunqueue_trio.pages.words import count, span
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.groups import ErrorGroup
from bunqueue_trio.protocol.replies import DeadLetter
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.protocol.rerun_replies import RerunView
from bunqueue_trio.ui import charts
from bunqueue_trio.ui.actions import STOP_AT, Bound, bind
from bunqueue_trio.ui.ask import Ask, Screen
from bunqueue_trio.ui.doing import WORKERS_PAGE, dead_letters
from bunqueue_trio.ui.first import first
from bunqueue_trio.ui.payload import common, show
from bunqueue_trio.ui.render import clock_time
from bunqueue_trio.ui.views.queues import of

# For the charts of the page of all, the fullest.
QUEUES_LOOKED = 20
# Dead letters on the page of one error, or of one queue; on the page of all errors, in its queues together: 20 ms.
GROUP_LOOKED = 1000
GROUPS_SHOWN = 100
# Of one error that several queues have, in the list of all.
QUEUES_NAMED = 2
# Each with a chart: 70 KB.
ROWS_SHOWN = 50
# Payloads that are compared.
COMPARED = 100
SHOWN, SHOWN_MORE = 20, 200
# Characters of a fingerprint that are looked for: ours have 12.
FINGERPRINT_MAX = 100
WATCHED = 20
RERUNS_SHOWN = 10
# For the versions of those that work on a queue.
WORKERS_LOOKS = 4
CANCELLED = "cancelled"
"""The group of those that were cancelled: no error, and nothing that a retry of all takes along."""


class Row(NamedTuple):
    """An error, of one queue or of several, as the list shows it."""

    where: str
    group: ErrorGroup
    number: int
    """Dead letters; with none of them it is only what jobs are tried again after."""
    retrying: int
    """Jobs that wait for another attempt."""
    href: str
    chart: Any
    is_new: bool
    """The oldest of them that is kept died within the last quarter of an hour."""


Letters = Mapping[tuple[str, str | None], Sequence[DeadLetter]]
"""The newest dead letters, by queue and fingerprint."""


async def index(ask: Ask) -> Screen:
    """Return the page of all errors, of those of one queue, or of one error in its queues."""
    only, key = ask.query.get("queue", ""), ask.query.get("fingerprint", "")[:FINGERPRINT_MAX]
    looks = (await ask.found())[0].queues
    is_known = not only or any(q.name == only for q in looks)
    dead, dead_in = await first(
        looks, QUEUES_LOOKED, lambda q: q.dead and only in ("", q.name), lambda q: (-q.dead, q.name)
    )
    groups = [each for each in await _groups(ask, only) if key in ("", each.fingerprint)] if is_known else []
    died = await _newest(ask, [queue.name for queue in dead])
    rows: list[Row] = []
    for group in groups:
        names = [only] if only else _queues(group)
        rows += (
            [_row(group, names, died, ask.now)] if not key else [_row(group, [name], died, ask.now) for name in names]
        )
    rows.sort(
        key=lambda row: (row.group.fingerprint == CANCELLED or row.group.mark == "muted", -row.number, -row.retrying)
    )
    shown = rows[:ROWS_SHOWN]
    return Screen(
        "errors.html", "Errors", "errors",
        {
            "rows": shown, "queues": dead, "dead_in": dead_in, "only": only, "one": groups[0] if key and groups else None, "told": sum(row.number for row in shown),
            "total": sum(row.number for row in rows) if key else sum(queue.dead for queue in looks if only in ("", queue.name)),
            "retrying": sum(row.retrying for row in rows), "reruns": await reruns(ask, lambda wanted: only in ("", wanted.get("queue"))),
        },
        live_s=5,
    )  # fmt: skip


async def _groups(ask: Ask, queue: str) -> list[ErrorGroup]:
    """Return the largest groups of errors, of one queue or of all; lets others run between its looks."""
    groups, after = list[ErrorGroup](), None
    while len(groups) < ROWS_SHOWN:
        how: dict[str, Any] = {"limit": GROUPS_SHOWN, "after": after, "retrying": True}
        told = await ask.look(c.DlqGroups(queue=queue, **how) if queue else c.DeadGroups(**how))
        await trio.lowlevel.checkpoint()
        groups, after = groups + told.groups, told.next
        if after is None:
            break
    return groups


async def _newest(ask: Ask, queues: Sequence[str]) -> Letters:
    """Return the newest dead letters of some queues."""
    died: dict[tuple[str, str | None], list[DeadLetter]] = {}
    for name in queues:
        for letter in await dead_letters(ask, name, GROUP_LOOKED // len(queues)):
            died.setdefault((name, letter.fingerprint), []).append(letter)
    return died


def _queues(group: ErrorGroup) -> list[str]:
    """Return the queues that have an error, those with most of its dead letters first."""
    return [*group.queues, *(name for name in group.retrying_queues if name not in group.queues)]


class RerunRow(NamedTuple):
    """A rerun, as the lists show it."""

    view: RerunView
    which: str
    stop: Bound | None


async def reruns(ask: Ask, matches: Callable[[dict[str, Any]], bool]) -> list[RerunRow]:
    """Return the newest reruns whose filter is wanted."""
    rows: list[RerunRow] = []
    for view in (await ask.look(c.ListReruns())).reruns:
        wanted = msgspec.json.decode(view.filter)
        if len(rows) < RERUNS_SHOWN and matches(wanted):
            is_under_way = view.state in ("first", "rest")
            rows.append(
                RerunRow(
                    view, which(wanted, clock_time), bind(ask, "stop-rerun", rerun=view.id) if is_under_way else None
                )
            )
    return rows


def _row(group: ErrorGroup, names: Sequence[str], died: Letters, now: int) -> Row:
    """Return the row of an error in some of its queues."""
    is_all = len(names) > 1
    number = group.count if is_all else group.queues.get(names[0], 0)
    retrying = group.retrying if is_all else group.retrying_queues.get(names[0], 0)
    letters = [letter for name in names for letter in died.get((name, group.fingerprint), ())]
    said = f"deaths a minute within the last hour, {number} in all"
    if len(letters) < number:
        said += f", of the newest {len(letters)}"
    # Without a letter that was looked at it would show that none had died.
    chart = charts.area(_per_minute(letters, now), said, "bad") if letters else ""
    is_known = group.fingerprint == CANCELLED or group.mark is not None or not number
    where = ", ".join(names[:QUEUES_NAMED])
    if len(names) > QUEUES_NAMED:
        where += f" and {count(len(names) - QUEUES_NAMED, 'other queue')}"
    href = f"/ui/errors?{urlencode({'fingerprint': group.fingerprint})}"
    if not is_all:
        href = f"/ui/errors/{segment_of(names[0])}?{urlencode({'fingerprint': group.fingerprint})}"
    return Row(where, group, number, retrying, href, chart, not is_known and now - group.first_seen < 15 * MINUTE_MS)


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
    view, fingerprint = await of(ask), ask.query.get("fingerprint", "")[:FINGERPRINT_MAX]
    letters = await dead_letters(ask, view.name, GROUP_LOOKED, fingerprint)
    told = (await ask.look(c.DlqGroups(queue=view.name, limit=GROUPS_SHOWN, retrying=True))).groups
    group = next((group for group in told if group.fingerprint == fingerprint), None)
    # Of a queue with very many errors the rare ones are not among the first; their newest letter says what they are.
    said = group.shape if group else (letters[0].error or "").partition("\n")[0][:200] if letters else ""
    shown = SHOWN_MORE if ask.query.get("show") == "more" else SHOWN
    about, watched = {"queue": view.name, "fingerprint": fingerprint}, await _watched(ask)
    first_at = group.first_seen if group else letters[-1].entered_at if letters else None
    await trio.lowlevel.checkpoint()
    return Screen(
        "group.html", said or "An error", "errors",
        {
            "queue": view, "reason": letters[0].reason if letters else "", "shape": said, "letters": letters,
            "number": group.queues.get(view.name, group.count) if group else len(letters),
            "is_cut": group is None and len(letters) >= GROUP_LOOKED,
            "first": first_at, "of_workers": await _version(ask, view.name, first_at),
            "common": _common(ask, letters),
            "shown": [(letter, show(letter.job.data, ask.mask, 160)) for letter in letters[:shown]],
            "more": f"/ui/errors/{segment_of(view.name)}?{urlencode({'fingerprint': fingerprint, 'show': 'more'})}" if len(letters) > shown == SHOWN else None,
            "chart": charts.area(_per_minute(letters, ask.now), "deaths a minute within the last hour", "bad"),
            "retrying": group.retrying if group else 0, "next_try_at": group.next_try_at if group else None,
            "mark": group.mark if group else None, "marked_at": group.marked_at if group else None,
            "actions": _actions(ask, about, group.mark if group else None) if letters else [],
            "pause": bind(ask, "resume" if view.paused else "pause", queue=view.name),
            "reruns": await reruns(ask, lambda wanted: wanted == about),
            "watched": watched, "verdict": _verdict(dict(watched)),
        },
        live_s=5,
    )  # fmt: skip


async def _version(ask: Ask, queue: str, first_at: int | None) -> tuple[str, str] | None:
    """Return the newest version of the workers of a queue, and when it came, beside the first death of an error; None where none says one."""
    since: dict[str, int] = {}
    after = None
    for _ in range(WORKERS_LOOKS):
        page = (await ask.look(c.ListWorkers(limit=WORKERS_PAGE, after=after))).data
        for each in page.workers:
            if each.version and queue in each.queues:
                since[each.version] = min(each.registered_at, since.get(each.version, each.registered_at))
        await trio.lowlevel.checkpoint()
        after = page.next
        if after is None:
            break
    if not since or first_at is None:
        return None
    newest = max(since, key=lambda version: since[version])
    early = first_at - since[newest]
    return newest, f"came {span(abs(early))} {'before' if early >= 0 else 'after'} the first"


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


async def _watched(ask: Ask) -> list[tuple[str, int]]:
    """Return in which states the jobs are that were retried first, and how many in each."""
    ids = [each for each in ask.query.get("watch", "").split(",") if each][:WATCHED]
    states: Counter[str] = Counter()
    for job_id in ids:
        try:
            states[(await ask.look(c.GetState(id=job_id))).state] += 1
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
