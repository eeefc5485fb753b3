"""Handlers of the commands that bring new jobs."""

from collections.abc import Container, Iterable, Mapping, Sequence

from bunqueue_trio import errors
from bunqueue_trio.config import DEPENDENCIES_MAX
from bunqueue_trio.engine.configs import STANDARD
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.handler import Handlers, Owner
from bunqueue_trio.engine.job import UNFINISHED, State
from bunqueue_trio.engine.options import options_of
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.bounds import too_many_dependencies

_NOTHING: Mapping[str, State] = {}


def _push(engine: Engine, command: c.Push, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    archived = states = _NOTHING
    if command.depends_on:
        _check_count(len(command.depends_on))
        archived = engine.archived_outcomes(dict.fromkeys(command.depends_on))
        states = _states(engine, command.depends_on, archived)
    _check(engine, command, command.queue, (), states)
    return r.PushReply(id=_add(engine, command, command.queue, now, {}, archived))


def _push_batch(engine: Engine, command: c.PushBatch, now: int, owner: Owner) -> r.Reply:
    bulk = Bulk(engine, command)
    bulk.add(len(command.jobs), now)
    return bulk.reply


class Bulk:
    """A bulk push that nothing forbids any more: its jobs may be added in several steps, and the first step decides on all.

    Others may do what they like between two steps, but for commits, with which ended jobs would leave memory.

    Raises:
        Refused: one of its jobs is impossible; nothing was changed.
    """

    __slots__ = ("_actual", "_archived", "_command", "_earlier", "_ended", "_engine", "_states", "reply")

    def __init__(self, engine: Engine, command: c.PushBatch) -> None:
        engine.queues.check(command.queue)
        named, earlier = _named(command.jobs)
        archived = engine.archived_outcomes(named) if named else _NOTHING
        states = _states(engine, named, archived)
        before: set[str] = set()
        for i, spec in enumerate(command.jobs):
            try:
                _check(engine, spec, command.queue, before, states)
            except errors.Refused as refused:
                raise errors.Refused(refused.status, f"jobs[{i}]: {refused}", refused.code) from None
            if spec.job_id is not None:
                before.add(spec.job_id)
        self._engine = engine
        self._command = command
        self._archived = archived
        self._earlier = earlier
        self._states = states
        self._ended: Mapping[str, State] = _NOTHING
        """How dependencies had ended that may be gone when their dependents are added."""
        self._actual: dict[str, str] = {}
        self.reply: r.PushBatchReply = r.PushBatchReply(ids=[])

    def prepare(self) -> None:
        """Keep what was found possible so, until the last job is added in a later step."""
        self._ended = {name: state for name, state in self._states.items() if state not in UNFINISHED}
        if self._earlier:
            assert self._engine.reserved is None, "one bulk push at a time is done in steps"
            self._engine.reserved = (self._command.queue, self._earlier)

    def add(self, count: int, now: int) -> bool:
        """Add the next ``count`` jobs; return whether these were the last."""
        engine, command, ids, actual = self._engine, self._command, self.reply.ids, self._actual
        begin = len(ids)
        for spec in command.jobs[begin : begin + count]:
            job_id = _add(engine, spec, command.queue, now, actual, self._archived, self._ended)
            ids.append(job_id)
            if spec.job_id is not None:
                actual[spec.job_id] = job_id
        if len(ids) < len(command.jobs):
            return False
        engine.reserved = None
        return True


def _named(specs: Sequence[c.JobSpec]) -> tuple[dict[str, None], set[str]]:
    """Return the dependencies that are no earlier jobs of the same command, and the ids that it gives, whatever they are called.

    Raises:
        Refused: it names too many.
    """
    named: dict[str, None] = {}
    ids: set[str] = set()
    count = 0
    for spec in specs:
        if spec.custom_id is not None and spec.job_id is None:
            spec.job_id = spec.custom_id
        depends_on, job_id = spec.depends_on, spec.job_id
        if depends_on:
            count += len(depends_on)
            for dependency in depends_on:
                if dependency not in ids:
                    named[dependency] = None
        if job_id is not None:
            ids.add(job_id)
    _check_count(count)
    return named, ids


def _check_count(named: int) -> None:
    if named > DEPENDENCIES_MAX:
        raise too_many_dependencies()


def _states(engine: Engine, named: Iterable[str], archived: Mapping[str, State]) -> Mapping[str, State]:
    """Return the states of those of the jobs that are known, ``archived`` ones if they have left memory."""
    return {name: state for name in named if (state := engine.outcome(name, archived)) is not None}


def _check(engine: Engine, spec: c.PushSpec, queue: str, earlier: Container[str], states: Mapping[str, State]) -> None:
    """Raise what makes ``spec`` impossible for a queue of a legal name; ``earlier`` are ids from the same command, ``states`` those of its dependencies."""
    if not spec.data:
        raise errors.INVALID_FIELD.refuse("data", "is required")
    if spec.job_id is not None:
        holder = engine.standing(spec.job_id)
        if (holder is not None and holder.queue != queue) or _is_reserved(engine, spec.job_id, queue):
            raise errors.FOREIGN_JOB_ID.refuse(spec.job_id)
    for dependency in spec.depends_on:
        if dependency not in states and dependency not in earlier:
            raise errors.UNKNOWN_DEPENDENCY.refuse(dependency)


def _is_reserved(engine: Engine, job_id: str, queue: str) -> bool:
    """Return whether a bulk push to another queue, half of which is in, has this id."""
    reserved = engine.reserved
    return reserved is not None and job_id in reserved[1] and queue != reserved[0]


def _add(
    engine: Engine, spec: c.PushSpec, queue_name: str, now: int, actual: dict[str, str], archived: Mapping[str, State],
    ended: Mapping[str, State] = _NOTHING,
) -> str:  # fmt: skip
    """Add a checked job, unless one stands for it already; return the id.

    ``actual`` tells which job stands for an id that an earlier job of the same command asked for, ``ended`` how jobs had
    ended when it was checked, if that is another step.
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
        outcomes[job_id] = engine.outcome(job_id, archived) or ended.get(job_id)
        if outcomes[job_id] is not State.COMPLETED:
            waiting_on.add(job_id)
    if spec.job_id is not None:
        engine.replace(spec.job_id)
    defaults = engine.configs.defaults
    options = options_of(spec, now, engine.shared_options, defaults.get(queue_name, STANDARD) if defaults else STANDARD)
    job_id = spec.job_id or engine.new_id(now)
    data = bytes(spec.data)
    # The same integer where it can be: 32 bytes less for a job that waits.
    run_at = now + spec.delay if spec.delay else now
    job = engine.add(
        job_id, queue, data, options, priority=spec.priority, run_at=run_at, waiting_on=waiting_on, now=now
    )
    for dependency, state in outcomes.items():
        # Not even known: it has failed just now, as an earlier job of this command, and left no record.
        if state is None or state is State.FAILED:
            engine.fail_dependent(job, dependency, now)
            break
    return job_id


HANDLERS: Handlers = {
    c.Push: _push,
    c.PushBatch: _push_batch,
}
