"""Handlers of the commands about what operators have done."""

import msgspec

from bunqueue_trio.engine.cursors import trail_page
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.trails import ACTIONS
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.lines import Action

_decode = msgspec.json.Decoder(Action).decode


def _list(engine: Engine, command: c.Actions, now: int, owner: Owner) -> r.Reply:
    lines, total, after = trail_page(engine, ACTIONS, "", command.after, command.limit, newest=True)
    return r.ActionsReply(actions=[_decode(line) for line in lines], total=total, next=after)


HANDLERS: Handlers = {c.Actions: _list}
