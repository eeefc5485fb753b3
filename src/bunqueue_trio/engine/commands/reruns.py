"""Handlers of the commands about reruns."""

import msgspec
from msgspec import Raw

from bunqueue_trio.config import RERUNS_MAX
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.find import states_of
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import State
from bunqueue_trio.engine.rerunning import Asked, first_of, is_asked_for, why
from bunqueue_trio.engine.reruns import STOPPED, Rerun
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import rerun_replies as rr


def _start(engine: Engine, command: c.RerunDlq, now: int, owner: Owner) -> r.Reply:
    wanted = command.filter
    if not any(getattr(wanted, name) for name in wanted.__struct_fields__):
        raise c.EMPTY_FILTER.refuse()
    if states_of(wanted.state, (State.FAILED,)) != [State.FAILED]:
        raise c.UNKNOWN_STATE.refuse()
    if len(engine.reruns.under_way()) >= RERUNS_MAX:
        raise c.TOO_MANY_RERUNS.refuse()
    one = Rerun(
        id=engine.new_id(now), filter=wanted, count=command.count, rate=command.rate, stop_at=command.stop_at, started_at=now,
    )  # fmt: skip
    jobs, has_more = first_of(engine, one)
    if not (jobs or has_more):
        raise c.NOTHING_DEAD.refuse()
    for name in {job.queue: None for job in jobs}:
        gate = engine.gates.get(name)
        if gate is not None and gate.pause is not None:
            raise c.QUEUE_PAUSED.refuse(name)
        if not (command.force or is_asked_for(engine, name, now)):
            raise c.NOBODY_ASKS.refuse(name)
    engine.reruns.add(one)
    return rr.RerunReply(rerun=_view(engine, one, now, Asked(engine, now)))


def _list(engine: Engine, command: c.ListReruns, now: int, owner: Owner) -> r.Reply:
    asked = Asked(engine, now)
    return rr.RerunsReply(reruns=[_view(engine, one, now, asked) for one in reversed(engine.reruns.values())])


def _stop(engine: Engine, command: c.StopRerun, now: int, owner: Owner) -> r.Reply:
    one = engine.reruns.get(command.rerun)
    if one is None:
        raise c.RERUN_NOT_FOUND.refuse()
    engine.acted = one.is_under_way
    if one.is_under_way:
        one.end(STOPPED, "somebody stopped it", now)
        engine.reruns.note(one)
    return rr.RerunReply(rerun=_view(engine, one, now, Asked(engine, now)))


def _view(engine: Engine, one: Rerun, now: int, asked: Asked) -> rr.RerunView:
    return rr.RerunView(
        id=one.id, filter=Raw(msgspec.json.encode(one.filter)), count=one.count, rate=one.rate, stop_at=one.stop_at, state=one.state,
        why=why(engine, one, now, asked), started_at=one.started_at, ended_at=one.ended_at, retried=one.retried, open=one.open,
        died=one.died, refused=dict(one.refused),
    )  # fmt: skip


HANDLERS: Handlers = {c.RerunDlq: _start, c.ListReruns: _list, c.StopRerun: _stop}
