"""Handlers of the commands about a queue as a whole."""

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _pause(engine: Engine, command: c.Pause, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    if command.until is not None and command.until <= now:
        raise errors.INVALID_FIELD.refuse("until", "must be later than now")
    engine.gates.pause(command.queue, now, command.reason, command.until)
    return r.OK


def _resume(engine: Engine, command: c.Resume, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    if engine.gates.resume(command.queue):
        engine.woken[command.queue] = None
    return r.OK


def _is_paused(engine: Engine, command: c.IsPaused, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    gate = engine.gates.get(command.queue)
    pause = None if gate is None else gate.pause
    if pause is None:
        return r.PausedReply(paused=False)
    return r.PausedReply(paused=True, reason=pause.reason, since=pause.since, until=pause.until)


HANDLERS: Handlers = {
    c.Pause: _pause,
    c.Resume: _resume,
    c.IsPaused: _is_paused,
}
