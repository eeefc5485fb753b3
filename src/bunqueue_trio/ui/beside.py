"""What stands on *Now* beside the findings, made once for all who look: the fullest queues, and what operators have done within the hour."""

from collections.abc import Sequence
from typing import NamedTuple, cast

from bunqueue_trio.config import HOUR_MS
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.pages import acts
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.replies import ActionsReply
from bunqueue_trio.runtime.picture import QueueLook
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.ui.first import first

FULLEST = 8
# Acts that are shown.
ACTS = 3


class Lately(NamedTuple):
    """An act: when, by whom, what, and to what."""

    at: int
    who: str
    what: str
    of: str


class Beside(NamedTuple):
    """All of it."""

    fullest: Sequence[QueueLook]
    lately: Sequence[Lately]
    """Newest first: who is woken may not be the only one."""


async def beside(server: Server) -> Beside:
    """Return it; lets others run while it looks at the queues."""
    queues = await server.look_at_queues()
    fullest, _ = await first(queues, FULLEST, lambda q: q.jobs, lambda q: (-q.waiting - q.active, -q.dead, q.name))
    return Beside(fullest, await _lately(server))


async def _lately(server: Server) -> Sequence[Lately]:
    try:
        told = cast("ActionsReply", await server.core.peek(c.Actions(limit=ACTS))).actions
    except (Refused, StoreError):
        # What is wrong is to be seen, whatever the disk does.
        return ()
    since = server.clock.now() - HOUR_MS
    return [Lately(act.at, act.who, acts.what(act), acts.of(act)) for act in told if act.at > since]
