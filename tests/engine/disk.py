"""The simplest disk there can be for an engine: whole jobs in two dicts, one batch in flight."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from bunqueue_trio.engine.engine import Changes
from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.job import UNFINISHED, Job, Records, State


def copy(job: Job) -> Job:
    """Return ``job`` as a store would give it back later: nothing shared, nothing of the process in it."""
    note = job.note and replace(job.note, waiting_on=None if job.note.waiting_on is None else set(job.note.waiting_on))
    lease = job.lease and replace(job.lease)
    return replace(job, note=note, lease=lease, due=None, armed=None, epoch=0)


def is_hidden(job: Job) -> bool:
    """Whether nothing is kept of a finished job but that it was."""
    return job.state is State.COMPLETED and job.options.remove_on_complete


class Batch(NamedTuple):
    """What one transaction writes: a snapshot, since the engine goes on meanwhile."""

    epoch: int
    new: list[Job]
    changed: list[Job]
    ended: list[int]
    finished: list[Job]
    reused_ids: list[str]
    facts: list[Fact]


def freeze(changes: Changes) -> Batch:
    batch = Batch(changes.epoch, [], [], [], [], list(changes.reused_ids), list(changes.facts))
    for job in changes.jobs:
        is_new = job.epoch == changes.epoch and job not in changes.rewritten
        if job.state in UNFINISHED:
            (batch.new if is_new else batch.changed).append(copy(job))
            continue
        if not is_new:
            batch.ended.append(job.seq)
        if job.state is not State.REMOVED:
            batch.finished.append(copy(job))
    return batch


class Disk:
    """What is committed. A batch that does not fit what is there is an error of the engine."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.finished: dict[str, Job] = {}
        self.facts: dict[tuple[str, str], bytes] = {}
        self.epoch = 0

    def commit(self, batch: Batch) -> None:
        assert batch.epoch > self.epoch
        self.epoch = batch.epoch
        for job_id in batch.reused_ids:
            self.finished.pop(job_id, None)
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
        for kind, key, value in batch.facts:
            if value is None:
                self.facts.pop((kind, key), None)
            else:
                self.facts[kind, key] = value

    def find(self, job_id: str) -> Job | None:
        job = self.finished.get(job_id)
        return None if job is None else copy(job)

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        return {job_id: self.finished[job_id].state for job_id in job_ids if job_id in self.finished}

    def kept_of(self, queue: str) -> tuple[int, int]:
        kept = [job.state for job in self.finished.values() if job.queue == queue and not is_hidden(job)]
        return kept.count(State.COMPLETED), kept.count(State.FAILED)

    def queues_after(self, name: str, limit: int) -> list[str]:
        return sorted({job.queue for job in self.finished.values() if job.queue > name})[:limit]

    def records(self, queue: str, state: State, before: int | None, limit: int) -> Records:
        kept = [
            (n, copy(job))
            for n, job in reversed(list(enumerate(self.finished.values())))
            if (job.queue, job.state) == (queue, state) and not is_hidden(job)
            and (before is None or n < before)
        ]  # fmt: skip
        return Records([job for _, job in kept[:limit]], kept[limit - 1][0] if len(kept) > limit else None)

    def load_facts(self) -> list[tuple[str, str, bytes]]:
        return [(kind, key, value) for (kind, key), value in self.facts.items()]

    def load(self, rng: random.Random) -> list[Job]:
        """Return every unfinished job, in no order, to an engine that counts its epochs from 1."""
        self.epoch = 0
        jobs = [copy(job) for job in self.jobs.values()]
        rng.shuffle(jobs)
        return jobs
