"""Handlers of the commands that give jobs to those who work on them."""

from msgspec import UNSET, Raw

from bunqueue_trio.config import DELIVERED_BYTES
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.workers import Worker
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


def _pull(engine: Engine, command: c.Pull, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    worker = engine.workers.heard(owner, command.owner, now)
    if worker is not None and worker.quiet_since is not None:
        return r.EMPTY_PULL
    taken = _take(engine, command.queue, now, command.lock_ttl, owner, worker)
    if taken is None:
        return r.EMPTY_PULL
    return r.PullReply(job=taken[0], token=taken[1])


def _pull_batch(engine: Engine, command: c.PullBatch, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    reply, size = r.PullBatchReply(jobs=[], tokens=[]), 0
    worker = engine.workers.heard(owner, command.owner, now)
    if worker is not None and worker.quiet_since is not None:
        return reply
    # Deliveries are answered before their commit, so nothing else bounds how large that is, and others wait for it.
    room = min(engine.rules.pull_bytes, DELIVERED_BYTES - engine.delivered_bytes)
    while len(reply.jobs) < command.count and (size < room or not reply.jobs):
        taken = _take(engine, command.queue, now, command.lock_ttl, owner, worker)
        if taken is None:
            break
        reply.jobs.append(taken[0])
        reply.tokens.append(taken[1])
        size += len(memoryview(taken[0].data))
    engine.delivered_bytes += size
    return reply


def _take(
    engine: Engine, name: str, now: int, lock_ttl: int | None, owner: Owner, worker: Worker | None
) -> tuple[r.DeliveredJob, str] | None:
    queue = engine.queues.get(name)
    if queue is None:
        return None
    gate = engine.gates.get(name)
    if gate is not None and not gate.is_open(len(queue.active)):
        return None
    while (job := queue.ready.peek()) is not None and job.due is not None and job.due <= now:
        if engine.left <= 0:
            # More is over than one step works off: the pull declines, and those who wait are served later.
            return None
        engine.left -= 1
        # Its TTL is over.
        engine.settle(job, now)
    if job is None:
        return None
    queue.ready.take(job)
    lease = engine.deliver(job, now, lock_ttl, owner, worker)
    if gate is not None and engine.gates.note_delivery(name, now):
        # A crash must not forget that it is out, so its holder hears of it only when that is committed.
        engine.handed = engine.epoch
    if not queue.ready:
        engine.emit("drained", job, now)
    view = r.DeliveredJob(
        job.id, name, Raw(job.data), job.priority, job.created_at, job.attempts,
        job.options.max_attempts, job.progress, job.options.name or UNSET,
    )  # fmt: skip
    return view, lease.token


HANDLERS: Handlers = {
    c.Pull: _pull,
    c.PullBatch: _pull_batch,
}
