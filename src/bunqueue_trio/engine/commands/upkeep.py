"""Handlers of the commands about the file of the store."""

from functools import partial

from msgspec.structs import replace

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.server_replies import UpkeepReply


def _begin(
    kind: str, engine: Engine, command: c.BackupStorage | c.CheckStorage | c.ShrinkStorage, now: int, owner: Owner
) -> r.Reply:
    upkeep = engine.upkeep
    planned = upkeep.plan(kind)
    if command.dry_run:
        engine.acted = False
        return UpkeepReply(work=planned)
    if (other := upkeep.under_way) is not None:
        raise c.UPKEEP_BUSY.refuse(other.kind)
    # What goes on is another one when the answer is sent.
    return UpkeepReply(work=replace(upkeep.begin(planned, engine.by, now)))


HANDLERS: Handlers = {
    c.BackupStorage: partial(_begin, "backup"),
    c.CheckStorage: partial(_begin, "check"),
    c.ShrinkStorage: partial(_begin, "shrink"),
}
