"""Handlers of the commands by which a holder says how its job goes."""

from collections.abc import Sequence
from typing import Any

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.lookup import held
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _ack(engine: Engine, command: c.Ack, now: int, owner: Owner) -> r.Reply:
    job = held(engine, command.id, command.token, now)
    engine.complete(job, bytes(command.result) or None, now)
    return r.OK


def _ack_batch(engine: Engine, command: c.AckBatch, now: int, owner: Owner) -> r.Reply:
    tokens = _matching("tokens", command.tokens, command.ids)
    results = _matching("results", command.results, command.ids)
    ignored: dict[str, None] = {}
    acked: set[str] = set()
    for job_id, token, result in zip(command.ids, tokens, results, strict=True):
        if job_id in acked:
            continue  # a batch put together from several lists
        try:
            job = held(engine, job_id, token, now)
        except errors.Refused:
            ignored[job_id] = None
        else:
            engine.complete(job, bytes(result or b"") or None, now)
            acked.add(job_id)
            # A worker that got a job back holds it by two tokens, of which one counts.
            ignored.pop(job_id, None)
    return r.DataReply(data={"ignoredIds": list(ignored)}) if ignored else r.OK


def _matching(name: str, values: Sequence[Any] | None, ids: list[str]) -> Sequence[Any]:
    if values is None:
        return (None,) * len(ids)
    if len(values) != len(ids):
        raise errors.INVALID_FIELD.refuse(name, "must be as long as ids")
    return values


def _fail(engine: Engine, command: c.Fail, now: int, owner: Owner) -> r.Reply:
    if command.unrecoverable and command.retry_in is not None:
        raise c.RETRY_EXCLUDED.refuse()
    job = held(engine, command.id, command.token, now)
    error = "Unknown error" if command.error is None else command.error
    if command.unrecoverable:
        engine.give_up(job, error, now)
    else:
        engine.fail(job, error, now, retry_in=command.retry_in)
    return r.OK


def _heartbeat(engine: Engine, command: c.Heartbeat, now: int, owner: Owner) -> r.Reply:
    engine.renew(held(engine, command.id, command.token, now), now, command.duration, owner)
    return r.DataReply(data={"ok": True, "count": 1})


def _heartbeat_batch(engine: Engine, command: c.HeartbeatBatch, now: int, owner: Owner) -> r.Reply:
    tokens = _matching("tokens", command.tokens, command.ids)
    lost: dict[str, None] = {}
    renewed: set[str] = set()
    for job_id, token in zip(command.ids, tokens, strict=True):
        if job_id in renewed:
            continue
        try:
            engine.renew(held(engine, job_id, token, now), now, None, owner)
        except errors.Refused:
            lost[job_id] = None
        else:
            renewed.add(job_id)
            lost.pop(job_id, None)
    data: dict[str, object] = {"ok": True, "count": len(renewed)}
    return r.DataReply(data=data | {"lostIds": list(lost)} if lost else data)


def _extend_lock(engine: Engine, command: c.ExtendLock, now: int, owner: Owner) -> r.Reply:
    engine.renew(held(engine, command.id, command.token, now), now, command.duration, owner)
    return r.OK


def _release(engine: Engine, command: c.Release, now: int, owner: Owner) -> r.Reply:
    engine.release(held(engine, command.id, command.token, now), now)
    return r.OK


def _progress(engine: Engine, command: c.Progress, now: int, owner: Owner) -> r.Reply:
    job = held(engine, command.id, command.token, now)
    job.progress = command.progress
    if command.message is not None:
        job.noted().message = command.message
    engine.renew(job, now, None, owner)
    engine.emit("progress", job, now).progress = command.progress
    return r.OK


HANDLERS: Handlers = {
    c.Ack: _ack,
    c.AckBatch: _ack_batch,
    c.Fail: _fail,
    c.Heartbeat: _heartbeat,
    c.HeartbeatBatch: _heartbeat_batch,
    c.ExtendLock: _extend_lock,
    c.Release: _release,
    c.Progress: _progress,
}
