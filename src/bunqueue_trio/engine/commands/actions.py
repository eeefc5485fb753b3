"""Handlers of the commands about what operators have done."""

import msgspec

from bunqueue_trio.engine.actions import Part, fold
from bunqueue_trio.engine.cursors import trail_place
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.trails import ACTIONS, TrailPage
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.lines import Action

_decode = msgspec.json.Decoder(Action).decode
# Lines read beside those that are wanted; and all that are read where acts were done in slices, in 3 ms.
_MORE, _LINES = 20, 500


def _read(engine: Engine, place: int | None, limit: int, lines: int) -> tuple[TrailPage, Part]:
    page = engine.trail(ACTIONS, "", place, lines, newest=True)
    return page, fold([_decode(line) for _, line in page.lines], limit, is_all=page.next is None)


def _list(engine: Engine, command: c.Actions, now: int, owner: Owner) -> r.Reply:
    place = trail_place(command.after)
    page, part = _read(engine, place, command.limit, command.limit + _MORE)
    if page.next is not None and (part.is_cut or len(part.acts) < command.limit) and len(page.lines) < _LINES:
        page, part = _read(engine, place, command.limit, _LINES)
    is_last = page.next is None and part.lines == len(page.lines)
    after = None if is_last else str(page.lines[part.lines - 1][0])
    return r.ActionsReply(actions=part.acts, total=page.total, next=after)


HANDLERS: Handlers = {c.Actions: _list}
