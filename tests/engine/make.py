"""Short ways to make an engine, jobs and commands for tests of one behaviour."""

import random
from itertools import count
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine, Rules
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Job, Options, State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.engine.engine_disk import Disk, freeze

T0 = 1_000_000
"""When every test begins."""


def make_job(seq: int = 1, *, state: State = State.WAITING, options: Options = DEFAULT_OPTIONS, **fields: Any) -> Job:
    job = Job(f"job-{seq}", "q", b"1", options, fields.pop("priority", 0), T0, T0, seq)
    job.state = state
    for name, value in fields.items():
        setattr(job, name, value)
    return job


class Bench:
    """An engine with a disk, and the commands as methods; ``now`` stands still unless it is moved."""

    def __init__(self, rules: Rules | None = None) -> None:
        ids = count(1)
        self.new_id = lambda now: f"id-{next(ids)}"
        self.disk = Disk()
        self.rules = rules or Rules()
        self.engine = Engine(self.new_id, self.disk, self.rules)
        self.now = T0

    def do(self, command: Any, owner: str | None = None) -> Any:
        return apply(self.engine, command, self.now, owner)

    def push(self, queue: str = "q", **options: Any) -> str:
        return self.do(c.Push(queue=queue, **{"data": Raw(b"1"), **options})).id

    def pull(self, queue: str = "q", *, lock_ttl: int | None = None, owner: str | None = None) -> r.PullReply:
        return self.do(c.Pull(queue=queue, lock_ttl=lock_ttl), owner)

    def pull_id(self, queue: str = "q", **how: Any) -> str | None:
        job = self.pull(queue, **how).job
        return job and job.id

    def ack(self, job_id: str, token: str | None = None) -> None:
        self.do(c.Ack(id=job_id, token=token))

    def fail(self, job_id: str, error: str = "boom") -> None:
        self.do(c.Fail(id=job_id, error=error))

    def state(self, job_id: str) -> r.StateReply:
        return self.do(c.GetState(id=job_id))

    def sleep(self, ms: int) -> None:
        self.now += ms
        self.engine.advance(self.now, waited=True)

    def events(self) -> list[str]:
        """The types of the events since the last call or commit, each with its job."""
        found = [f"{event.event_type} {event.job_id}" for event in self.engine.events]
        self.engine.events.clear()
        return found

    def restart(self) -> None:
        self.engine = Engine(self.new_id, self.disk, self.rules)
        self.engine.facts.load(self.disk.load_facts())
        self.engine.load(self.disk.load(random.Random(1)), self.now)

    def commit(self) -> None:
        changes = self.engine.take()
        self.disk.commit(freeze(changes))
        self.engine.forget(changes.jobs)


def refused(bench: Bench, command: Any) -> str:
    """The text of the refusal, which must have changed nothing."""
    bench.engine.advance(bench.now)
    bench.engine.take()
    before = {job.id: msgspec.structs.asdict(job) for job in bench.engine.jobs.values()}
    with pytest.raises(Refused) as caught:
        bench.do(command)
    assert (bench.engine.changed, bench.engine.events, list(bench.engine._reused_ids)) == ({}, [], [])
    assert {job.id: msgspec.structs.asdict(job) for job in bench.engine.jobs.values()} == before
    return f"{caught.value.status} {caught.value}"
