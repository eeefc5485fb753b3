"""What happened in a window of time: how much, by the minute and by queue, and the events, acts, starts and stops in it."""

import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import trio
from msgspec import UNSET, Raw

from bunqueue_trio import errors
from bunqueue_trio.api.downloads import EventLog, Wanted, is_of
from bunqueue_trio.config import DAY_MS, MINUTE_MS, REPLAY_EVENTS
from bunqueue_trio.errors import Refused
from bunqueue_trio.pages import acts
from bunqueue_trio.pages.words import Given, line
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.events import EVENT_TYPES, Event
from bunqueue_trio.protocol.lines import Action
from bunqueue_trio.protocol.surrogates import read as read_json
from bunqueue_trio.runtime.happened import Window
from bunqueue_trio.ui import charts
from bunqueue_trio.ui.ask import Ask, Saves, Screen, Wrong
from bunqueue_trio.ui.payload import MASK
from bunqueue_trio.ui.payload import show as show_payload
from bunqueue_trio.ui.render import clock_time
from bunqueue_trio.ui.window import Range, read

SHOWN = 50
# Of events and acts together: a night of single acts would make the page heavy.
ROWS_MAX = 100
# Reads of the store for one page, each of some hundred events and about 1 ms.
LOOKS = 12
# Acts of operators, of the newest: who looks further back finds them on their own page.
ACTS_LOOKED, ACTS_PAGE = 2000, 100
QUEUES_SHOWN = 20
POINTS_MAX = 60
DETAIL_CHARS = 160
ACT, SERVER = "act", "server"
"""What is no type of an event, and stands among them."""
KINDS = (*sorted(EVENT_TYPES), ACT, SERVER)
_LONG = (("15 min", "15m"), ("hour", "1h"), ("day", "1d"))
_LINES = (
    ("pushed", "Pushed", "ink"), ("completed", "Completed", "good"), ("failed", "Attempts failed", "bad"),
    ("stalled", "Stalled", "bad"), ("retried", "Retried", "ink"),
)  # fmt: skip
"""Field of what is counted, what it is called, and its tone."""


class Row(NamedTuple):
    """Something that happened, as the list shows it."""

    at: int
    kind: str
    what: str
    queue: str = ""
    job: str = ""
    detail: str = ""


class Look(NamedTuple):
    """What somebody looks for."""

    window: Range
    queue: str
    kind: str
    job: str

    def query(self, window: Range | None = None) -> str:
        """Return the query of a page of it, in another window if one is given."""
        rest = {"queue": self.queue, "type": self.kind, "job": self.job}
        said = urlencode({name: value for name, value in rest.items() if value})
        return "&".join(filter(None, [(window or self.window).address, said]))


class _Page(NamedTuple):
    """Some of the events by id, newest first, and the id up to which the next page goes; None: these are all."""

    events: dict[int, Event]
    next: int | None


async def show(ask: Ask) -> Screen:
    """Return the page."""
    look = _look(ask)
    window, queue = look.window, look.queue or None
    server = ask.server
    place, upper = _cursor(ask, window)
    counted = window
    if window.is_open and server.look_back.noted_at:
        # The minute that goes on is not counted yet: a window that is open ends before it.
        counted = window.moved(server.look_back.noted_at - window.until)
    here = await server.look_back.between(counted.since, counted.until, queue)
    before = await server.look_back.between(counted.since - DAY_MS, counted.until - DAY_MS, queue)
    page = await _page(ask, look, place)
    lower = window.since if page.next is None else [*page.events.values()][-1].timestamp if page.events else upper
    rows = [_row(event, ask) for event in page.events.values()]
    rows += [*await _acts(ask, look, lower, upper), *_lives(ask, look, lower, upper)]
    rows.sort(key=lambda row: -row.at)
    upto = page.next
    if len(rows) > ROWS_MAX:
        lower = rows[ROWS_MAX - 1].at
        rows = [row for row in rows if row.at >= lower]
        upto = next((place for place, event in page.events.items() if event.timestamp < lower), page.next or 0)
    base = f"/ui/events?{look.query()}"
    more = None if upto is None else f"{base}&{urlencode({'before': f'{upto}-{lower}'})}"
    return Screen(
        "events.html", "Events", "events",
        {
            "rows": rows, "more": more, "begins": place is None, "base": base, "look": look, "kinds": KINDS,
            "since": ask.query.get("since", ""), "until": ask.query.get("until", ""),
            "tiles": await _tiles(counted, here, before), "queues": _queues(here, before), "figures_since": here.since, "unit": here.unit,
            "kept_since": await server.hub.kept_since() if await server.hub.first_kept_id() > 1 else 0, "links": _links(look), "export": f"/ui/export/events?{look.query()}",
            "cli": _cli(look), "stream": _stream(ask, look), "has_before": bool(before.line),
        },
        live_s=5 if window.is_open and place is None else 0,
    )  # fmt: skip


async def export(ask: Ask) -> Saves:
    """Return all events of a window as a file, an event a line."""
    look = _look(ask)
    types = frozenset({look.kind}) & EVENT_TYPES if look.kind else EVENT_TYPES
    wanted = Wanted(look.window.since, look.window.end, look.queue or None, types, look.job or None)
    return Saves("events.jsonl", await EventLog(ask.server, wanted, ask.hides).begun())


def _look(ask: Ask) -> Look:
    queue, kind, job = (ask.query.get(name, "").strip() for name in ("queue", "type", "job"))
    if queue:
        try:
            ask.server.core.check_queue(queue)
        except Refused as refused:
            raise Wrong(f"{queue[:100]!r} cannot be the name of a queue", errors.INVALID_QUEUE.status) from refused
    if kind and kind not in KINDS:
        raise Wrong(f"{kind[:100]!r} is no type of an event", 404)
    return Look(read(ask.query, ask.now), queue, kind, job[:256])


def _cursor(ask: Ask, window: Range) -> tuple[int | None, int]:
    """Return up to which event a page goes, and before which moment; None: the first page."""
    said = ask.query.get("before", "")
    if not said:
        return None, window.end
    place, _, upper = said.partition("-")
    if not (place.isascii() and place.isdigit() and upper.isascii() and upper.isdigit() and len(said) < 40):
        raise Wrong("There is no such page")
    return int(place), int(upper)


async def _page(ask: Ask, look: Look, place: int | None) -> _Page:
    """Return a page of the events that are looked for; lets others run while it reads them."""
    hub, window = ask.server.hub, look.window
    types = frozenset({look.kind}) & EVENT_TYPES if look.kind else EVENT_TYPES
    if not types:
        return _Page({}, None)
    begin = max(await hub.first_kept_id() - 1, await hub.place_of(window.since))
    high = min(hub.last_event_id, await hub.end_of(window.end) if place is None else place)
    found: dict[int, Event] = {}
    step = REPLAY_EVENTS
    for _ in range(LOOKS):
        if high <= begin:
            break
        low = max(begin, hub.before(high, step))
        kept, reached = await hub.replay(
            after=low, until=high, queue=look.queue or None, types=types, since=window.since, before=window.end
        )
        await trio.lowlevel.checkpoint()
        if reached < high:
            # They are large: fewer of them are read at once.
            step = max(1, reached - low)
            continue
        for each in reversed(kept):
            if not is_of(each.body, look.job or None):
                continue
            if len(found) == SHOWN:
                return _Page(found, each.id)
            found[each.id] = read_json(each.body, Event)
        await trio.lowlevel.checkpoint()
        high = low
    return _Page(found, None if high <= begin else high)


def _row(event: Event, ask: Ask) -> Row:
    return Row(
        event.timestamp, event.event_type, event.event_type, event.queue, event.job_id, _detail(event, ask)
    )  # fmt: skip


def _detail(event: Event, ask: Ask) -> str:
    if event.error is not UNSET:
        return str(event.error)[:DETAIL_CHARS]
    if event.data is not UNSET:
        return show_payload(Raw(event.data), ask.mask, DETAIL_CHARS).text
    for name, value in (("was", event.prev), ("progress", event.progress), ("ms", event.delay)):
        if value is not UNSET:
            return f"{name} {value}"
    return ""


async def _acts(ask: Ask, look: Look, lower: int, upper: int) -> list[Row]:
    """Return the acts of operators between two moments, of the newest that are kept."""
    if look.kind not in ("", ACT):
        return []
    found, after, looked = list[Action](), None, 0
    while looked < ACTS_LOOKED:
        told: Any = await ask.look(c.Actions(limit=ACTS_PAGE, after=after))
        await trio.lowlevel.checkpoint()
        found += [act for act in told.actions if lower <= act.at < upper]
        looked, after = looked + len(told.actions), told.next
        if after is None or told.actions[-1].at < lower:
            break
    return [
        Row(
            act.at,
            ACT,
            acts.what(act),
            acts.queue_of(act),
            act.job or "",
            "; ".join(filter(None, [f"by {act.who}", _how(ask, act)])),
        )
        for act in found
        if look.queue in ("", acts.queue_of(act)) and look.job in ("", act.job)
    ]


def _how(ask: Ask, act: Action) -> str:
    hidden = {name: MASK for name in act.fields if name.lower() in ask.mask}
    shown = Action(
        at=act.at, who=act.who, address=act.address, command=act.command, queue=act.queue, job=act.job, worker=act.worker,
        fields={**act.fields, **hidden}, count=act.count, before=act.before,
    )  # fmt: skip
    return acts.how(shown, clock_time)[:DETAIL_CHARS]


def _lives(ask: Ask, look: Look, lower: int, upper: int) -> list[Row]:
    """Return the starts and stops of servers between two moments."""
    if look.kind not in ("", SERVER) or look.job:
        return []
    rows, is_first, has_stopped = [], True, True
    for life in ask.server.lives():
        where = f"{life.host}, process {life.process}, version {life.version}"
        lost = "" if has_stopped or is_first else "; the one before it has not stopped in order"
        rows.append(Row(life.began, SERVER, "server started", detail=where + lost))
        if life.ended is not None:
            rows.append(Row(life.ended, SERVER, "server stopped", detail=where))
        is_first, has_stopped = False, life.ended is not None
    return [row for row in rows if lower <= row.at < upper]


async def _tiles(window: Range, here: Window, before: Window) -> list[tuple[str, str, Any, str]]:
    """Return what was counted: its name, how many, its line with that of a day before, and how many there were then; lets others run."""
    made = []
    for i, (_, label, tone) in enumerate(_LINES, 1):
        # A day has 1,440 minutes: 2 ms each.
        now = _points(window, here, i)
        await trio.lowlevel.checkpoint()
        then = _points(window.moved(-DAY_MS), before, i)
        await trio.lowlevel.checkpoint()
        total, was = sum(each[i] for each in here.line), sum(each[i] for each in before.line)
        if not (total or was or i <= 3):
            continue
        said = f"{label}, a minute, {len(now)} points; {total:,} in all, {was:,} a day before"
        chart = charts.area(now, said, tone, then if any(then) else ()) if len(now) > 1 else ""
        made.append((label, f"{total:,}", chart, f"yesterday {was:,}" if before.line else ""))
    return made


def _points(window: Range, told: Window, field: int) -> list[float]:
    """Return how many there were in a minute, at even distances; what was counted in a period is spread over it."""
    if not told.line:
        return []
    length = window.until - window.since
    width = max(told.unit, -(-length // POINTS_MAX // MINUTE_MS) * MINUTE_MS)
    points = [0.0] * max(1, -(-length // width))
    for each in told.line:
        begin, end = max(each.at - told.unit, window.since), min(each.at, window.until)
        place = begin
        while place < end:
            n = (place - window.since) // width
            upto = min(end, window.since + (n + 1) * width)
            points[n] += each[field] * (upto - place) / told.unit * MINUTE_MS / width
            place = upto
    return points


def _queues(here: Window, before: Window) -> list[tuple[str, list[float], list[float]]]:
    """Return the queues in which most happened: what came, was done and failed a minute, and the same a day before."""

    def rates(told: Window, name: str) -> list[float]:
        sums = told.queues.get(name)
        return [0.0] * 3 if sums is None else [n * MINUTE_MS / told.covers for n in sums[1:4]]

    names = sorted(here.queues.keys() | before.queues.keys())
    rows = [(name, rates(here, name), rates(before, name)) for name in names]
    rows = [row for row in rows if any(row[1]) or any(row[2])]
    return sorted(rows, key=lambda row: -sum(row[1]) or -sum(row[2]))[:QUEUES_SHOWN]


def _links(look: Look) -> list[tuple[str, str]]:
    """Return other windows: their names and addresses."""
    window = look.window
    length = window.until - window.since
    rest = {name: value for name, value in (("queue", look.queue), ("type", look.kind), ("job", look.job)) if value}
    found = [
        (f"Last {name}", f"/ui/events?{urlencode({'since': text} | rest)}") for name, text in _LONG
    ]  # fmt: skip
    found += [
        ("Earlier", f"/ui/events?{look.query(window.moved(-length))}"),
        ("Later", f"/ui/events?{look.query(window.moved(length))}"),
        ("The day before", f"/ui/events?{look.query(window.moved(-DAY_MS))}"),
        ("Link to this window", f"/ui/events?{look.query()}"),
    ]
    return [each for each in found if each[0] != "Later" or not window.is_open]


def _stream(ask: Ask, look: Look) -> str:
    """Return the curl that tells the same from the beginning of the window on, and what comes, as a stream."""
    wanted = {"since": ask.now - look.window.since} | ({"queue": look.queue} if look.queue else {})
    wanted |= {"types": look.kind} if look.kind in EVENT_TYPES else {}
    token = '-H "Authorization: Bearer $BUNQUEUE_TOKEN" ' if ask.server.settings.auth_tokens else ""
    return f"curl -N {token}{shlex.quote(f'{ask.base}/events?{urlencode(wanted)}')}"


def _cli(look: Look) -> str:
    """Return the command line that tells the events of the window."""
    given: Sequence[tuple[str, str]] = (
        ("--queue", look.queue),
        ("--type", look.kind if look.kind in EVENT_TYPES else ""),
        ("--job", look.job),
    )
    words = [word for name, value in given if value for word in (name, Given(value))]
    begin, end = look.window.seconds
    return line("events", "--since", clock_time(begin), "--until", clock_time(end), *words)
