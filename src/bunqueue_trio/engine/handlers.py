"""What each command means: one function a command, and the table that finds it.

A handler either raises ``Refused`` having changed nothing, or does all of its work and returns the
reply. It moves jobs only through the engine's methods.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from bunqueue_trio import errors
from bunqueue_trio.config import ADVANCE_MAX, DEPENDENCIES_MAX
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, UNFINISHED, Job, Options, Series, State
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import SESSION, SPECS

_NOTHING: Mapping[str, State] = {}

_SHARED_MAX = 1024
"""Sets of options that are shared between jobs; a producer with more than that shares less."""

Owner = str | None
"""The connection that a pull is for, whose end gives its jobs back."""


def apply(engine: Engine, command: c.Command, now: int, owner: Owner = None) -> r.Reply:
    """Run ``command`` at ``now`` for the connection ``owner`` and return its reply.

    Deadlines that have passed take effect first, so a command never sees a state that is over.

    Raises:
        Refused: the command cannot be honoured and has changed nothing.
    """
    due = engine.next_due()
    if due is not None and due <= now:
        engine.advance(now)
    return run(engine, command, now, owner)


def run(engine: Engine, command: c.Command, now: int, owner: Owner) -> r.Reply:
    """Run ``command``; what is due by ``now`` has taken effect already.

    Raises:
        Refused: as :func:`apply`.
    """
    engine.left = ADVANCE_MAX
    return HANDLERS[type(command)](engine, command, now, owner)


def _push(engine: Engine, command: c.Push, now: int, owner: Owner) -> r.Reply:
    archived = _archived(engine, [command]) if command.depends_on else _NOTHING
    _check(engine, command, command.queue, set(), archived)
    return r.PushReply(id=_add(engine, command, command.queue, now, {}, archived))


def _push_batch(engine: Engine, command: c.PushBatch, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    archived = _archived(engine, command.jobs)
    earlier: set[str] = set()
    for i, spec in enumerate(command.jobs):
        try:
            _check(engine, spec, command.queue, earlier, archived)
        except errors.Refused as refused:
            raise errors.Refused(refused.status, f"jobs[{i}]: {refused}") from None
        if spec.job_id is not None:
            earlier.add(spec.job_id)
    reply = r.PushBatchReply(ids=[])
    actual: dict[str, str] = {}
    for spec in command.jobs:
        job_id = _add(engine, spec, command.queue, now, actual, archived)
        reply.ids.append(job_id)
        if spec.job_id is not None:
            actual[spec.job_id] = job_id
    return reply


def _archived(engine: Engine, specs: Sequence[c.JobSpec]) -> Mapping[str, State]:
    """Look once, before anything is changed, at all ended jobs that a command names as dependencies."""
    named = sum(len(spec.depends_on) for spec in specs)
    if named > DEPENDENCIES_MAX:
        raise errors.INVALID_FIELD.refuse("dependsOn", f"must name at most {DEPENDENCIES_MAX} jobs in one command")
    return engine.archived_outcomes({job_id for spec in specs for job_id in spec.depends_on}) if named else _NOTHING


def _check(engine: Engine, spec: c.JobSpec, queue: str, earlier: set[str], archived: Mapping[str, State]) -> None:
    """Raise what makes ``spec`` impossible; ``earlier`` are ids from the same command."""
    engine.queues.check(queue)
    if not bytes(spec.data):
        raise errors.INVALID_FIELD.refuse("data", "is required")
    if spec.job_id is not None:
        holder = engine.jobs.get(spec.job_id)
        if holder is not None and holder.state in UNFINISHED and holder.queue != queue:
            raise errors.FOREIGN_JOB_ID.refuse(spec.job_id)
    for dependency in spec.depends_on:
        if dependency not in earlier and engine.outcome(dependency, archived) is None:
            raise errors.UNKNOWN_DEPENDENCY.refuse(dependency)


def _add(
    engine: Engine, spec: c.JobSpec, queue_name: str, now: int, actual: dict[str, str], archived: Mapping[str, State]
) -> str:
    """Add a checked job, unless one stands for it already; return the id.

    ``actual`` tells which job stands for an id that an earlier job of the same command asked for.
    """
    queue = engine.queues.open(queue_name)
    holder = None
    if spec.job_id is not None:
        holder = engine.jobs.get(spec.job_id)
        if holder is not None and holder.state not in UNFINISHED:
            holder = None
    if holder is None and spec.unique_key is not None:
        holder = queue.keys.get(spec.unique_key)
    if holder is not None:
        engine.emit("duplicated", holder, now)
        return holder.id
    outcomes: dict[str, State | None] = {}
    waiting_on: set[str] = set()
    for dependency in spec.depends_on:
        job_id = actual.get(dependency, dependency)
        outcomes[job_id] = engine.outcome(job_id, archived)
        if outcomes[job_id] is not State.COMPLETED:
            waiting_on.add(job_id)
    if spec.job_id is not None:
        engine.replace(spec.job_id)
    options = _options(engine, spec, now)
    job_id = spec.job_id or engine.new_id(now)
    data = bytes(spec.data)
    job = engine.add(job_id, queue, data, options, spec.priority, now + spec.delay, waiting_on, now)
    for dependency, state in outcomes.items():
        # Not even known: it has failed just now, as an earlier job of this command, and left no record.
        if state is None or state is State.FAILED:
            engine.fail_dependent(job, dependency, now)
            break
    return job_id


def _options(engine: Engine, spec: c.JobSpec, now: int) -> Options:
    repeat = spec.repeat
    options = Options(
        max_attempts=spec.max_attempts,
        backoff=spec.backoff,
        ttl=spec.ttl,
        timeout=spec.timeout or None,
        unique_key=spec.unique_key,
        tags=tuple(spec.tags),
        group_id=spec.group_id,
        lifo=spec.lifo,
        remove_on_complete=spec.remove_on_complete,
        remove_on_fail=spec.remove_on_fail,
        depends_on=tuple(spec.depends_on),
        series=None if repeat is None else Series(repeat.every, repeat.limit, 1, now + spec.delay),
    )
    if options == DEFAULT_OPTIONS:
        return DEFAULT_OPTIONS
    if options.unique_key is not None or options.depends_on or options.series is not None:
        return options  # hardly ever equal to another's
    shared = engine.shared_options
    if len(shared) >= _SHARED_MAX:
        shared.clear()
    return shared.setdefault(options, options)


def _pull(engine: Engine, command: c.Pull, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    taken = _take(engine, command.queue, now, command.lock_ttl, owner)
    if taken is None:
        return r.EMPTY_PULL
    return r.PullReply(job=taken[0], token=taken[1])


def _pull_batch(engine: Engine, command: c.PullBatch, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    reply, size = r.PullBatchReply(jobs=[], tokens=[]), 0
    while len(reply.jobs) < command.count and size < engine.rules.pull_bytes:
        taken = _take(engine, command.queue, now, command.lock_ttl, owner)
        if taken is None:
            break
        reply.jobs.append(taken[0])
        reply.tokens.append(taken[1])
        size += len(memoryview(taken[0].data))
    return reply


def _take(engine: Engine, name: str, now: int, lock_ttl: int | None, owner: Owner) -> tuple[r.DeliveredJob, str] | None:
    queue = engine.queues.get(name)
    if queue is None:
        return None
    while (job := queue.ready.peek()) is not None and job.due is not None and job.due <= now:
        if engine.left <= 0:
            return None  # more is over than one step works off: the pull declines, and those who wait are served later
        engine.left -= 1
        engine.settle(job, now)  # its TTL is over
    if job is None:
        return None
    queue.ready.take(job)
    lease = engine.deliver(job, now, lock_ttl, owner)
    if not queue.ready:
        engine.emit("drained", job, now)
    view = r.DeliveredJob(
        job.id, name, Raw(job.data), job.priority, job.created_at, job.attempts,
        job.options.max_attempts, job.progress,
    )  # fmt: skip
    return view, lease.token


def _held(engine: Engine, job_id: str, token: str | None, now: int) -> Job:
    """Return the active job, if the caller may speak for it."""
    job = engine.jobs.get(job_id)
    if job is not None and job.due is not None and job.due <= now:
        engine.settle(job, now)
    if job is None or job.lease is None:
        raise errors.NOT_ACTIVE.refuse()
    if token is not None and token != job.lease.token:
        raise errors.LOST_LOCK.refuse()
    return job


def _ack(engine: Engine, command: c.Ack, now: int, owner: Owner) -> r.Reply:
    job = _held(engine, command.id, command.token, now)
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
            job = _held(engine, job_id, token, now)
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
    job = _held(engine, command.id, command.token, now)
    engine.fail(job, "Unknown error" if command.error is None else command.error, now)
    return r.OK


def _heartbeat(engine: Engine, command: c.Heartbeat, now: int, owner: Owner) -> r.Reply:
    engine.renew(_held(engine, command.id, command.token, now), now, command.duration, owner)
    return r.DataReply(data={"ok": True, "count": 1})


def _heartbeat_batch(engine: Engine, command: c.HeartbeatBatch, now: int, owner: Owner) -> r.Reply:
    tokens = _matching("tokens", command.tokens, command.ids)
    lost: dict[str, None] = {}
    renewed: set[str] = set()
    for job_id, token in zip(command.ids, tokens, strict=True):
        if job_id in renewed:
            continue
        try:
            engine.renew(_held(engine, job_id, token, now), now, None, owner)
        except errors.Refused:
            lost[job_id] = None
        else:
            renewed.add(job_id)
            lost.pop(job_id, None)
    data: dict[str, object] = {"ok": True, "count": len(renewed)}
    return r.DataReply(data=data | {"lostIds": list(lost)} if lost else data)


def _extend_lock(engine: Engine, command: c.ExtendLock, now: int, owner: Owner) -> r.Reply:
    engine.renew(_held(engine, command.id, command.token, now), now, command.duration, owner)
    return r.OK


def _release(engine: Engine, command: c.Release, now: int, owner: Owner) -> r.Reply:
    engine.release(_held(engine, command.id, command.token, now), now)
    return r.OK


def _progress(engine: Engine, command: c.Progress, now: int, owner: Owner) -> r.Reply:
    job = _held(engine, command.id, command.token, now)
    job.progress = command.progress
    if command.message is not None:
        job.noted().message = command.message
    engine.renew(job, now, None, owner)
    engine.emit("progress", job, now).progress = command.progress
    return r.OK


def _cancel(engine: Engine, command: c.Cancel, now: int, owner: Owner) -> r.Reply:
    job = engine.jobs.get(command.id)
    if job is not None and job.state in UNFINISHED:
        engine.settle(job, now)
    if job is None or job.state not in UNFINISHED:
        raise errors.JOB_NOT_FOUND.refuse()
    engine.totals.cancelled += 1
    engine.remove(job, now)
    return r.OK


def _found(engine: Engine, job_id: str, now: int) -> Job:
    job = engine.jobs.get(job_id)
    if job is not None and job.state in UNFINISHED:
        engine.settle(job, now)
    job = engine.find(job_id)
    if job is None:
        raise errors.JOB_NOT_FOUND.refuse()
    return job


def _get_job(engine: Engine, command: c.GetJob, now: int, owner: Owner) -> r.Reply:
    job = _found(engine, command.id, now)
    options = job.options
    has_started = job.state is State.ACTIVE or job.state not in UNFINISHED
    return r.JobReply(
        job=r.JobView(
            id=job.id,
            queue=job.queue,
            data=Raw(job.data),
            priority=job.priority,
            created_at=job.created_at,
            run_at=job.run_at,
            started_at=job.started_at if has_started else None,
            completed_at=job.note.finished_at if job.note else None,
            attempts=job.attempts,
            max_attempts=options.max_attempts,
            backoff=options.backoff,
            progress=job.progress,
            tags=list(options.tags),
            lifo=options.lifo,
            remove_on_complete=options.remove_on_complete,
            remove_on_fail=options.remove_on_fail,
        )
    )


def _get_state(engine: Engine, command: c.GetState, now: int, owner: Owner) -> r.Reply:
    job = _found(engine, command.id, now)
    options, note, series = job.options, job.note, job.options.series
    return r.StateReply(
        id=job.id,
        state=job.state.value,
        queue=job.queue,
        error=note.error if note else None,
        message=note.message if note else None,
        stalls=job.stalls,
        ttl=options.ttl,
        timeout=options.timeout,
        unique_key=options.unique_key,
        group_id=options.group_id,
        depends_on=list(options.depends_on),
        waiting_on=sorted((note and note.waiting_on) or ()),
        repeat=r.NULL if series is None else _repeat(series),
        lease_until=job.lease.until if job.lease else None,
    )


def _repeat(series: Series) -> Raw:
    shown = {"every": series.every, "limit": series.limit, "run": series.run, "due": series.due}
    return Raw(msgspec.json.encode(shown))


def _get_result(engine: Engine, command: c.GetResult, now: int, owner: Owner) -> r.Reply:
    job = _found(engine, command.id, now)
    result = job.note.result if job.note else None
    return r.ResultReply(id=job.id, result=r.NULL if result is None else Raw(result))


Handler = Callable[[Engine, Any, int, Owner], r.Reply]

HANDLERS: dict[type[c.Command], Handler] = {
    c.Push: _push,
    c.PushBatch: _push_batch,
    c.Pull: _pull,
    c.PullBatch: _pull_batch,
    c.Ack: _ack,
    c.AckBatch: _ack_batch,
    c.Fail: _fail,
    c.Heartbeat: _heartbeat,
    c.HeartbeatBatch: _heartbeat_batch,
    c.ExtendLock: _extend_lock,
    c.Release: _release,
    c.Progress: _progress,
    c.Cancel: _cancel,
    c.GetJob: _get_job,
    c.GetState: _get_state,
    c.GetResult: _get_result,
}
"""Command → handler: what this server can do with a job."""

assert set(HANDLERS) == set(SPECS) - SESSION, (
    "each command of the catalogue has one handler, and no handler is left over"
)
