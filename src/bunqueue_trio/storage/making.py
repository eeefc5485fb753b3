"""How the changes of an engine become a batch: all at once, or the rows and events of a large one before, some in each step.

A row says how its job is when the batch is taken. So one that was made before counts only while nothing has changed of the job: the engine
marks each change in ``changed``, which takes the row away.
"""

from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, TypedDict

import msgspec

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED, Job, State
from bunqueue_trio.engine.queue import Changes
from bunqueue_trio.errors import InvariantBroken
from bunqueue_trio.storage.rows import ChangedRow, FinishedRow, JobRow, changed_row, finished_row, new_row
from bunqueue_trio.storage.store import Batch, weight_of

MADE_AT_ONCE = 500
"""Rows, and twice as many events, that one step makes: 1 to 3 ms."""
MADE_WHEN_TAKEN = 2000
"""Rows, and twice as many events, that may be made when the batch is taken, in one step: 4 to 8 ms."""
FILLED_AT_ONCE = 4000
"""Rows that are put into a batch in one step: 2 to 3 ms. One of as many jobs is filled in the step that takes it."""

_encode = msgspec.json.Encoder().encode
_FINISHED_AT = attrgetter("finished_at")
_CHANGED_FIELDS = len(ChangedRow._fields)


class _Made(TypedDict):
    made: list[bytes]
    durable: bool


class Making:
    """What is known, and what is made already, of the batch that gathers."""

    __slots__ = ("_events", "_filling", "_jobs", "durable")

    def __init__(self) -> None:
        self.durable: bool = False
        """Whether it is to be fsynced."""
        self._events: list[bytes] = []
        """The first of its events, as JSON."""
        self._jobs: list[Job] = []
        """Those that had no row when last looked at; the next one is the last."""
        self._filling: Filling | None = None

    def make_some(self, engine: Engine, few: int) -> bool:
        """Make some of its rows and events, unless there are ``few``; return whether it did."""
        changed, events, begin = engine.changed, engine.events, len(self._events)
        has_events = len(events) - begin > 2 * few
        if has_events:
            self._events += [_encode(event) for event in events[begin : begin + 2 * MADE_AT_ONCE]]
        jobs = self._jobs
        if not jobs and len(changed) > few:
            rows: dict[Job, Any] = changed
            jobs = [job for job, row in rows.items() if row is None]
            if len(jobs) <= few:
                jobs = []
        self._jobs, some = jobs, jobs[-MADE_AT_ONCE:]
        # In place: a copy of 60,000 would touch all of them in each step.
        del jobs[-MADE_AT_ONCE:]
        for job in some:
            changed[job] = _row(job, engine.epoch, job in engine.rewritten, engine.groups.get(job))
        return has_events or bool(some)

    def batch(self, changes: Changes, at: int, *, last_event_id: int, stamp: int) -> Batch:
        """Return the batch that writes ``changes``, as :func:`make_batch` does; it is whole once :meth:`fill_some` has put in the last rows."""
        made = self.take()
        if len(changes.jobs) <= FILLED_AT_ONCE:
            return make_batch(changes, at, last_event_id=last_event_id, stamp=stamp, **made)
        batch = begin_batch(changes, at, last_event_id=last_event_id, stamp=stamp, **made)
        self._filling = Filling(batch, changes)
        return batch

    @property
    def is_whole(self) -> bool:
        """Whether all rows are in the batch that was taken last."""
        return self._filling is None

    def fill_some(self) -> None:
        """Put some more in.

        Raises:
            InvariantBroken: these rows would be missing: they may be in, or not.
        """
        try:
            if self._filling is not None and self._filling.fill_some():
                self._filling = None
        except Exception as error:
            raise InvariantBroken("a batch cannot be filled") from error

    def take(self) -> _Made:
        """Return what :func:`make_batch` is to know, and begin anew: the batch is taken."""
        made: _Made = {"made": self._events, "durable": self.durable}
        self.durable = False
        if self._events or self._jobs:
            self._events, self._jobs = [], []
        return made


class Filling:
    """Puts the rows of a large batch into their places, some in each step. What they say is how the jobs were when it was taken."""

    def __init__(self, batch: Batch, changes: Changes) -> None:
        self._batch, self._epoch, self._rewritten = batch, changes.epoch, changes.rewritten
        self._jobs = jobs = changes.jobs
        groups, epoch = changes.groups, changes.epoch
        for job in [job for job, row in jobs.items() if row is None]:
            jobs[job] = _row(job, epoch, job in changes.rewritten, groups.get(job))
        self._left, self._events = iter(jobs.items()), iter(batch.events)
        self._weight = 0

    def fill_some(self) -> bool:
        """Fill in some more; return whether these were the last."""
        batch, some = self._batch, list(islice(self._left, FILLED_AT_ONCE))
        for job, row in some:
            is_new = job.epoch == self._epoch and job not in self._rewritten
            if not row or type(row) is FinishedRow:
                # Nobody changes a job that has ended.
                if not is_new:
                    batch.ended.append((job.seq,))
                if row:
                    batch.finished.append(row)
            elif type(row) is JobRow:
                batch.rewritten.append(row)
            else:
                (batch.changed if len(row) == _CHANGED_FIELDS else batch.new).append(row)
            # Its place in the list is enough: rows are let go in steps, too.
            self._jobs[job] = ()
        self._weight += sum(map(len, islice(self._events, FILLED_AT_ONCE))) + weight_of([job for job, _ in some])
        if len(some) == FILLED_AT_ONCE:
            return False
        batch.weight = self._weight + sum(map(len, self._events)) + batch.rare_bytes()
        _sort(batch)
        return True


def make_batch(
    changes: Changes, at: int, *, durable: bool, last_event_id: int, stamp: int = 0, made: Sequence[bytes] = ()
) -> Batch:
    """Return the batch that writes ``changes``; event ids go on from ``last_event_id``. ``made``: the first of the events, encoded."""
    batch = begin_batch(changes, at, durable=durable, last_event_id=last_event_id, stamp=stamp, made=made)
    _fill(batch, changes)
    return batch


def begin_batch(
    changes: Changes, at: int, *, durable: bool, last_event_id: int, stamp: int = 0, made: Sequence[bytes] = ()
) -> Batch:
    """Return it without the rows of its jobs, for :class:`Filling`."""
    return Batch(
        changes.epoch, at, durable, changes.jobs,
        events=[*made, *map(_encode, changes.events[len(made) :])] if made else [_encode(event) for event in changes.events],
        heard=changes.events,
        last_event_id=last_event_id + len(changes.events),
        reused_ids=[(job_id,) for job_id in changes.reused_ids] if changes.reused_ids else [],
        removed_ids=changes.removed_ids,
        stamp=stamp,
        facts=changes.facts,
        trails=changes.trails,
    )  # fmt: skip


def _fill(batch: Batch, changes: Changes) -> None:
    """Put in the rows of its jobs, in one step."""
    rewritten, groups, epoch = changes.rewritten, changes.groups, changes.epoch
    for job, made_row in changes.jobs.items():
        is_new = job.epoch == epoch
        if rewritten and job in rewritten:
            is_new = False
            if job.state in UNFINISHED:
                batch.rewritten.append(made_row or _row(job, epoch, is_rewritten=True, group=None))
                continue
        if job.state in UNFINISHED:
            if is_new:
                batch.new.append(made_row or new_row(job))
            else:
                batch.changed.append(made_row or changed_row(job))
            continue
        if not is_new:
            batch.ended.append((job.seq,))
        if job.state is not State.REMOVED:
            batch.finished.append(made_row or finished_row(job, groups.get(job)))
    _sort(batch)


def _sort(batch: Batch) -> None:
    # They are kept in the order of their ends; here they stand in the order of their first changes.
    batch.finished.sort(key=_FINISHED_AT)


def _row(job: Job, epoch: int, is_rewritten: bool, group: str | None) -> Any:  # noqa: FBT001 - a fact about the job
    """Return the row of a job that has changed, as :func:`_fill` does."""
    if job.state not in UNFINISHED:
        # Not None: there is nothing more to be made of it.
        return () if job.state is State.REMOVED else finished_row(job, group)
    if is_rewritten:
        return JobRow._make(new_row(job))
    return new_row(job) if job.epoch == epoch else changed_row(job)
