"""What happened: the newest events that are kept, of all queues or of one."""

from typing import NamedTuple
from urllib.parse import urlencode

import trio
from msgspec import UNSET, Raw

from bunqueue_trio import errors
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.events import ALL_TYPES, EVENT_TYPES, Event
from bunqueue_trio.protocol.surrogates import read
from bunqueue_trio.runtime.hub import Published
from bunqueue_trio.ui.ask import Ask, Screen, Wrong
from bunqueue_trio.ui.payload import show as show_payload

# Of the newest events: what a page of them is chosen from.
LOOKED = 2000
SHOWN = 100
DETAIL_CHARS = 160


class Row(NamedTuple):
    """An event, as the list shows it."""

    event: Event
    detail: str


async def show(ask: Ask) -> Screen:
    """Return the page."""
    queue, kind = ask.query.get("queue", "").strip(), ask.query.get("type", "")
    if queue:
        try:
            ask.server.core.check_queue(queue)
        except Refused as refused:
            raise Wrong(f"{queue[:100]!r} cannot be the name of a queue", errors.INVALID_QUEUE.status) from refused
    if kind and kind not in ALL_TYPES:
        raise Wrong(f"{kind[:100]!r} is no type of an event", 404)
    kept = await _newest(ask, queue or None)
    events = [read(each.body, Event) for each in reversed(kept)]
    chosen = [event for event in events if not kind or event.event_type == kind]
    base = {name: value for name, value in (("queue", queue), ("type", kind)) if value}
    return Screen(
        "events.html", "Events", "events",
        {
            "rows": [Row(event, _detail(event, ask)) for event in chosen[:SHOWN]], "looked": len(events), "found": len(chosen),
            "queue": queue, "kind": kind, "kinds": sorted(EVENT_TYPES), "base": urlencode(base),
        },
        live_s=3,
    )  # fmt: skip


async def _newest(ask: Ask, queue: str | None) -> list[Published]:
    """Return the newest events that are kept; lets others run while it reads them."""
    hub = ask.server.hub
    until = hub.last_event_id
    after, found = max(await hub.first_kept_id() - 1, hub.before_newest(LOOKED)), list[Published]()
    while after < until:
        more, after = await hub.replay(after, until, queue)
        found += more
        await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    return found


def _detail(event: Event, ask: Ask) -> str:
    if event.error is not UNSET:
        return str(event.error)[:DETAIL_CHARS]
    if event.data is not UNSET:
        return show_payload(Raw(event.data), ask.mask, DETAIL_CHARS).text
    for name, value in (("was", event.prev), ("progress", event.progress), ("ms", event.delay)):
        if value is not UNSET:
            return f"{name} {value}"
    return ""
