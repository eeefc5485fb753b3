"""Actions: what operators have done, when, to what, and how many jobs it has changed."""

from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
import trio

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import catalog
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.lines import Action
from bunqueue_trio.ui.actions import ACTIONS, Bound, bind
from bunqueue_trio.ui.ask import Ask, Screen, Wrong
from bunqueue_trio.ui.payload import show as show_payload

SHOWN = 50
PAGE = 100  # lines that are read at once: each is decoded
LOOKED = 2000  # of the newest, or behind the cursor: what a page is chosen from
FIELDS_CHARS = 300

ACTS = tuple(sorted(catalog.SPECS[kind].tag for kind in catalog.ACTS))
"""The commands that are written down."""

_COUNTERS = {
    "Pause": ("Resume", "resume"), "QuietWorker": ("UnquietWorker", "unquiet"), "PauseSchedule": ("ResumeSchedule", "resume-schedule"),
    "SetConcurrency": ("ClearConcurrency", "unlimit"), "RateLimit": ("RateLimitClear", "unrate"), "Cancel": ("RetryDlq", "retry"),
}  # fmt: skip
"""Act → the act that takes it back, and the action that does so."""


class Row(NamedTuple):
    """An act, as the list shows it."""

    act: Action
    fields: str
    schedule: str
    """That it was done to; empty if it was done to none."""
    undo: Bound | None
    """What takes it back, if nobody has since."""


async def show(ask: Ask) -> Screen:
    """Return a page of the acts that are looked for, newest first."""
    wanted = {name: ask.query.get(name, "").strip() for name in ("who", "what", "of")}
    rows, after, looked = list[Row](), ask.query.get("after", "")[:1000] or None, 0
    begins, total, later = after is None, 0, set[tuple[str, ...]]()
    while len(rows) < SHOWN and looked < LOOKED:
        # No more than a page may have, so that the cursor is behind the last that was looked at.
        limit = PAGE if any(wanted.values()) else SHOWN
        try:
            told = ask.look(c.Actions(limit=limit, after=after))
        except Refused as refused:
            if refused.status == 503:
                raise
            raise Wrong("There is no such page", refused.status) from None
        await trio.lowlevel.checkpoint()
        total, after, looked = told.total, told.next, looked + len(told.actions)
        for act in told.actions:
            undo = _undo(ask, act, later) if begins else None
            if _is_wanted(act, wanted):
                rows.append(Row(act, _fields(ask, act), _schedule(act), undo))
        if after is None:
            break
    more = (
        None if after is None else f"/ui/actions?{urlencode({k: v for k, v in wanted.items() if v} | {'after': after})}"
    )
    return Screen(
        "actions.html", "Actions", "actions",
        {
            "rows": rows, "total": total, "looked": looked, "more": more, "begins": begins, "kinds": ACTS,
            "is_filtered": any(wanted.values()), **wanted,
        },
        live_s=5 if begins else 0,
    )  # fmt: skip


def _is_wanted(act: Action, wanted: dict[str, str]) -> bool:
    if wanted["what"] and act.command != wanted["what"]:
        return False
    if wanted["who"] and wanted["who"] not in (act.who, act.address):
        return False
    about = (act.queue, act.job, act.worker, *(str(value) for value in act.fields.values()))
    return not wanted["of"] or wanted["of"] in about


def _schedule(act: Action) -> str:
    return str(act.fields.get("name", "")) if act.command.endswith("Schedule") else ""


def _undo(ask: Ask, act: Action, later: set[tuple[str, ...]]) -> Bound | None:
    """Return what takes an act back; ``later`` has the acts that came after it, and gets this one."""
    about = {"name": _schedule(act), "id": act.worker or act.job or "", "queue": act.queue or ""}
    counter, name = _COUNTERS.get(act.command, ("", ""))
    is_over = not {(each, *about.values()) for each in (counter, act.command)}.isdisjoint(later)
    later.add((act.command, *about.values()))
    if not name or is_over or not act.count:
        return None
    wanted = ACTIONS[name].about
    return bind(ask, name, "Undo", **{key: about[key] for key in wanted}) if all(about[key] for key in wanted) else None


def _fields(ask: Ask, act: Action) -> str:
    if not act.fields:
        return ""
    shown = show_payload(msgspec.json.encode(act.fields), ask.mask, FIELDS_CHARS)
    return shown.text + ("…" if shown.is_cut else "")
