"""The simplest disk there can be for an engine: whole jobs in two dicts, one batch in flight."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from bunqueue_trio.engine.engine import Changes
from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.job import UNFINISHED, Job, Records, State, Trace
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import Line, TrailChange, TrailPage
from bunqueue_trio.protocol import codec


def copy(job: Job) -> Job:
    """Return ``job`` as a store would give it back later: nothing shared, nothing of the process in it."""
    note = job.note and replace(job.note, waiting_on=None if job.note.waiting_on is None else set(job.note.waiting_on))
    lease = job.lease and replace(job.lease)
    return replace(job, note=note, lease=lease, due=None, armed=None, epoch=0)


def is_hidden(job: Job) -> bool:
    """Whether nothing is kept of a finished job but that it was."""
    return job.state is State.COMPLETED and job.options.remove_on_complete


def fingerprint_of(job: Job) -> str | None:
    if job.state is not State.FAILED:
        return None
    return "cancelled" if job.noted().cancelled is not None else fingerprint(job.noted().error or "").key


class Batch(NamedTuple):
    """What one transaction writes: a snapshot, since the engine goes on meanwhile."""

    epoch: int
    new: list[Job]
    changed: list[Job]
    ended: list[int]
    finished: list[Job]
    reused_ids: list[str]
    facts: list[Fact]
    trails: list[TrailChange]
    events: list[bytes]


def freeze(changes: Changes) -> Batch:
    batch = Batch(
        changes.epoch,
        [],
        [],
        [],
        [],
        list(changes.reused_ids),
        list(changes.facts),
        changes.trails,
        [codec.encode(event) for event in changes.events],
    )
    for job in changes.jobs:
        is_new = job.epoch == changes.epoch and job not in changes.rewritten
        if job.state in UNFINISHED:
            (batch.new if is_new else batch.changed).append(copy(job))
            continue
        if not is_new:
            batch.ended.append(job.seq)
        if job.state is not State.REMOVED:
            batch.finished.append(copy(job))
    batch.finished.sort(key=lambda job: job.noted().finished_at)
    return batch


class Disk:
    """What is committed. A batch that does not fit what is there is an error of the engine."""

    at_once = True

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.finished: dict[str, Job] = {}
        self.facts: dict[tuple[str, str], bytes] = {}
        self.trails: dict[str, dict[str, list[tuple[int, bytes]]]] = {}
        self.events: list[tuple[int, bytes]] = []
        self.epoch = 0
        self.places: dict[str, int] = {}
        self.last_place = 0

    def commit(self, batch: Batch) -> None:
        assert batch.epoch > self.epoch
        self.epoch = batch.epoch
        for job_id in batch.reused_ids:
            if self.finished.pop(job_id, None) is not None:
                del self.places[job_id]
                self.trails.pop(job_id, None)
        for job in batch.new:
            assert job.seq not in self.jobs, "a new job takes the row of another"
            self.jobs[job.seq] = job
        for job in batch.changed:
            assert self.jobs[job.seq].id == job.id, "a changed job was never written"
            self.jobs[job.seq] = job
        for seq in batch.ended:
            self.jobs.pop(seq, None)  # a finished job whose id is pushed again while it is in flight ends twice
        for job in batch.finished:
            assert job.id not in self.finished, "two finished jobs of one id"
            self.finished[job.id] = job
            self.last_place += 1
            self.places[job.id] = self.last_place
        for kind, key, value in batch.facts:
            if value is None:
                self.facts.pop((kind, key), None)
            else:
                self.facts[kind, key] = value
        self.events += enumerate(batch.events, self.last_event_id + 1)
        for change in batch.trails:
            self.change_trail(change)
        standing = {job.id for job in self.jobs.values()} | set(self.finished) | {""}
        assert set(self.trails) <= standing, "a trail of a job that is not there"

    def change_trail(self, change: TrailChange) -> None:
        if isinstance(change, Line):
            if not change.of_record or change.key in self.finished:
                lines = self.trails.setdefault(change.key, {}).setdefault(change.kind, [])
                lines.append((lines[-1][0] + 1 if lines else 1, change.body))
        elif change.kind is None:
            self.trails.pop(change.key, None)
        else:
            self.trails.get(change.key, {}).pop(change.kind, None)

    @property
    def last_event_id(self) -> int:
        return self.events[-1][0] if self.events else 0

    def first_event_id(self) -> int:
        return self.events[0][0] if self.events else 1

    def events_after(self, event_id: int, limit: int) -> list[tuple[int, bytes]]:
        return [event for event in self.events if event[0] > event_id][:limit]

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        lines = self.trails.get(key, {}).get(kind, [])
        found = [(n, body) for n, body in lines if place is None or (n < place if newest else n > place)]
        found.sort(reverse=newest)
        return TrailPage(found[:limit], len(lines), found[limit - 1][0] if len(found) > limit else None)

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        job = self.finished.get(job_id)
        return None if job is None else copy(job)

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        return {job_id: self.finished[job_id].state for job_id in job_ids if job_id in self.finished}

    def kept_of(self, queue: str) -> tuple[int, int]:
        kept = [job.state for job in self.finished.values() if job.queue == queue and not is_hidden(job)]
        return kept.count(State.COMPLETED), kept.count(State.FAILED)

    def queues_after(self, name: str, limit: int) -> list[str]:
        return sorted({job.queue for job in self.finished.values() if job.queue > name})[:limit]

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        found = sorted((job for job in self.finished.values() if first <= job.id < end), key=lambda job: job.id)
        return [
            Trace(job.id, job.state, job.started_at, job.note and job.note.finished_at, job.note and job.note.error)
            for job in found[: -limit - 1 : -1]
        ]

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        kept = [
            (n, copy(job))
            for n, job in self._by_place(reverse=not oldest)
            if (job.queue, job.state) == (queue, state) and not is_hidden(job)
            and (before is None or (n > before if oldest else n < before)) and fingerprint in (None, fingerprint_of(job))
        ]  # fmt: skip
        for _, job in kept:
            job.noted().fingerprint = fingerprint_of(job)
        more = kept[limit - 1][0] if len(kept) > limit else None
        return Records([job for _, job in kept[:limit]], more, [n for n, _ in kept[:limit]])

    def _by_place(self, *, reverse: bool) -> list[tuple[int, Job]]:
        places = sorted(self.places.items(), key=lambda item: item[1], reverse=reverse)
        return [(n, self.finished[job_id]) for job_id, n in places]

    @property
    def dead_groups(self) -> DeadGroups:
        keys = [(job.queue, fingerprint_of(job)) for job in self.finished.values()]
        return DeadGroups(Counter((queue, key) for queue, key in keys if key is not None))

    def is_grouped(self, queue: str) -> bool:
        return True

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> int | None:
        first: dict[str, int] = {}
        for job in self.finished.values():
            if fingerprint_of(job) == fingerprint and job.queue in queues:
                first.setdefault(job.queue, job.noted().finished_at or 0)
        return min(first.values(), default=None)

    def load_facts(self) -> list[tuple[str, str, bytes]]:
        return [(kind, key, value) for (kind, key), value in self.facts.items()]

    def load(self, rng: random.Random) -> list[Job]:
        """Return every unfinished job, in no order, to an engine that counts its epochs from 1."""
        self.epoch = 0
        self.last_place = max(self.places.values(), default=0)
        jobs = [copy(job) for job in self.jobs.values()]
        rng.shuffle(jobs)
        return jobs
