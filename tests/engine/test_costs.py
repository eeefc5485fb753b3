"""What a step of an act costs, for each act of the catalogue: the same whatever else there is, or a bounded number of jobs.

Counted are the calls that the engine makes, which no machine makes slower: 10,000 of them take a ms or two.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import ACTS, SLICED
from bunqueue_trio.protocol.server_replies import UpkeepView
from bunqueue_trio.runtime.slices import first_slice
from bunqueue_trio.storage.making import make_batch
from bunqueue_trio.storage.sqlite import SqliteStore
from tests.engine.make import Bench

FEW, MANY = 30, 1500
EVERY = 60_000
"""Of schedules, ms."""
MORE = 40
"""Calls that an act on one thing may make more beside fifty times as many: a step more in a tree, a block that is split."""


class Crowd(Bench):
    """An engine on a file, with this many jobs in each state, workers' jobs, schedules and settings."""

    def __init__(self, path: Path, n: int) -> None:
        super().__init__()
        self.store = SqliteStore(path)
        self.engine = Engine(self.new_id, self.store, self.rules)
        self.engine.upkeep.plan = lambda kind: UpkeepView(kind=kind, state="planned", bytes=7)
        # One follows the other.
        self.engine.upkeep.on_begin = lambda work: setattr(work, "state", "done")
        self.dead = self._batch(n, "dead", max_attempts=1)
        self.do(c.PullBatch(queue="q", count=min(n, 1000)))
        for _ in range(n // 1000):
            self.do(c.PullBatch(queue="q", count=1000))
        self.do(c.FailBatch(failures=[c.Failure(id=job_id, error="boom") for job_id in self.dead]))
        self.commit()
        self.commit()
        self.active = self._batch(n, "active", priority=9)
        self.do(c.RegisterWorker(worker_id="w", queues=["q"]))
        self.do(c.RegisterWorker(worker_id="quiet", queues=["q"]))
        self.do(c.RegisterWorker(worker_id="idle", queues=["q"]))
        self.do(c.QuietWorker(id="quiet"))
        for _ in range(-(-n // 1000)):
            self.do(c.PullBatch(queue="q", count=min(n, 1000), owner="w"))
        self.waiting = self._batch(n, "waiting")
        self.delayed = self._batch(n, "delayed", delay=10_000)
        self.blocked = self._batch(n, "blocked", depends_on=["waiting-0"])
        for name in ("s", "paused", *(f"other-{i}" for i in range(n // 10))):
            self.do(c.PutSchedule(name=name, queue="other", every=EVERY))
        self.do(c.PauseSchedule(name="paused"))
        for i in range(n // 10):
            self.do(c.Pause(queue=f"queue-{i}"))
        for said in (
            c.Pause(queue="said"), c.SetConcurrency(queue="said", concurrency=5), c.RateLimit(queue="said", limit=5),
            c.SetDefaults(queue="said", max_attempts=5), c.SetDlqConfig(queue="said", max_entries=5),
            c.SetStallConfig(queue="said", max_stalls=5), c.MarkGroup(fingerprint="0123456789ab", mark="fixed"),
        ):  # fmt: skip
            self.do(said)
        self.do(c.AddLog(id="waiting-1", message="a line"))
        self.rerun = self.do(c.RerunDlq(filter=c.Filter(queue="q"), count=5, force=True)).rerun.id
        self.commit()
        self.commit()

    def _batch(self, n: int, name: str, **options: Any) -> list[str]:
        ids = [f"{name}-{i}" for i in range(n)]
        jobs = [c.JobSpec(data=Raw(b"1"), job_id=job_id, **options) for job_id in ids]
        for begin in range(0, n, 1000):
            self.do(c.PushBatch(queue="q", jobs=jobs[begin : begin + 1000]))
        return ids

    def commit(self) -> None:
        changes = self.engine.take()
        self.store.commit(make_batch(changes, self.now, durable=False, last_event_id=self.store.last_event_id))
        self.engine.forget(changes.jobs)

    def calls(self, command: c.Command) -> int:
        """How many calls the engine makes for a command, in one step."""
        made = 0

        def note(frame: FrameType, event: str, _: object) -> None:
            nonlocal made
            made += event in ("call", "c_call") and "/bunqueue_trio/engine/" in frame.f_code.co_filename

        sys.setprofile(note)
        try:
            self.do(command)
        finally:
            sys.setprofile(None)
        self.commit()
        return made


Act = Callable[[Crowd], c.Command]
# All are done to one crowd, so each has a job and a schedule of its own.
ON_ONE: dict[type[c.Command], Act] = {
    c.Cancel: lambda w: c.Cancel(id="waiting-5", reason="x"), c.Discard: lambda w: c.Discard(id="waiting-6"),
    c.ChangeDelay: lambda w: c.ChangeDelay(id="waiting-7", delay=5), c.ChangePriority: lambda w: c.ChangePriority(id="waiting-8", priority=5),
    c.MoveToDelayed: lambda w: c.MoveToDelayed(id="waiting-9", delay=5), c.MoveToWait: lambda w: c.MoveToWait(id="delayed-5"),
    c.Promote: lambda w: c.Promote(id="delayed-6"), c.Update: lambda w: c.Update(id="waiting-10", data=Raw(b"2")),
    c.ClearLogs: lambda w: c.ClearLogs(id="waiting-1"), c.Pause: lambda w: c.Pause(queue="q"), c.Resume: lambda w: c.Resume(queue="said"),
    c.SetConcurrency: lambda w: c.SetConcurrency(queue="q", concurrency=5), c.ClearConcurrency: lambda w: c.ClearConcurrency(queue="said"),
    c.RateLimit: lambda w: c.RateLimit(queue="q", limit=5), c.RateLimitClear: lambda w: c.RateLimitClear(queue="said"),
    c.SetDefaults: lambda w: c.SetDefaults(queue="q", max_attempts=5), c.ClearDefaults: lambda w: c.ClearDefaults(queue="said"),
    c.SetDlqConfig: lambda w: c.SetDlqConfig(queue="q", auto_retry=True), c.ClearDlqConfig: lambda w: c.ClearDlqConfig(queue="said"),
    c.SetStallConfig: lambda w: c.SetStallConfig(queue="q", max_stalls=5), c.ClearStallConfig: lambda w: c.ClearStallConfig(queue="said"),
    c.MarkGroup: lambda w: c.MarkGroup(fingerprint="0123456789ab", mark="muted"), c.QuietWorker: lambda w: c.QuietWorker(id="w"),
    c.UnquietWorker: lambda w: c.UnquietWorker(id="quiet"), c.PutSchedule: lambda w: c.PutSchedule(name="new", queue="q", every=EVERY),
    c.ChangeSchedule: lambda w: c.ChangeSchedule(name="s", every=EVERY + 1), c.DeleteSchedule: lambda w: c.DeleteSchedule(name="other-0"),
    c.PauseSchedule: lambda w: c.PauseSchedule(name="other-1"), c.ResumeSchedule: lambda w: c.ResumeSchedule(name="paused"),
    c.RunSchedule: lambda w: c.RunSchedule(name="s"), c.Cron: lambda w: c.Cron(name="newer", queue="q", repeat_every=EVERY),
    c.CronDelete: lambda w: c.CronDelete(name="other-2"),
    c.StopRerun: lambda w: c.StopRerun(rerun=w.rerun), c.UnregisterWorker: lambda w: c.UnregisterWorker(id="idle"),
    c.BackupStorage: lambda w: c.BackupStorage(), c.CheckStorage: lambda w: c.CheckStorage(), c.ShrinkStorage: lambda w: c.ShrinkStorage(),
}  # fmt: skip
ON_MANY: dict[type[c.Command], tuple[Act, int]] = {
    c.ActOnJobs: (lambda w: c.ActOnJobs(filter=c.Filter(queue="q"), action="cancel", limit=10_000), 4_000),
    c.Clean: (lambda w: c.Clean(queue="q", state="waiting", grace=0, limit=1000), 40_000),
    c.Drain: (lambda w: c.Drain(queue="q", limit=1000), 60_000),
    c.Obliterate: (lambda w: c.Obliterate(queue="q", force=True, limit=1000), 4_000),
    c.PromoteJobs: (lambda w: c.PromoteJobs(queue="q", count=1000), 20_000),
    c.PurgeDlq: (lambda w: c.PurgeDlq(queue="q", limit=1000), 2_500),
    c.RetryDlq: (lambda w: c.RetryDlq(queue="q", limit=1000), 6_000),
    c.RerunDlq: (lambda w: c.RerunDlq(filter=c.Filter(queue="q"), count=5, force=True), 1_500),
    c.ReleaseWorker: (lambda w: c.ReleaseWorker(id="w"), 30_000),
}
"""Act → one at its limit, and how many calls a step of it may make: a slice, where it is done in slices."""


def test_each_act_of_the_catalogue_has_its_bound() -> None:
    assert ON_ONE.keys() | ON_MANY.keys() == ACTS
    assert not ON_ONE.keys() & ON_MANY.keys()


@pytest.mark.untraced
@pytest.mark.slow
def test_an_act_on_one_thing_costs_the_same_beside_many(tmp_path: Path) -> None:
    dear, crowds = {}, [Crowd(tmp_path / f"{n}.db", n) for n in (FEW, MANY)]
    for kind, act in ON_ONE.items():
        few, many = (crowd.calls(act(crowd)) for crowd in crowds)
        if many > few + MORE:
            dear[kind.__name__] = few, many
    assert dear == {}


@pytest.mark.untraced
@pytest.mark.slow
@pytest.mark.parametrize("kind", ON_MANY, ids=lambda kind: kind.__name__)
def test_a_step_of_an_act_on_many_is_bounded(tmp_path: Path, kind: type[c.Command]) -> None:
    act, most = ON_MANY[kind]
    crowd = Crowd(tmp_path / "q.db", MANY)
    command = act(crowd)
    assert crowd.calls(first_slice(command) if kind in SLICED else command) <= most
