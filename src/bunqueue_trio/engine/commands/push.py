"""Handlers of the commands that bring new jobs."""

from collections.abc import Mapping, Sequence

from bunqueue_trio import errors
from bunqueue_trio.config import DEPENDENCIES_MAX
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Options, Series, Shape, State
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.bounds import too_many_dependencies

_NOTHING: Mapping[str, State] = {}

_SHARED_MAX = 1024
"""Sets of options that are shared between jobs; a producer with more than that shares less."""


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
            raise errors.Refused(refused.status, f"jobs[{i}]: {refused}", refused.code) from None
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
        raise too_many_dependencies()
    return engine.archived_outcomes({job_id for spec in specs for job_id in spec.depends_on}) if named else _NOTHING


def _check(engine: Engine, spec: c.JobSpec, queue: str, earlier: set[str], archived: Mapping[str, State]) -> None:
    """Raise what makes ``spec`` impossible; ``earlier`` are ids from the same command."""
    engine.queues.check(queue)
    if not bytes(spec.data):
        raise errors.INVALID_FIELD.refuse("data", "is required")
    if spec.job_id is not None:
        holder = engine.standing(spec.job_id)
        if holder is not None and holder.queue != queue:
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
    holder = None if spec.job_id is None else engine.standing(spec.job_id)
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
    repeat, backoff, shape = spec.repeat, spec.backoff, None
    if not isinstance(backoff, int):
        shape = Shape(backoff.type == "fixed", backoff.max_delay, backoff.jitter)
        backoff = backoff.delay
    options = Options(
        max_attempts=spec.max_attempts,
        backoff=backoff,
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
        shape=shape,
    )
    if options == DEFAULT_OPTIONS:
        return DEFAULT_OPTIONS
    if options.unique_key is not None or options.depends_on or options.series is not None:
        return options  # hardly ever equal to another's
    shared = engine.shared_options
    if len(shared) >= _SHARED_MAX:
        shared.clear()
    return shared.setdefault(options, options)


HANDLERS: Handlers = {
    c.Push: _push,
    c.PushBatch: _push_batch,
}
