"""Small random examples, shrunk to the shortest when engine and model disagree; ``test_seeded.py`` goes deep."""

import itertools
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from tests.engine.engine_world import LEASE_MS, World
from tests.engine.past_steps import GROUPS, STATES
from tests.engine.seeded_life import BACKOFFS, CHANGES_BY_ID, HOW, READS_BY_ID, WHEN

pytestmark = pytest.mark.usefixtures("small_limits")

QUEUES = st.sampled_from(["a", "b"])
OWNERS = st.sampled_from([None, "socket"])
WORKERS = st.sampled_from([None, None, "w1", "@1.2.3.4"])
PICKS = st.integers(0, 20)


def some(*values: object) -> st.SearchStrategy:
    return st.sampled_from(values)


OPTIONS = st.fixed_dictionaries(
    {"data": some(Raw(b"1"))},
    optional={
        "priority": some(0, 1),
        "delay": some(0, 1, 100),
        "max_attempts": some(1, 2),
        "backoff": some(0, 100, 3_000_000, *BACKOFFS),
        "ttl": some(0, 1, 100),
        "timeout": some(0, 1, 100, LEASE_MS),
        "unique_key": some("k"),
        "job_id": some("j1", "j2"),
        "lifo": st.just(True),
        "remove_on_complete": st.just(True),
        "remove_on_fail": st.just(True),
        "repeat": st.builds(c.Repeat, every=some(50, 1000), limit=some(None, 1, 2)),
    },
)


HOW_A_SCHEDULE = st.fixed_dictionaries(
    {},
    optional={
        "misfire": some("skip", "all"),
        "overlap": some("allow", "queue", "cancel"),
        "window": some(0, 1000),
        "jitter": some(1500, 100_000),
        "limit": some(1, 3),
        "end": some(1_060_000),
    },
)


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world = World()

    def job(self, pick: int, state: str | None = None) -> tuple[str, str | None]:
        """Id and token of the job that ``pick`` means; small numbers are the newest."""
        model = self.world.model
        jobs = [job for job in model.jobs if state in (None, job.state)] or [*model.ended, *model.jobs]
        return (jobs[-1 - pick % len(jobs)].id, jobs[-1 - pick % len(jobs)].token) if jobs else ("nobody", None)

    @rule(queue=QUEUES, spec=OPTIONS, needs=st.lists(PICKS, max_size=2))
    def push(self, queue, spec, needs):
        self.world.do(c.Push(queue=queue, depends_on=[self.job(pick)[0] for pick in needs], **spec))

    @rule(queue=QUEUES, specs=st.lists(OPTIONS, max_size=3))
    def push_several(self, queue, specs):
        jobs = [c.JobSpec(**spec) for spec in specs]
        for before, job in itertools.pairwise(jobs):
            job.depends_on = [before.job_id] if before.job_id else []
        self.world.do(c.PushBatch(queue=queue, jobs=jobs))

    @rule(queue=QUEUES, lock_ttl=some(None, None, 1, 1000), owner=OWNERS, named=WORKERS)
    def pull(self, queue, lock_ttl, owner, named):
        self.world.do(c.Pull(queue=queue, lock_ttl=lock_ttl, owner=named), owner)

    @rule(owner=OWNERS, named=WORKERS, name=some(None, "me"))
    def register(self, owner, named, name):
        self.world.do(c.RegisterWorker(worker_id=named, name=name, concurrency=2), owner)

    @rule(
        kind=some(c.QuietWorker, c.UnquietWorker, c.ReleaseWorker, c.UnregisterWorker, c.WorkerHeartbeat),
        name=some("w1", "socket"),
    )
    def act_on_worker(self, kind, name):
        self.world.do(kind(id=name))

    @rule()
    def sweep(self):
        self.world.sweep()

    @rule(queue=QUEUES, owner=OWNERS)
    def pull_two(self, queue, owner):
        self.world.do(c.PullBatch(queue=queue, count=2), owner)

    @rule(pick=PICKS, result=some(b"", b"{}"), honest=st.booleans())
    def ack(self, pick, result, honest):
        job_id, token = self.job(pick, "active")
        self.world.do(c.Ack(id=job_id, token=token if honest else "wrong", result=Raw(result)))

    @rule(pick=PICKS, error=some(None, "boom"), honest=st.booleans(), how=some({}, *HOW))
    def fail(self, pick, error, honest, how):
        job_id, token = self.job(pick, "active")
        self.world.do(c.Fail(id=job_id, token=token if honest else None, error=error, **how))

    @rule(picks=st.lists(PICKS, max_size=3))
    def ack_several(self, picks):
        self.world.do(c.AckBatch(ids=[self.job(pick, "active")[0] for pick in picks]))

    @rule(picks=st.lists(PICKS, max_size=3), how=some({}, *HOW))
    def fail_several(self, picks, how):
        self.world.do(c.FailBatch(failures=[c.Failure(id=self.job(pick, "active")[0], **how) for pick in picks]))

    @rule(pick=PICKS, duration=some(None, 1, 1000), owner=OWNERS)
    def heartbeat(self, pick, duration, owner):
        job_id, token = self.job(pick, "active")
        self.world.do(c.Heartbeat(id=job_id, token=token, duration=duration), owner)

    @rule(pick=PICKS)
    def progress(self, pick):
        self.world.do(c.Progress(id=self.job(pick, "active")[0], progress=50))

    @rule(pick=PICKS, kind=some(*CHANGES_BY_ID))
    def manage(self, pick, kind):
        self.world.do(kind(id=self.job(pick)[0]))

    @rule(
        pick=PICKS,
        state=some(None, "active"),
        reason=some(None, "why"),
        by=some(None, "ann"),
        grace=some(None, 0, 1, 1000),
    )
    def cancel(self, pick, state, reason, by, grace):
        self.world.do(c.Cancel(id=self.job(pick, state)[0], reason=reason, by=by, grace=grace))

    @rule(pick=PICKS, priority=some(-1, 0, 1), lifo=some(None, True, False))
    def change_priority(self, pick, priority, lifo):
        self.world.do(c.ChangePriority(id=self.job(pick)[0], priority=priority, lifo=lifo))

    @rule(pick=PICKS, delay=some(0, 1, 100), token=some(None, "wrong"))
    def change_delay(self, pick, delay, token):
        job_id, right = self.job(pick)
        self.world.do(c.ChangeDelay(id=job_id, delay=delay))
        self.world.do(c.MoveToDelayed(id=job_id, delay=delay + 1, token=token and right))
        self.world.do(c.MoveToWait(id=job_id, token=token and right))

    @rule(pick=PICKS, data=some(b"2", b""))
    def update(self, pick, data):
        self.world.do(c.Update(id=self.job(pick)[0], data=Raw(data)))

    @rule(pick=PICKS, kind=some(*READS_BY_ID))
    def read(self, pick, kind):
        self.world.do(kind(id=self.job(pick)[0]))

    @rule(queue=QUEUES, after=some(None, 0, 1, 100))
    def pause(self, queue, after):
        self.world.do(c.Pause(queue=queue, until=after and self.world.now + after))

    @rule(queue=QUEUES, concurrency=some(None, 1, 2))
    def limit(self, queue, concurrency):
        command = c.SetConcurrency(queue=queue, concurrency=concurrency) if concurrency else None
        self.world.do(command or c.ClearConcurrency(queue=queue))

    @rule(queue=QUEUES, limit=some(None, 1, 2), duration=some(1, 50, 1000), ttl=some(None, 1, 1000))
    def limit_rate(self, queue, limit, duration, ttl):
        command = c.RateLimit(queue=queue, limit=limit, duration=duration, ttl=ttl) if limit else None
        self.world.do(command or c.RateLimitClear(queue=queue))

    @rule(queue=QUEUES, state=some("waiting", "delayed", "waiting-children"), grace=some(0, 1), limit=some(1, 1000))
    def clear(self, queue, state, grace, limit):
        self.world.do(c.Clean(queue=queue, state=state, grace=grace))
        self.world.do(c.PromoteJobs(queue=queue, count=limit))
        self.world.do(c.Drain(queue=queue, delayed=state == "delayed", limit=limit))

    @rule(queue=QUEUES, on=some(True, True, None), interval=some(0, 50), most=some(None, 1))
    def say_of_dead_letters(self, queue, on, interval, most):
        self.world.do(c.SetDlqConfig(queue=queue, auto_retry=on, auto_retry_interval=interval, max_auto_retries=most))

    @rule(wait=st.booleans())
    def auto_retry(self, wait):
        self.world.commit()
        self.world.commit()
        if wait:
            self.world.go_to(self.world.engine.auto_retries.due or 0)
        self.world.auto_retry()

    @rule(pick=PICKS, clear=st.booleans())
    def write(self, pick, clear):
        job_id, _ = self.job(pick)
        self.world.do(c.ClearLogs(id=job_id) if clear else c.AddLog(id=job_id, message="a line"))

    @rule(key=some(*GROUPS[:3]), mark=some("fixed", "muted", "none"))
    def mark(self, key, mark):
        self.world.do(c.MarkGroup(fingerprint=key, mark=mark))

    @rule(pick=PICKS, queue=QUEUES, state=some(*STATES), limit=some(1, 100))
    def look_back(self, pick, queue, state, limit):
        job_id, _ = self.job(pick)
        for command in (c.GetLogs(id=job_id, limit=limit), c.GetAttempts(id=job_id), c.Actions(limit=limit)):
            self.world.do(command)
        for command in (c.Dlq(queue=queue, limit=limit), c.DlqGroups(queue=queue), c.DeadGroups(limit=limit)):
            self.world.do(command)
        self.world.do(c.GetJobs(queue=queue, state=state, limit=limit))
        self.world.do(c.ListWorkers(limit=limit))

    @rule(queue=QUEUES, force=st.booleans())
    def obliterate(self, queue, force):
        self.world.do(c.Obliterate(queue=queue, force=force))

    @rule(queue=QUEUES)
    def resume(self, queue):
        self.world.do(c.Resume(queue=queue))
        self.world.do(c.IsPaused(queue=queue))

    @rule(name=some("s", "t"), queue=QUEUES, when=some(*WHEN[:5]), how=HOW_A_SCHEDULE, misfire_max=some(1, 3))
    def put_schedule(self, name, queue, when, how, misfire_max):
        self.world.do(c.PutSchedule(name=name, queue=queue, **when, **how, misfire_max=misfire_max))

    @rule(name=some("s", "t"), kind=some(c.PauseSchedule, c.ResumeSchedule, c.RunSchedule, c.DeleteSchedule))
    def tell_schedule(self, name, kind):
        self.world.do(kind(name=name))
        self.world.do(c.ListSchedules())
        self.world.do(c.GetScheduleRuns(name=name, limit=3))

    @precondition(lambda self: self.world.engine.next_due() is not None)
    @rule(early=some(0, 0, 1))
    def sleep_until_due(self, early):
        self.world.go_to(self.world.engine.next_due() - early)

    @rule(ms=some(1, 50, 1000, LEASE_MS))
    def sleep(self, ms):
        self.world.go_to(self.world.now + ms)

    @rule(dropped=st.booleans())
    def disconnect(self, dropped):
        self.world.disconnect("socket", dropped=dropped)

    @rule()
    def begin_commit(self):
        self.world.take()

    @rule()
    def commit(self):
        self.world.commit()

    @rule(order=st.integers(0, 5))
    def crash_and_recover(self, order):
        self.world.crash(random.Random(order))

    def teardown(self):
        self.world.finish()


SETTINGS = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.thorough
@pytest.mark.untraced
class TestFew(Machine.TestCase):
    """Seconds, for every run."""

    settings = settings(SETTINGS, max_examples=60, stateful_step_count=25)


@pytest.mark.slow
@pytest.mark.untraced
class TestMany(Machine.TestCase):
    """What a change must pass."""

    settings = settings(SETTINGS, max_examples=100, stateful_step_count=50)
