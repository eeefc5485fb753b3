"""Actions: what operators have done, when, to what, and how many jobs it has changed."""

from typing import NamedTuple
from urllib.parse import urlencode

import trio
from msgspec.structs import replace

from bunqueue_trio.errors import Refused
from bunqueue_trio.pages import acts
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.lines import Action
from bunqueue_trio.ui.actions import Bound
from bunqueue_trio.ui.ask import Ask, Screen, Wrong
from bunqueue_trio.ui.errands import says
from bunqueue_trio.ui.payload import MASK
from bunqueue_trio.ui.render import clock_time
from bunqueue_trio.ui.undo import undo

SHOWN = 50
# Lines that are read at once: each is decoded.
PAGE = 100
# Of the newest, or behind the cursor: what a page is chosen from.
LOOKED = 2000
FIELDS_CHARS = 300


class Row(NamedTuple):
    """An act, as the list shows it."""

    act: Action
    what: str
    """As the command line calls it."""
    how: str
    of: str
    """What it was done to: of these the schedule, or else the queue, if it is one."""
    schedule: str
    queue: str
    undo: Bound | None
    """What takes it back, if nobody has since."""


async def show(ask: Ask) -> Screen:
    """Return a page of the acts that are looked for, newest first."""
    wanted = {name: ask.query.get(name, "").strip() for name in ("who", "what", "of")}
    if wanted["what"] and not acts.is_kind(wanted["what"]):
        raise Wrong(f"{wanted['what'][:100]!r} is nothing that can be done", 404)
    rows, after, looked = list[Row](), ask.query.get("after", "")[:1000] or None, 0
    begins, total, later = after is None, 0, set[tuple[str, str]]()
    while len(rows) < SHOWN and looked < LOOKED:
        # No more than a page may have, so that the cursor is behind the last that was looked at.
        limit = PAGE if any(wanted.values()) else SHOWN
        try:
            told = await ask.look(c.Actions(limit=limit, after=after))
        except Refused as refused:
            if refused.status == 503:
                raise
            raise Wrong("There is no such page", refused.status) from None
        await trio.lowlevel.checkpoint()
        total, after, looked = told.total, told.next, looked + len(told.actions)
        for act in told.actions:
            back = await undo(ask, act, later) if begins else None
            if acts.is_wanted(act, wanted["who"], wanted["what"], wanted["of"]):
                rows.append(
                    Row(
                        act,
                        acts.what(act),
                        _how(ask, act),
                        acts.of(act),
                        acts.schedule_of(act),
                        acts.queue_of(act),
                        back,
                    )
                )
        if after is None:
            break
    more = (
        None if after is None else f"/ui/actions?{urlencode({k: v for k, v in wanted.items() if v} | {'after': after})}"
    )
    return Screen(
        "actions.html", "Actions", "actions",
        {
            "rows": rows, "total": total, "looked": looked, "more": more, "begins": begins, "kinds": acts.KINDS,
            "is_filtered": any(wanted.values()), "errands": [(each, says(each, "")) for each in ask.server.errands.all()] if begins else [], **wanted,
        },
        live_s=5 if begins else 0,
    )  # fmt: skip


def _how(ask: Ask, act: Action) -> str:
    """Return what was said, the values of the keys that are hidden apart."""
    hidden = {name: MASK for name in act.fields if name.lower() in ask.mask}
    text = acts.how(replace(act, fields={**act.fields, **hidden}), clock_time)
    return text if len(text) <= FIELDS_CHARS else text[:FIELDS_CHARS] + "…"
