"""Handlers of the commands about workers."""

from itertools import islice
from typing import Any

import msgspec

from bunqueue_trio.config import (
    USUAL_MIN,
    WORKER_JOBS_PAGE,
    WORKER_JOBS_SHOWN,
    WORKER_MESSAGE_CHARS,
    WORKER_PAGE_CHARS,
    WORKER_QUEUES_BYTES,
    WORKERS_MAX,
)
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.figures import part
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.workers import Worker
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import worker_replies as wr

_encode = msgspec.json.Encoder().encode
_names = msgspec.json.Decoder(list[str]).decode


class _Usual:
    """How long jobs run, of the queues of one answer: each is summed up once."""

    def __init__(self, engine: Engine) -> None:
        self._figures = engine.figures
        self._known: dict[str, int | None] = {}

    def of(self, queue: str) -> int | None:
        """Return what 95 of 100 jobs of a queue took at most within the last hour; None: too few ran."""
        if queue not in self._known:
            lately = self._figures.lately(queue)
            ran = lately is not None and sum(lately.runs.values()) >= USUAL_MIN
            self._known[queue] = part(lately.runs, 0.95) if lately is not None and ran else None
        return self._known[queue]


def _register(engine: Engine, command: c.RegisterWorker, now: int, owner: Owner) -> r.Reply:
    workers = engine.workers
    worker_id = command.worker_id or workers.id_of(owner, None) or engine.new_id(now)
    worker = workers.register(worker_id, owner, now)
    if worker is None:
        raise c.TOO_MANY_WORKERS.refuse(WORKERS_MAX)
    workers.slots += command.concurrency - worker.concurrency
    worker.name = command.name or worker.name
    worker.queues, worker.concurrency = _encode(_first(command.queues, WORKER_QUEUES_BYTES)), command.concurrency
    worker.hostname, worker.pid, worker.version = command.hostname, command.pid, command.version
    if command.started_at is not None:
        worker.registered_at = command.started_at
    return wr.WorkerReply(data=wr.RegisteredWorker(worker_id=worker.id, **_view(worker, now, _Usual(engine))))


def _first(names: list[str], room: int) -> list[str]:
    """Return the first of some names that have room together, in bytes."""
    for i, name in enumerate(names):
        room -= len(name.encode())
        if room < 0:
            return names[:i]
    return names


def _heartbeat(engine: Engine, command: c.WorkerHeartbeat, now: int, owner: Owner) -> r.Reply:
    _known(engine, command.id).heard_at = now
    return r.DataReply(data={"ok": True})


def _list(engine: Engine, command: c.ListWorkers, now: int, owner: Owner) -> r.Reply:
    workers, shown, following = engine.workers, list[wr.WorkerView](), None
    left, room, usual = WORKER_JOBS_PAGE, WORKER_PAGE_CHARS, _Usual(engine)
    for worker_id in workers.ids.after(command.after or ""):
        if len(shown) >= command.limit or left <= 0 or room <= 0:
            following = shown[-1].id
            break
        view = wr.WorkerView(**_view(workers[worker_id], now, usual))
        left -= len(view.jobs) + len(view.queues) // 10
        room -= _chars(view)
        shown.append(view)
    stats = wr.WorkerFigures(
        total=len(workers), active=len(workers) - workers.quiet, quiet=workers.quiet, total_processed=workers.done,
        total_failed=workers.failed, active_jobs=engine.counts[State.ACTIVE], concurrency_slots=workers.slots,
    )  # fmt: skip
    return wr.WorkersReply(data=wr.WorkersPage(workers=shown, stats=stats, next=following))


def _chars(view: wr.WorkerView) -> int:
    """Return how long the texts of clients in ``view`` are."""
    jobs = sum(len(job.id) + len(job.queue) + len(job.message or "") for job in view.jobs)
    own = len(view.id) + len(view.name) + len(view.hostname) + len(view.version)
    return own + sum(map(len, view.queues)) + jobs


def _quiet(engine: Engine, command: c.QuietWorker, now: int, owner: Owner) -> r.Reply:
    worker = _known(engine, command.id)
    engine.acted = worker.quiet_since is None
    engine.workers.set_quiet(worker, now)
    return r.DataReply(data={"activeJobs": len(worker.jobs)})


def _unquiet(engine: Engine, command: c.UnquietWorker, now: int, owner: Owner) -> r.Reply:
    worker = _known(engine, command.id)
    engine.acted = worker.quiet_since is not None
    engine.workers.unquiet(worker)
    return r.DataReply(data={"quiet": False})


def _release(engine: Engine, command: c.ReleaseWorker, now: int, owner: Owner) -> r.Reply:
    worker = _known(engine, command.id)
    count = len(worker.jobs)
    engine.acted = count > 0
    engine.release_jobs_of(worker, now)
    return r.DataReply(data={"count": count})


def _unregister(engine: Engine, command: c.UnregisterWorker, now: int, owner: Owner) -> r.Reply:
    worker = _known(engine, command.id)
    if worker.jobs:
        raise c.HAS_JOBS.refuse()
    if worker.quiet_since is not None:
        raise c.IS_QUIET.refuse()
    if worker.connections - {owner}:
        raise c.IS_CONNECTED.refuse()
    # Who leaves does no act.
    engine.acted = owner is None or owner not in worker.connections
    engine.workers.forget(worker, now)
    return r.DataReply(data={"removed": True})


def _known(engine: Engine, worker_id: str) -> Worker:
    """Return a worker.

    Raises:
        Refused: there is none of this id.
    """
    worker = engine.workers.get(worker_id)
    if worker is None:
        raise c.NO_WORKER.refuse()
    return worker


def _view(worker: Worker, now: int, usual: _Usual) -> dict[str, Any]:
    lost = worker.transport == "websocket" and not worker.connections
    status = "lost" if lost else "active" if worker.quiet_since is None else "quiet"
    return {
        "id": worker.id, "name": worker.name, "queues": _names(worker.queues), "concurrency": worker.concurrency,
        "hostname": worker.hostname, "pid": worker.pid, "version": worker.version, "transport": worker.transport,
        "address": worker.address, "status": status, "quiet_since": worker.quiet_since,
        "registered_at": worker.registered_at, "last_seen": worker.heard_at, "uptime": max(0, now - worker.registered_at),
        "active_jobs": len(worker.jobs), "processed_jobs": worker.done, "per_minute": worker.a_minute(now), "failed_jobs": worker.failed,
        "current_job": next((job.id for job in worker.jobs), None),
        "jobs": [_job(job, usual.of(job.queue)) for job in islice(worker.jobs, WORKER_JOBS_SHOWN)],
    }  # fmt: skip


def _job(job: Job, usual: int | None) -> wr.WorkerJob:
    assert job.lease is not None
    ends = [time for time in (job.lease.until, job.lease.timeout_at) if time is not None]
    note = job.note
    return wr.WorkerJob(
        id=job.id, queue=job.queue, since=job.started_at, progress=job.progress,
        message=note.message[:WORKER_MESSAGE_CHARS] if note and note.message else None,
        progressed_at=note.progressed_at if note else None, lease_until=min(ends, default=None), usual=usual,
    )  # fmt: skip


HANDLERS: Handlers = {
    c.ListWorkers: _list,
    c.RegisterWorker: _register,
    c.WorkerHeartbeat: _heartbeat,
    c.QuietWorker: _quiet,
    c.UnquietWorker: _unquiet,
    c.ReleaseWorker: _release,
    c.UnregisterWorker: _unregister,
}
