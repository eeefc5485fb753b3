"""Runs the scenario on both servers and puts together what differs, route by route; says what nobody has declared."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from bunqueue_trio.protocol.catalog import COMMANDS, SPECS
from bunqueue_trio.protocol.routes import ROUTES
from trials.compat import notes
from trials.compat.asking import Heard, ask_http, ask_websocket, events_of, listening, stream_of
from trials.compat.differences import Difference, compare, compare_shapes, never_filled, refusals, without_status
from trials.compat.original import commands_of, routes_of
from trials.compat.scenario import SCENARIO, STREAMS
from trials.compat.shapes import Answer, Shape
from trials.lib.servers import Kind, Server, running

Pairs = list[tuple[str, Answer, Answer]]
"""Title of a call, what the original answered, what this server did."""


class Spoken(NamedTuple):
    """Everything that one server said."""

    http: Heard
    websocket: Heard
    events: dict[str, Shape]
    streams: dict[str, list[Answer]]


class Row(NamedTuple):
    """One route, or one command that has none."""

    route: str
    here: str | None
    """The command, or the page, that has the same route here."""
    gives: tuple[str, ...]
    """The outermost fields of a success there."""
    http: Difference
    websocket: Difference | None
    """None: it is not there over a WebSocket, or not here."""

    @property
    def differs(self) -> bool:
        """Tell whether there is any difference."""
        return self.here is None or bool(self.http) or bool(self.websocket)


@dataclass
class Comparison:
    """How the two servers differ."""

    rows: list[Row]
    refusals: Difference
    events: dict[str, Difference | str]
    """By type; a text says who alone has it."""
    missing: list[str]
    """Commands of the original that are not here."""
    problems: list[str] = field(default_factory=list)
    """What makes the comparison less than it says: something was not asked, or not declared."""


def here() -> dict[str, str]:
    """Return of each route of the original, as the scenario calls it, which command or page it is here."""
    targets = {
        _bare(f"{route.method} {route.path}"): route.target
        if isinstance(route.target, str)
        else SPECS[route.target].tag
        for route in ROUTES
    }
    asked = dict.fromkeys([call.route for call in SCENARIO] + list(STREAMS))
    return {
        route: targets[_bare(route)] if " " in route else route
        for route in asked
        if (_bare(route) in targets if " " in route else route in COMMANDS)
    }


def _bare(route: str) -> str:
    return re.sub(r":\w+", ":", route)


def compare_servers(original: Kind, ours: Kind) -> Comparison:
    """Run both beside each other, ask both, and compare."""
    with running(original) as theirs, running(ours) as own, ThreadPoolExecutor(2) as pool:
        there, said = pool.map(ask, (theirs, own))
        return put_together(there, said, routes_of(original, theirs), commands_of(original))


def ask(server: Server) -> Spoken:
    """Return everything that a server says to the scenario."""
    targets = here()
    with listening(server) as socket:
        http = ask_http(server, targets)
        websocket = ask_websocket(server, {route: target for route, target in targets.items() if target in COMMANDS})
        events = events_of(server, socket)
    return Spoken(http, websocket, events, {route: stream_of(server, route) for route in STREAMS})


def put_together(there: Spoken, said: Spoken, routes: set[str], commands: set[str]) -> Comparison:
    """Compare what was said; ``routes`` and ``commands`` are what the original has."""
    targets = here()
    http, websocket = _pairs(there.http, said.http), _pairs(there.websocket, said.websocket)
    for route in STREAMS:
        http[route] = list(zip(("the first message", "a push"), there.streams[route], said.streams[route], strict=True))
    rows = []
    problems = []
    for route in dict.fromkeys([call.route for call in SCENARIO] + list(STREAMS)):
        if route not in targets:
            rows.append(Row(route, None, _gives(there.http, route), Difference(), None))
            continue
        by_http = compare(http.get(route, []))
        by_websocket = compare(websocket[route]) if route in websocket else None
        rows.append(Row(route, targets[route], (), by_http, by_websocket))
        lists = never_filled([*http.get(route, []), *websocket.get(route, [])])
        problems += [f"{route}: `{path}` has something in it on one side only" for path in sorted(lists)]
    events = _compare_events(there.events, said.events)
    missing = sorted(commands - COMMANDS.keys())
    found = Comparison(rows, refusals(http), events, missing, problems)
    found.problems += unasked(routes, commands) + undeclared(found)
    return found


def _pairs(there: Heard, said: Heard) -> dict[str, Pairs]:
    pairs: dict[str, Pairs] = {}
    for place, call in enumerate(SCENARIO):
        if place in there and place in said:
            pairs.setdefault(call.route, []).append((call.title, there[place], said[place]))
    return pairs


def _gives(there: Heard, route: str) -> tuple[str, ...]:
    answers = [there[place] for place, call in enumerate(SCENARIO) if call.route == route and place in there]
    shapes = [answer.shape for answer in answers if answer.is_good]
    if any(shape[""] == "list" for shape in shapes):
        return ("a list",)
    return tuple(
        dict.fromkeys(path for shape in shapes for path in shape if path and "." not in path and "[" not in path)
    )


def _compare_events(there: Mapping[str, Shape], said: Mapping[str, Shape]) -> dict[str, Difference | str]:
    found: dict[str, Difference | str] = {}
    for kind in sorted(there.keys() | said.keys()):
        if kind in there and kind in said:
            found[kind] = compare_shapes(there[kind], said[kind])
        else:
            found[kind] = "there" if kind in there else "here"
    return found


def unasked(routes: set[str], commands: set[str]) -> list[str]:
    """Return what the original has and the scenario leaves out."""
    asked = {_bare(call.route) for call in SCENARIO}
    problems = [f"{route}: the original has it, and nobody asks for it" for route in sorted(routes - asked)]
    sent = set(here().values())
    return problems + [
        f"{name}: both have the command, and nobody sends it" for name in sorted(commands & COMMANDS.keys() - sent)
    ]


def undeclared(found: Comparison) -> list[str]:
    """Return what differs and has no sentence that says why, and sentences about what is not there."""
    rows = {row.route: row for row in found.rows}
    problems = [
        f"{route}: it differs, and nothing says why"
        for route, row in rows.items()
        if row.differs and route not in notes.WHY
    ]
    problems += [f"{route}: a sentence is about it, but nobody asks for it" for route in notes.WHY if route not in rows]
    problems += [
        f"event {kind}: it differs, and nothing says why"
        for kind, difference in found.events.items()
        if difference and kind not in notes.EVENTS
    ]
    problems += [
        f"event {kind}: a sentence is about it, but it does not differ"
        for kind in notes.EVENTS
        if not found.events.get(kind)
    ]
    if found.refusals != Difference(only_here=notes.REFUSALS):
        problems.append(f"a refusal has other fields: {found.refusals}")
    told = [name for names in notes.MISSING.values() for name in names]
    problems += [
        f"{name}: a command that is not here, and nothing says why" for name in found.missing if name not in told
    ]
    problems += [f"{name}: said to be missing, and it is not" for name in told if name not in found.missing]
    return problems


def split(row: Row) -> tuple[Difference, Difference, Difference]:
    """Return what differs over both, over HTTP alone, and over a WebSocket alone."""
    if row.websocket is None:
        return row.http, Difference(), Difference()
    if " " not in row.route:
        return row.websocket, Difference(), Difference()
    bare = without_status(row.http)
    # A status that differs while both refuse is nothing that a WebSocket could show.
    both = (row.http & row.websocket) | _with_outcomes(row.http, row.websocket)
    return both, row.http - both, row.websocket - bare


def _with_outcomes(http: Difference, websocket: Difference) -> Difference:
    """Return the outcomes over HTTP that a WebSocket agrees with, or cannot show."""
    bare = {outcome[0]: outcome for outcome in without_status(http).outcomes}
    return Difference(outcomes={o for o in http.outcomes if o[0] not in bare or bare[o[0]] in websocket.outcomes})
