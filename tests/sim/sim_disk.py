"""The simulated disk: what is on it, everything that was ever committed to it, and how it fails.

:class:`Platter` outlives all processes and is where truth is read from: an event, an answer or a delivery
that it does not know of was given too early. :class:`SimStore` is what one process sees of it.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.engine.job import Job
from bunqueue_trio.engine.trails import LOG, Line
from bunqueue_trio.protocol.events import NAMED_TYPES
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Batch, Retention
from tests.storage.faulty import Crash, Fault, FaultyStore

OnBatch = Callable[[Batch], None]

_OF_A_LIVE_JOB = frozenset(
    [
        "pulled",
        "completed",
        "failed",
        "retried",
        "stalled",
        "delayed",
        "removed",
        "duplicated",
        "progress",
        "drained",
        "waiting-children",
    ]
)
"""The events that only a job can have that was pushed and has not ended."""


UNTOLD = "untold"
"""Stands for the queue of an event that only readers get who name its type: no actor does."""


class Platter(MemoryStore):
    """The rows, and the history of all commits."""

    def __init__(self, rng: random.Random, settings: Settings) -> None:
        super().__init__()
        self._rng = rng
        self._settings = settings
        self.events: list[bytes] = []
        """Every event that was ever committed; the first has id 1."""
        self.told: list[bytes] = []
        """Those of the types that need not be named."""
        self.of_queue: dict[str, list[bytes]] = {}
        self.queue_of: list[str] = []
        """The queue of each event."""
        self.pushed: set[str] = set()
        """The ids of all committed pushes."""
        self.ended: dict[str, str] = {}
        """How a job whose end is committed has ended; a later push of the same id takes it out."""
        self.completed: dict[str, int] = {}
        """How often a job of an id has completed."""
        self.synced: set[str] = set()
        """The ids of pushes that a power cut would leave: a later commit was fsynced, or their own."""
        self.written: set[str] = set()
        """Every line of a log that was ever committed."""
        self._unsynced: set[str] = set()
        self._alive: set[str] = set()
        self._doomed: dict[str, None] = {}
        self.on_batch: list[OnBatch] = []
        self.on_prune: Callable[[set[str]], None] = lambda _: None
        self.commits = 0

    def load(self) -> Iterable[Job]:
        jobs = list(super().load())
        self._rng.shuffle(jobs)  # no order is promised
        return jobs

    def commit(self, batch: Batch) -> None:
        super().commit(batch)
        self.written |= {
            json.loads(line.body)["message"] for line in batch.trails if isinstance(line, Line) and line.kind == LOG
        }
        assert batch.last_event_id == len(self.events) + len(batch.events), "an event id was left out or given twice"
        self.note(batch)

    def note(self, batch: Batch) -> None:
        """Take account of a batch that is committed."""
        self.commits += 1
        for body, event in zip(batch.events, batch.heard, strict=True):
            self.events.append(body)
            if event.event_type in NAMED_TYPES:
                self.queue_of.append(UNTOLD)
                continue
            self._note(event.event_type, event.job_id)
            self.queue_of.append(event.queue)
            self.told.append(body)
            self.of_queue.setdefault(event.queue, []).append(body)
        if batch.durable:
            self.synced |= self._unsynced
            self._unsynced.clear()
        for job_id in self._doomed:
            self._end(job_id, "failed")
        self._doomed.clear()
        for hear in self.on_batch:
            hear(batch)

    def prune(self, keep: Retention) -> int:
        before, events = self._by_state(), self.last_event_id - self.first_event_id() + 1
        rows = super().prune(keep)
        after, settings = self._by_state(), self._settings
        for state, ids in before.items():  # nothing is old here: only what is too much may go, from the front
            limit = settings.retention_dead_max if state == "failed" else settings.retention_completed_max
            assert after.get(state, []) == ids[max(0, len(ids) - max(limit, len(after.get(state, [])))) :], state
        events_left = self.last_event_id - self.first_event_id() + 1
        assert events_left >= min(events, settings.retention_events_max), f"of {events} events {events_left} are left"
        self.on_prune({job_id for ids in before.values() for job_id in ids} - set(self._finished))
        return rows

    def _by_state(self) -> dict[str, list[str]]:
        states: dict[str, list[str]] = {}
        for job_id, row in self._finished.items():
            states.setdefault(row.state, []).append(job_id)
        return states

    def kept(self) -> dict[str, Job]:
        """Return what is kept of finished jobs, by their ids."""
        return {job_id: self._rows.finished(row) for job_id, row in self._finished.items()}

    def facts(self) -> dict[tuple[str, str], bytes]:
        """Return all facts, by kind and key."""
        return self._facts

    def trails(self) -> dict[tuple[str, str], list[bytes]]:
        """Return the lines of all trails, by key and kind."""
        return {
            (key, kind): [body for _, (_, body) in sorted(trail.lines.items())]
            for key, kinds in self._trails.items()
            for kind, trail in kinds.items()
        }

    def kept_events(self) -> int:
        """Return how many events could be replayed, without the oldest batch and the newest: they stay whole."""
        return sum(len(bodies) for _, _, bodies, _ in self._events[1:-1])

    def _note(self, kind: str, job_id: str) -> None:
        """Follow one job through its events, which are all a reader of the stream has."""
        doomed = self._doomed.pop(job_id, False) is None
        if doomed and kind != "retried":  # it has failed, and is not retried: that was its end
            self._end(job_id, "failed")
        if kind == "pushed":
            assert job_id not in self._alive, f"{job_id} is pushed while it is there"
            self._alive.add(job_id)
            self.pushed.add(job_id)
            self._unsynced.add(job_id)
            self.ended.pop(job_id, None)
            return
        assert job_id in self._alive, f"{kind} of {job_id}, which is not there"
        assert kind in _OF_A_LIVE_JOB
        if kind == "completed":
            self.completed[job_id] = self.completed.get(job_id, 0) + 1
        if kind == "failed":
            self._doomed[job_id] = None
        if kind in ("completed", "removed"):
            self._end(job_id, kind)

    def _end(self, job_id: str, how: str) -> None:
        self._alive.discard(job_id)
        self.ended[job_id] = how


class SimStore(FaultyStore):
    """The disk as one process sees it; what a dead process still says does not arrive."""

    def __init__(self, inner: Platter, faults: Iterator[Fault], upkeep: Iterator[Fault], on_crash: Callable[[], None]):
        super().__init__(inner, faults, upkeep)
        self._on_crash = on_crash
        self.lock = trio.Lock()
        """Held by whoever writes."""

    def commit(self, batch: Batch) -> None:
        if not self.dead:
            # Where nobody holds it, this step does: nobody else runs before it ends.
            owner = self.lock.statistics().owner
            assert owner is None or owner is trio.lowlevel.current_task(), "a commit beside another writer"
            super().commit(batch)

    async def write(self, batch: Batch, *, quick: bool) -> None:
        if not self.dead:
            assert self.lock.locked(), "a commit that others may come beside"
        await super().write(batch, quick=quick)

    def prune(self, keep: Retention) -> int:
        if self.dead:
            return 0
        assert self.lock.locked(), "a deletion beside another writer"
        return super().prune(keep)

    def checkpoint(self, *, restart: bool) -> None:
        if not self.dead:
            super().checkpoint(restart=restart)

    def _crash(self) -> None:
        self.dead = True
        self._on_crash()
        raise Crash

    def _alive(self) -> None:
        """Let a dead process read on: nobody hears of it."""


class Threads:
    """Stands for ``trio.to_thread.run_sync``: costs virtual time, before the work and after it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.delays_s: tuple[float, ...] = (0.0,)

    async def run_sync(self, work: Callable[..., Any], *args: Any, **_: Any) -> Any:
        with trio.CancelScope(shield=True):
            await trio.sleep(self._rng.choice(self.delays_s))
            result = work(*args)
            await trio.sleep(self._rng.choice(self.delays_s))
        return result
