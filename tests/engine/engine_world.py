"""An engine, its disk and the naive model, moved together; whoever drives them decides what happens."""

import json
import random
from itertools import count
from typing import Any

from bunqueue_trio.engine.auto_retrying import auto_slice
from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine, Rules
from bunqueue_trio.engine.job import State
from bunqueue_trio.engine.rerunning import rerun_slice
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import codec
from bunqueue_trio.protocol import commands as c
from tests.engine.checks import check_agreement, check_empty, check_structure
from tests.engine.engine_disk import Disk, freeze
from tests.engine.model_commands import Model
from tests.engine.model_configs import return_dead
from tests.engine.model_reruns import go_on
from tests.engine.model_timeline import timeline
from tests.engine.model_upkeep import planned

LEASE_MS = 300_000
GRACE_MS = 30_000
STALLS_MAX = 3


class Ids:
    """Ids in the order they are asked for: two that are asked alike give the same."""

    def __init__(self) -> None:
        self._n = count(1)

    def __call__(self, now: int) -> str:
        return f"id-{next(self._n)}"


class World:
    """Every method is one step: engine and model do it, and must agree on what came of it."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.disk = Disk()
        self.rules = Rules(lease=LEASE_MS, stalls_max=STALLS_MAX, restart_grace=GRACE_MS)
        self._ids = Ids()
        self.engine = Engine(self._ids, self.disk, self.rules)
        self.engine.upkeep.plan = planned
        self.model = Model(Ids(), lease=LEASE_MS, stalls_max=STALLS_MAX, grace=GRACE_MS)
        self._committed = self.model.snapshot()
        self.model.committed = lambda: self._committed.ended
        self.model.durable = lambda: self._committed
        self.model.places = lambda: self.disk.places
        self.model.numbers = lambda: self.disk.places
        self._heard = 0
        self._flight: tuple | None = None

    def do(self, command: c.Command, owner: str | None = None) -> dict | tuple[int, str]:
        """Give both the command; return what they agree is the answer."""
        self._catch_up()
        try:
            reply = apply(self.engine, command, self.now, owner)
        except Refused as refused:
            answer: dict | tuple[int, str] = (refused.status, str(refused))
        else:
            answer = json.loads(codec.encode(reply))
        expected = self.model.do(command, self.now, owner)
        assert answer == expected
        self.check()
        return answer

    def go_to(self, now: int) -> None:
        """Let time pass, and what is due by then happen."""
        self.now = max(self.now, now)
        self.engine.advance(self.now, waited=True)
        self._catch_up()
        self.model.advance(self.now)
        self.check()

    def _catch_up(self) -> None:
        """Let the engine do all that is due, which may be more than one step does."""
        while self.engine.planner.due is not None and self.engine.planner.due <= self.now:
            self.engine.advance(self.now, waited=True)

    def disconnect(self, owner: str, *, dropped: bool) -> None:
        self.engine.release_owner(owner, self.now, dropped=dropped)
        self.model.release_owner(owner, self.now, dropped=dropped)
        self.check()

    def give_back(self, job_id: str, token: str) -> None:
        self.engine.give_back(job_id, token, self.now)
        self.model.give_back_one(job_id, token, self.now)
        self.check()

    def sweep(self) -> None:
        """Forget workers that are silent."""
        self.engine.forget_silent(self.now)
        self.model.forget_silent(self.now)
        self.check()

    def take(self) -> None:
        """Begin a commit, unless one is under way."""
        if self._flight is None:
            changes = self.engine.take()
            self._flight = freeze(changes), changes.jobs, self.model.snapshot()
            self._heard = 0

    def commit(self) -> None:
        """End the commit that is under way, or do a whole one."""
        self.take()
        assert self._flight is not None
        batch, jobs, self._committed = self._flight
        self._flight = None
        self.disk.commit(batch)
        self.engine.forget(jobs)
        self.check()
        kept = {job.id: job.noted().reason for job in self.disk.finished.values() if job.state is State.FAILED}
        assert kept == {job.id: job.cause for job in self._committed.ended if job.state == "failed"}

    def auto_retry(self) -> None:
        """Let the dead letters wait again by themselves whose time has come; they are seen when they are committed."""
        self.commit()
        self.commit()
        autos = self.engine.auto_retries
        while (name := autos.pop_due(self.now)) is not None:
            auto_slice(self.engine, name, self.now)
            while autos._look_at.get(name, self.now + 1) <= self.now:
                autos.look_at(name, 0)
                assert autos.pop_due(self.now) == name
                auto_slice(self.engine, name, self.now)
            return_dead(self.model, name, self.now, list(self.disk.places))
            self.check()

    def look_at_timeline(self, job_id: str) -> None:
        """Read what happened to a job, to the last page."""
        self.commit()
        self.commit()
        found: list[tuple[int, str]] = []
        after = None
        while True:
            page: Any = apply(self.engine, c.GetTimeline(id=job_id, after=after), self.now)
            moments = [(moment.at, moment.what) for moment in page.entries]
            assert [at for at, _ in moments] == sorted(at for at, _ in moments)
            found += moments
            after = page.next
            if after is None:
                break
        assert set(found) == timeline(self.model, job_id)
        self.check()

    def go_on_with_reruns(self) -> None:
        """Let each rerun retry as much as it may in a second, of what is committed."""
        self.commit()
        self.commit()
        for one in self.engine.reruns.under_way():
            left = one.allowance()
            assert left == self.model.reruns[one.id].may()
            while left > 0:
                before = one.retried, one.after
                rerun_slice(self.engine, one, left, self.now)
                go_on(self.model, one.id, left, self.now)
                self.check()
                if (one.retried, one.after) == before:
                    break
                left = min(left - (one.retried - before[0]), one.allowance())

    def crash(self, rng: random.Random) -> None:
        """Lose what is not committed, and start again from the disk."""
        self._flight, self._heard = None, 0
        self.engine = Engine(self._ids, self.disk, self.rules)
        self.engine.upkeep.plan = planned
        self.engine.facts.load(self.disk.load_facts())
        self.engine.load(self.disk.load(rng), self.now)
        self.model.restart(self._committed, self.now)
        assert self.engine.changed == {}
        self.check()

    def finish(self) -> None:
        """End every job there is; nothing may be left of any."""
        for name in self.model.schedules:
            self.do(c.PauseSchedule(name=name))
        for rerun_id in self.model.reruns:
            self.do(c.StopRerun(rerun=rerun_id))
        for _ in range(3):  # the next runs of series, too
            for job in list(self.model.jobs):
                self.do(c.Cancel(id=job.id))
        assert self.model.jobs == []
        self._take_back()
        for owner in list(self.model.bound):
            self.disconnect(owner, dropped=True)
        self.now += 120_000
        self.sweep()
        assert self.model.hands == {}
        self.commit()
        self.commit()
        check_empty(self.engine)

    def _take_back(self) -> None:
        """Take back what was said of queues, schedules and errors."""
        for queue in list(self.model.pauses):
            self.do(c.Resume(queue=queue))
        for queue in list(self.model.limits):
            self.do(c.ClearConcurrency(queue=queue))
        for queue in list(self.model.rates):
            self.do(c.RateLimitClear(queue=queue))
        for queue in {*self.model.said, *self.model.stall_rules}:
            self.do(c.ClearDefaults(queue=queue))
            self.do(c.ClearStallConfig(queue=queue))
            self.do(c.ClearDlqConfig(queue=queue.removeprefix("dead ")))
        for name in list(self.model.schedules):
            self.do(c.DeleteSchedule(name=name))
        for key in list(self.model.marks):
            self.do(c.MarkGroup(fingerprint=key, mark="none"))

    def check(self) -> None:
        events = [json.loads(codec.encode(event)) for event in self.engine.events[self._heard :]]
        self._heard = len(self.engine.events)
        assert events == self.model.events
        self.model.events = []
        assert set(self.engine.woken) == self.model.woken
        self.engine.woken.clear()
        self.model.woken.clear()
        check_structure(self.engine, self._flight[1] if self._flight else [])
        check_agreement(self.engine, self.model)
