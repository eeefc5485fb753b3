"""How the changes of an engine become a batch: all at once, or the rows and events of a large one before, some in each step.

A row says how its job is when the batch is taken. So one that was made before counts only while nothing has changed of the job: the engine
marks each change in ``changed``, which takes the row away.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypedDict

import msgspec

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED, Job, State
from bunqueue_trio.engine.queue import Changes
from bunqueue_trio.storage.rows import JobRow, changed_row, finished_row, new_row
from bunqueue_trio.storage.store import Batch

MADE_AT_ONCE = 500
"""Rows, and twice as many events, that one step makes: 1 to 3 ms."""
MADE_WHEN_TAKEN = 2000
"""Rows, and twice as many events, that may be made when the batch is taken, in one step: 4 to 8 ms."""

_encode = msgspec.json.Encoder().encode
_FINISHED_AT = attrgetter("finished_at")


class _Made(TypedDict):
    made: list[bytes]
    durable: bool


class Making:
    """What is known, and what is made already, of the batch that gathers."""

    __slots__ = ("_events", "_jobs", "durable")

    def __init__(self) -> None:
        self.durable: bool = False
        """Whether it is to be fsynced."""
        self._events: list[bytes] = []
        """The first of its events, as JSON."""
        self._jobs: list[Job] = []
        """Those that had no row when last looked at; the next one is the last."""

    def make_some(self, engine: Engine, few: int) -> bool:
        """Make some of its rows and events, unless there are ``few``; return whether it did."""
        changed, events, begin = engine.changed, engine.events, len(self._events)
        has_events = len(events) - begin > 2 * few
        if has_events:
            self._events += [_encode(event) for event in events[begin : begin + 2 * MADE_AT_ONCE]]
        jobs = self._jobs
        if not jobs and len(changed) > few:
            jobs = [job for job in changed if changed[job] is None]
            if len(jobs) <= few:
                jobs = []
        self._jobs, jobs = jobs[:-MADE_AT_ONCE], jobs[-MADE_AT_ONCE:]
        for job in jobs:
            changed[job] = _row(job, engine.epoch, job in engine.rewritten, engine.groups.get(job))
        return has_events or bool(jobs)

    def take(self) -> _Made:
        """Return what :func:`make_batch` is to know, and begin anew: the batch is taken."""
        made: _Made = {"made": self._events, "durable": self.durable}
        self.durable = False
        if self._events or self._jobs:
            self._events, self._jobs = [], []
        return made


def make_batch(
    changes: Changes, at: int, *, durable: bool, last_event_id: int, stamp: int = 0, made: Sequence[bytes] = ()
) -> Batch:
    """Return the batch that writes ``changes``; event ids go on from ``last_event_id``. ``made``: the first of the events, encoded."""
    batch = Batch(
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
    # They are kept in the order of their ends; here they stand in the order of their first changes.
    batch.finished.sort(key=_FINISHED_AT)
    return batch


def _row(job: Job, epoch: int, is_rewritten: bool, group: str | None) -> Any:  # noqa: FBT001 - a fact about the job
    """Return the row of a job that has changed, as :func:`make_batch` does."""
    if job.state not in UNFINISHED:
        # Not None: there is nothing more to be made of it.
        return () if job.state is State.REMOVED else finished_row(job, group)
    if is_rewritten:
        return JobRow._make(new_row(job))
    return new_row(job) if job.epoch == epoch else changed_row(job)
