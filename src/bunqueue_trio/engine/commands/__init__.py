"""What each command means: one function a command, by theme, and the table that finds it."""

from bunqueue_trio.config import ADVANCE_MAX
from bunqueue_trio.engine.actions import note_action, note_push, worker_of
from bunqueue_trio.engine.before import before
from bunqueue_trio.engine.commands import (
    actions,
    clear,
    configs,
    crons,
    dead,
    deliver,
    find,
    jobs,
    logs,
    look,
    manage,
    push,
    queues,
    report,
    reruns,
    schedules,
    upkeep,
    workers,
)
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.protocol import catalog
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import SERVER, By

HANDLERS: Handlers = {
    **push.HANDLERS,
    **deliver.HANDLERS,
    **look.HANDLERS,
    **logs.HANDLERS,
    **jobs.HANDLERS,
    **dead.HANDLERS,
    **manage.HANDLERS,
    **report.HANDLERS,
    **reruns.HANDLERS,
    **queues.HANDLERS,
    **configs.HANDLERS,
    **clear.HANDLERS,
    **actions.HANDLERS,
    **schedules.HANDLERS,
    **find.HANDLERS,
    **workers.HANDLERS,
    **crons.HANDLERS,
    **upkeep.HANDLERS,
}
"""What this server can do with jobs."""

assert set(HANDLERS) == set(catalog.SPECS) - catalog.SESSION, (
    "each command of the catalogue has one handler, and no other"
)


def apply(engine: Engine, command: c.Command, now: int, owner: Owner = None, by: By = SERVER) -> r.Reply:
    """Run ``command`` at ``now`` for the connection ``owner`` and return its reply.

    Deadlines that have passed take effect first, so a command never sees a state that is over.

    Raises:
        Refused: the command cannot be honoured and has changed nothing.
    """
    if engine.is_due(now):
        engine.advance(now)
    return run(engine, command, now, owner, by)


def run(
    engine: Engine, command: c.Command, now: int, owner: Owner, by: By = SERVER, said: c.Command | None = None,
) -> r.Reply:  # fmt: skip
    """Run ``command``, which ``by`` has sent, or which is the first slice of what they ``said``; what is due by ``now`` has taken effect already.

    Raises:
        Refused: as :func:`apply`.
    """
    engine.left = 0 if engine.is_full else ADVANCE_MAX
    kind = type(command)
    if kind not in catalog.ACTS:
        reply = HANDLERS[kind](engine, command, now, owner)
        if by.by_hand:
            note_push(engine, command, reply, now, by)
        return reply
    engine.acted, engine.by = None, None if by is SERVER else by.who
    worker = worker_of(engine, command)
    was = before(engine, command, lambda get: HANDLERS[type(get)](engine, get, now, None))
    reply = HANDLERS[kind](engine, command, now, owner)
    note_action(engine, said or command, reply, now, by, was, worker)
    return reply
