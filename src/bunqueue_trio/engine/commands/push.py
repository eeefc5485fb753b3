"""Handlers of the commands that bring new jobs."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

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

_DEPENDS_ON = attrgetter("depends_on")


def pushes_of(command: c.PushBatch) -> int:
    """Return how many pushes of jobs that depend on nothing the work of a bulk push is at most: each dependency is looked up, and kept."""
    return len(command.jobs) + _named_by(command)


def _named_by(command: c.PushBatch) -> int:
    return sum(map(len, map(_DEPENDS_ON, command.jobs)))


def _push(engine: Engine, command: c.Push, now: int, owner: Owner) -> r.Reply:
    engine.queues.check(command.queue)
    _check(engine, command, command.queue)
    ended: dict[str, State] = {}
    if command.depends_on:
        _check_count(len(command.depends_on))
        unknown = _look_up(engine, dict.fromkeys(command.depends_on), ended)
        if unknown is not None:
            raise errors.UNKNOWN_DEPENDENCY.refuse(unknown)
    return r.PushReply(id=_add(engine, command, command.queue, now, {}, ended))


def _push_batch(engine: Engine, command: c.PushBatch, now: int, owner: Owner) -> r.Reply:
    bulk = Bulk(engine, command)
    bulk.add(sys.maxsize, now)
    return bulk.reply


class Bulk:
    """A bulk push, which may be done in several steps: all of its jobs are looked at, and then they are added.

    Others may do what they like between two steps, but for commits, with which ended jobs would leave memory. What was
    found possible stays so.

    Raises:
        Refused: one of its jobs is impossible; nothing was changed. :meth:`add` raises it for those that are looked at there.
        StoreError: the same of what one depends on, which cannot be read.
    """

    __slots__ = ("_actual", "_command", "_ended", "_engine", "_ids", "_looking", "reply")

    def __init__(self, engine: Engine, command: c.PushBatch, looked_at: int = sys.maxsize) -> None:
        engine.queues.check(command.queue)
        _check_count(_named_by(command))
        self._engine = engine
        self._command = command
        self._ids: set[str] = set()
        """Those that it gives, as far as it was looked at."""
        self._ended: dict[str, State] = {}
        """How dependencies had ended that may be gone when their dependents are added."""
        self._actual: dict[str, str] = {}
        self.reply: r.PushBatchReply = r.PushBatchReply(ids=[])
        # An archive that is a network away is asked once, and before anything.
        some = looked_at if engine.archive.at_once else sys.maxsize
        self._looking: Iterator[None] | None = self._look(some)
        self._look_on()

    def prepare(self) -> bool:
        """Keep what was found possible so, until the last job is added in a later step; return whether all were looked at."""
        assert self._engine.reserved is None, "one bulk push at a time is done in steps"
        self._engine.reserved = (self._command.queue, self._ids)
        return self._looking is None

    def add(self, count: int, now: int) -> bool:
        """Look at the next jobs, or add some, of as much work as ``count`` have that depend on nothing; return whether these were the last."""
        if self._looking is not None:
            try:
                self._look_on()
            except Exception:
                # Refused, or what it names cannot be read: none of it is in.
                self._let_go()
                raise
            return False
        engine, command, ids, actual, ended = self._engine, self._command, self.reply.ids, self._actual, self._ended
        begin, work = len(ids), 0
        for spec in command.jobs[begin : begin + count]:
            work += 1 + len(spec.depends_on)
            if work > count and len(ids) > begin:
                break
            job_id = _add(engine, spec, command.queue, now, actual, ended)
            ids.append(job_id)
            if spec.job_id is not None:
                actual[spec.job_id] = job_id
                # This is the job of that id from now on.
                ended.pop(spec.job_id, None)
        if len(ids) < len(command.jobs):
            return False
        self._let_go()
        return True

    def _let_go(self) -> None:
        reserved = self._engine.reserved
        if reserved is not None and reserved[1] is self._ids:
            self._engine.reserved = None

    def _look_on(self) -> None:
        assert self._looking is not None
        for _ in self._looking:
            return
        self._looking = None

    def _look(self, some: int) -> Iterator[None]:
        """Decide on one job after the other; yield after as many of them, and of their dependencies."""
        engine, queue, jobs, ids = self._engine, self._command.queue, self._command.jobs, self._ids
        known: set[str] = set()
        named: dict[str, int] = {}
        left = some
        for i, spec in enumerate(jobs):
            if spec.custom_id is not None and spec.job_id is None:
                spec.job_id = spec.custom_id
            try:
                _check(engine, spec, queue)
            except errors.Refused as refused:
                # An earlier job may be impossible, too.
                self._look_up(named)
                raise _said_of(i, refused) from None
            for dependency in spec.depends_on:
                # Else it is an earlier job of the same command.
                if dependency not in ids and dependency not in known:
                    named.setdefault(dependency, i)
            if spec.job_id is not None:
                ids.add(spec.job_id)
            left -= 1 + len(spec.depends_on)
            if left <= 0 and i + 1 < len(jobs):
                self._look_up(named)
                known.update(named)
                named, left = {}, some
                yield
        self._look_up(named)

    def _look_up(self, named: Mapping[str, int]) -> None:
        """Find out how those of the jobs had ended that have; ``named`` tells which job is the first to name each."""
        unknown = _look_up(self._engine, named, self._ended) if named else None
        if unknown is not None:
            raise _said_of(named[unknown], errors.UNKNOWN_DEPENDENCY.refuse(unknown))


def _said_of(i: int, refused: errors.Refused) -> errors.Refused:
    return errors.Refused(refused.status, f"jobs[{i}]: {refused}", refused.code)


def _check_count(named: int) -> None:
    if named > DEPENDENCIES_MAX:
        raise too_many_dependencies()


def _look_up(engine: Engine, named: Iterable[str], ended: dict[str, State]) -> str | None:
    """Note in ``ended`` how those of the jobs had ended that have; return the first that nobody knows."""
    archived = engine.archived_outcomes(named)
    for name in named:
        state = engine.outcome(name, archived)
        if state is None:
            return name
        if state not in UNFINISHED:
            ended[name] = state
    return None


def _check(engine: Engine, spec: c.PushSpec, queue: str) -> None:
    """Raise what makes ``spec`` impossible for a queue of a legal name, but for what it depends on."""
    if not spec.data:
        raise errors.INVALID_FIELD.refuse("data", "is required")
    if spec.job_id is not None:
        holder = engine.standing(spec.job_id)
        if (holder is not None and holder.queue != queue) or engine.is_reserved(spec.job_id, queue):
            raise errors.FOREIGN_JOB_ID.refuse(spec.job_id)


def _add(
    engine: Engine, spec: c.PushSpec, queue_name: str, now: int, actual: dict[str, str], ended: Mapping[str, State]
) -> str:  # fmt: skip
    """Add a checked job, unless one stands for it already; return the id.

    ``actual`` tells which job stands for an id that an earlier job of the same command asked for, ``ended`` how jobs had
    ended when it was checked, which may be another step.
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
        known = engine.jobs.find(job_id)
        outcomes[job_id] = ended.get(job_id) if known is None else known.state
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
