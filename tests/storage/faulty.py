"""A store that fails by a script or by a seed, around any other store; for tests and for simulation.

What it does is what SQLite does: a refused commit is not there, and the same batch is tried again. The
one surprise is ``GHOST``: the transaction has reached the log when its fsync fails. For the process
that lives on it is not there, as with any refusal; but when the process ends before the retry, the
next start finds it, whole. (``test_disk`` shows that with a real file.) So there is no "committed, but
reported as failed" for a process that goes on, and the stores need no protection against it.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from pathlib import Path

import trio

from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.audit_kept import Kept
from bunqueue_trio.engine.job import Job, Records, State, Trace
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import TrailPage
from bunqueue_trio.errors import StoreDamaged, StoreError
from bunqueue_trio.storage.rows import FactRow
from bunqueue_trio.storage.store import Batch, FinishedCounts, Retention, Sampled, Space, Store, StoredEvent


class Fault(Enum):
    """What happens to one call."""

    NONE = auto()
    REFUSED = auto()  # the disk refuses; nothing is written
    DAMAGED = auto()  # it meets a damaged page, and is never to be tried again
    GHOST = auto()  # the same, but a start after the end of this process finds it
    CRASH_BEFORE = auto()  # the process ends before the transaction
    CRASH_AFTER = auto()  # the process ends after it, and nobody is answered


class Crash(BaseException):
    """The process has ended here: nobody catches it, and the store is dead until :meth:`FaultyStore.restart`."""


def random_faults(rng: random.Random, weights: Mapping[Fault, float]) -> Iterator[Fault]:
    """Faults for ever, by chance; ``weights`` need not sum up to anything."""
    kinds, chances = list(weights), list(weights.values())
    while True:
        yield rng.choices(kinds, chances)[0]


class FaultyStore:
    """A :class:`Store` that lets calls through to ``inner`` or fails them; after the script all is well.

    ``commits`` decides about :meth:`commit`, ``upkeep`` about :meth:`prune` and :meth:`checkpoint`
    (only ``NONE`` and ``REFUSED`` make sense there). While ``blind`` is set nothing can be read.
    """

    def __init__(self, inner: Store, commits: Iterable[Fault] = (), upkeep: Iterable[Fault] = ()) -> None:
        self.inner = inner
        self.inline = inner.inline
        self.at_once = inner.at_once
        self.commits = iter(commits)
        self.upkeep = iter(upkeep)
        self.blind = False
        self.dead = False
        self.closed = False
        self.tried: list[tuple[int, Fault]] = []
        """(epoch, what became of it) of every commit, in order."""
        self._refused: Batch | None = None
        self._ghost: Batch | None = None

    @property
    def finished_counts(self) -> FinishedCounts:
        return self.inner.finished_counts

    @property
    def finished_totals(self) -> Mapping[str, int]:
        return self.inner.finished_totals

    @property
    def last_event_id(self) -> int:
        return self.inner.last_event_id

    def last_event_at(self) -> int:
        return self.inner.last_event_at()

    @property
    def written(self) -> list[int]:
        """The epochs that were committed, in order."""
        return [epoch for epoch, fault in self.tried if fault in (Fault.NONE, Fault.CRASH_AFTER)]

    @property
    def damage(self) -> str | None:
        return self.inner.damage

    def parts(self) -> Sequence[str]:
        self._alive()
        return self.inner.parts()

    def look_over(self, part: str, is_over: Callable[[], bool]) -> bool:
        self._readable()
        return self.inner.look_over(part, is_over)

    @property
    def file(self) -> Path | None:
        return self.inner.file

    @property
    def shrinks(self) -> bool:
        return self.inner.shrinks

    def copy_to(self, target: Path, on_progress: Callable[[int, int], None]) -> int:
        self._readable()
        return self.inner.copy_to(target, on_progress)

    def load(self) -> Iterable[Job]:
        self._alive()
        return self.inner.load()

    def load_facts(self) -> Iterable[FactRow]:
        self._alive()
        return self.inner.load_facts()

    def commit(self, batch: Batch) -> None:
        self._alive()
        assert self._refused in (None, batch), "a refused batch has to be tried again before any other"
        fault = next(self.commits, Fault.NONE)
        self.tried.append((batch.epoch, fault))
        if fault is Fault.DAMAGED:
            raise StoreDamaged("simulated: malformed")
        if fault in (Fault.REFUSED, Fault.GHOST):
            self._refused = batch
            self._ghost = batch if fault is Fault.GHOST else self._ghost
            raise StoreError(f"simulated: {fault.name}")
        if fault is Fault.CRASH_BEFORE:
            self._crash()
        self.inner.commit(batch)
        self._refused = self._ghost = None
        if fault is Fault.CRASH_AFTER:
            self._crash()

    async def write(self, batch: Batch, *, quick: bool) -> None:
        if self.inline or quick:
            self.commit(batch)
        else:
            await trio.to_thread.run_sync(self.commit, batch)

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        self._readable()
        return self.inner.find(job_id, data=data, result=result)

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        self._readable()
        return self.inner.outcomes(job_ids)

    def kept_of(self, queue: str) -> tuple[int, int]:
        return self.inner.kept_of(queue)

    def queues_after(self, name: str, limit: int) -> list[str]:
        return self.inner.queues_after(name, limit)

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        self._readable()
        return self.inner.traces(first, end, limit)

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        self._readable()
        return self.inner.records(queue, state, before, limit, fingerprint, oldest=oldest)

    @property
    def dead_groups(self) -> DeadGroups:
        return self.inner.dead_groups

    def is_grouped(self, queue: str) -> bool:
        return self.inner.is_grouped(queue)

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> int | None:
        self._readable()
        return self.inner.first_seen(queues, fingerprint)

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        self._readable()
        return self.inner.trail(kind, key, place, limit, newest=newest)

    def stored(self, after: int, upto: int, limit: int) -> list[Stored]:
        self._readable()
        return self.inner.stored(after, upto, limit)

    def stored_facts(self, after: tuple[str, str], limit: int) -> list[FactRow]:
        self._readable()
        return self.inner.stored_facts(after, limit)

    def stored_kept(self, queue: str) -> Kept:
        self._readable()
        return self.inner.stored_kept(queue)

    def events_after(self, event_id: int, limit: int) -> list[StoredEvent]:
        self._readable()
        return self.inner.events_after(event_id, limit)

    def first_event_id(self) -> int:
        self._readable()
        return self.inner.first_event_id()

    def prune(self, keep: Retention) -> int:
        self._upkeep()
        return self.inner.prune(keep)

    def sample(self, points: int) -> list[Sampled]:
        self._readable()
        return self.inner.sample(points)

    def space(self) -> Space:
        self._readable()
        return self.inner.space()

    def shrink(self, size: int) -> int:
        self._upkeep()
        return self.inner.shrink(size)

    def log_bytes(self) -> int:
        return self.inner.log_bytes()

    def checkpoint(self, *, restart: bool) -> None:
        self._upkeep()
        self.inner.checkpoint(restart=restart)

    def close(self) -> None:
        self.closed = True

    def restart(self) -> Store:
        """End this process, if it has not ended, and return the store as the next one finds it."""
        self.dead = True
        if self._ghost is not None:
            self.inner.commit(self._ghost)
            self._ghost = None
        return self.inner

    def _crash(self) -> None:
        self.dead = True
        raise Crash

    def _alive(self) -> None:
        assert not self.dead, "a process that has ended writes nothing"

    def _readable(self) -> None:
        self._alive()
        if self.blind:
            raise StoreError("simulated: unreadable")

    def _upkeep(self) -> None:
        self._alive()
        if next(self.upkeep, Fault.NONE) is not Fault.NONE:
            raise StoreError("simulated: upkeep refused")
