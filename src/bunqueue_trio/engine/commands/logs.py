"""Handlers of the commands about the log of a job."""

import msgspec

from bunqueue_trio.engine.cursors import trail_page
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.lookup import found, unfinished
from bunqueue_trio.engine.trails import LOG
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import trail_replies as tr
from bunqueue_trio.protocol.lines import LogLine, LogPage

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LogLine).decode


def _add(engine: Engine, command: c.AddLog, now: int, owner: Owner) -> r.Reply:
    line = _encode(LogLine(timestamp=now, level=command.level, message=command.message))
    job = unfinished(engine, command.id, now)
    if job is None:
        found(engine, command.id, now)
        engine.trails.add(LOG, command.id, now, line, of_record=True)
    else:
        if not job.noted().logged:
            job.noted().logged = True
            engine.changed[job] = None
        engine.trails.add(LOG, job.id, now, line)
    return r.DataReply(data={"added": True})


def _get(engine: Engine, command: c.GetLogs, now: int, owner: Owner) -> r.Reply:
    job = found(engine, command.id, now)
    lines, count, after = trail_page(engine, LOG, job.id, command.after, command.limit, newest=False)
    return tr.LogsReply(data=LogPage(logs=[_decode(line) for line in lines], count=count, next=after))


def _clear(engine: Engine, command: c.ClearLogs, now: int, owner: Owner) -> r.Reply:
    job = found(engine, command.id, now)
    engine.acted = engine.trail(LOG, job.id, None, 1, newest=False).total > 0 or engine.trails.waits(job.id, LOG)
    if engine.acted:
        engine.trails.cut(job.id, LOG)
    return r.OK


HANDLERS: Handlers = {c.AddLog: _add, c.GetLogs: _get, c.ClearLogs: _clear}
