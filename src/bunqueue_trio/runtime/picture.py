"""Every queue at one moment, for whoever looks for what is wrong: taken in pieces, so that nobody waits for it."""

from collections.abc import Iterator, Sequence
from heapq import nlargest
from itertools import islice
from typing import NamedTuple, TypeVar

import trio

from bunqueue_trio.config import QUEUES_A_TURN
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.fingerprint import CANCELLED
from bunqueue_trio.engine.gates import Gate
from bunqueue_trio.engine.job import Job
from bunqueue_trio.storage.store import Store

# Jobs of a queue that are named when they hang, and workers when they are quiet.
LONGEST = 5
# Quiet workers that are looked at for each queue that nobody serves: 2 µs each.
QUIETED_LOOKED = 20
# Jobs of a worker that show that it is the worker, and not the job.
SEVERAL = 3
# How long the newest of them has to be active.
HUNG_MS = 60_000
# Such workers that are looked at in all.
WORKERS_LOOKED = 100
JOBS_LOOKED = 100
"""The newest of a worker, for their queues."""

# Queues of which it is said what their unfinished jobs take, and jobs of each state of one that are looked at for that.
HEAPS, HEAP_LOOKED = 50, 5

T = TypeVar("T")


class PauseLook(NamedTuple):
    """Why a queue is paused, since when and until when, in epoch ms."""

    reason: str | None
    since: int
    until: int | None
    by: str | None = None


class QueueLook(NamedTuple):
    """One queue; times in epoch ms."""

    name: str
    waiting: int
    active: int
    delayed: int
    blocked: int
    completed: int
    dead: int
    hushed: int
    """How many of these were cancelled, or died of an error that is muted: nobody wants to hear of them."""
    oldest_ready_at: int | None
    pulls_waiting: int
    pause: PauseLook | None
    concurrency: int | None
    opens_at: int | None
    active_since: int | None = None
    """Since when the job is active that has been active longest."""
    active_id: str = ""
    active_at: str = ""
    """The worker that has it, where it is known by a name."""
    longest: tuple[tuple[int, str], ...] = ()
    """Those that have been active for longest, since when: some, that one first."""
    quiet: tuple[str, ...] = ()
    """The names of workers that would ask for its jobs, and are quiet; some, and only where nobody else does."""

    @property
    def died(self) -> int:
        """How many died of an error that is not muted, and are kept."""
        return self.dead - self.hushed

    @property
    def jobs(self) -> int:
        """How many jobs are in it, but for those that completed."""
        return self.waiting + self.active + self.delayed + self.blocked + self.dead


class WorkerLook(NamedTuple):
    """A worker that has several jobs; times in epoch ms."""

    id: str
    name: str
    jobs: int
    queues: tuple[str, ...]
    """Of the newest of them first."""
    newest_since: int
    oldest_since: int


def look_at_workers(engine: Engine, now: int) -> tuple[WorkerLook, ...]:
    """Return some of the workers with several jobs of which none has come within the last minute; 1 ms for thousands."""
    found: list[WorkerLook] = []
    for worker in engine.workers.values():
        if len(worker.jobs) < SEVERAL:
            continue
        # They are in the order in which it got them.
        oldest, newest = next(iter(worker.jobs)), next(reversed(worker.jobs))
        if newest.started_at is not None and oldest.started_at is not None and newest.started_at <= now - HUNG_MS:
            queues = tuple(dict.fromkeys(job.queue for job in islice(reversed(worker.jobs), JOBS_LOOKED)))
            found.append(
                WorkerLook(worker.id, worker.name, len(worker.jobs), queues, newest.started_at, oldest.started_at)
            )
            if len(found) == WORKERS_LOOKED:
                break
    return tuple(found)


class Heap(NamedTuple):
    """The unfinished jobs of a queue: how many, and about the bytes of their payloads, by those that come next."""

    queue: str
    jobs: int
    bytes: int


async def weigh(engine: Engine, queues: Sequence[QueueLook]) -> tuple[Heap, ...]:
    """Return about what the fullest queues hold; lets others run in between."""
    found: list[Heap] = []
    fullest: list[QueueLook] = []
    for looks in _chunks([*queues]):
        fullest = nlargest(HEAPS, [*fullest, *looks], key=lambda each: each.jobs - each.dead)
        await trio.lowlevel.checkpoint()
    for look in fullest:
        queue, jobs = engine.queues.get(look.name), look.jobs - look.dead
        if queue is None or not jobs:
            continue
        some = [
            *islice(queue.ready.after(None), HEAP_LOOKED), *islice(queue.delayed, HEAP_LOOKED), *islice(queue.active, HEAP_LOOKED),
            *islice(queue.waiting_children, HEAP_LOOKED),
        ]  # fmt: skip
        found.append(Heap(look.name, jobs, sum(len(job.data) for job in some) * jobs // max(1, len(some))))
    return tuple(found)


async def look(engine: Engine, store: Store) -> tuple[QueueLook, ...]:
    """Return all queues that hold a job, remember one, or are paused or limited; lets others run in between."""
    kept: dict[str, tuple[int, int]] = {}
    for entries in _chunks([*store.finished_counts.items()]):
        for (name, state), n in entries:
            completed, dead = kept.get(name, (0, 0))
            # What wants no record when it has completed is remembered, and neither.
            kept[name] = (completed + n * (state == "completed"), dead + n * (state == "failed"))
        await trio.lowlevel.checkpoint()
    found: list[QueueLook] = []
    quiet = engine.marks.muted | {CANCELLED.key}
    quieted = engine.workers.quieted()[:QUIETED_LOOKED]
    names = dict.fromkeys(engine.queues)
    for more in (engine.gates, kept):
        await trio.lowlevel.checkpoint()
        names |= dict.fromkeys(more)
    await trio.lowlevel.checkpoint()
    for some in _chunks([*names]):
        for name in some:
            completed, dead = kept.get(name, (0, 0))
            # Another thread may have counted one more since.
            hushed = min(dead, store.dead_groups.sum_of(name, quiet)) if dead else 0
            seen = _look(engine, name, completed, dead, hushed)
            if quieted and seen.waiting and not (seen.active or seen.pulls_waiting):
                seen = seen._replace(
                    quiet=tuple(sorted(each.name for each in quieted if each.works_on(name)))[:LONGEST]
                )
            if seen.jobs or seen.completed or name in engine.gates:
                found.append(seen)
        await trio.lowlevel.checkpoint()
    return tuple(found)


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), QUEUES_A_TURN):
        yield items[start : start + QUEUES_A_TURN]


def _look(engine: Engine, name: str, completed: int, dead: int, hushed: int) -> QueueLook:
    queue, gate = engine.queues.get(name), engine.gates.get(name)
    if queue is None:
        return QueueLook(name, 0, 0, 0, 0, completed, dead, hushed, None, _pulls(engine, name), *_gate(gate))
    # They are in the order of their deliveries.
    since, job_id, worker, longest = _active(engine, [*islice(queue.active, LONGEST)])
    return QueueLook(
        name, len(queue.ready), len(queue.active), len(queue.delayed), len(queue.waiting_children),
        completed, dead, hushed, queue.ready.ready_since(), _pulls(engine, name), *_gate(gate), since, job_id, worker, longest,
    )  # fmt: skip


def _active(engine: Engine, jobs: Sequence[Job]) -> tuple[int | None, str, str, tuple[tuple[int, str], ...]]:
    if not jobs or (lease := jobs[0].lease) is None:
        return None, "", "", ()
    worker = engine.workers.of(lease)
    longest = tuple((job.started_at, job.id) for job in jobs if job.started_at is not None)
    return jobs[0].started_at, jobs[0].id, "" if worker is None else worker.name, longest


def _pulls(engine: Engine, name: str) -> int:
    return len(engine.pulls_waiting.get(name, ()))


def _gate(gate: Gate | None) -> tuple[PauseLook | None, int | None, int | None]:
    if gate is None:
        return None, None, None
    pause = (
        None if gate.pause is None else PauseLook(gate.pause.reason, gate.pause.since, gate.pause.until, gate.pause.by)
    )
    return pause, gate.concurrency, gate.opens_at
