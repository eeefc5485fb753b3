"""Why a job is not running, after any life of a queue: doing what is missing changes the answer to the next one, and what it foretells happens then and no sooner."""

import random
from typing import Any

import pytest

from bunqueue_trio.engine.auto_retrying import auto_slice
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.engine.make import Bench
from tests.engine.seeded_life import QUEUES, Life

pytestmark = pytest.mark.usefixtures("small_limits")

ENDS_SO = {"active", "cancelling", "waits-for-jobs", "failed"}
"""What a job may end after without its TTL: an attempt, what it waited for, or the time for which dead letters are kept."""


class Follower:
    """Asks one question after the other, and does what the answer says."""

    def __init__(self, life: Life, rng: random.Random) -> None:
        life.world.commit()
        life.world.commit()
        self.bench, self.rng = Bench(), rng
        self.bench.engine, self.bench.disk, self.bench.now = life.world.engine, life.world.disk, life.world.now
        self.seen: set[str] = set()

    def why(self, job: str, last: r.WhyReply | None) -> r.WhyReply | None:
        """The answer; None: the job is gone, as the last one has said that it may be."""
        try:
            said: r.WhyReply = self.bench.do(c.Why(id=job))
        except Refused:
            assert last is not None
            gone = last.expires_at is not None and last.expires_at <= self.bench.now
            assert gone or last.code in ENDS_SO, f"{last.why} It is gone."
            return None
        self.seen.add(said.code)
        assert said.expires_at is None or said.expires_at > self.bench.now
        return said

    def wait(self, until: int) -> None:
        """Let everything happen that is due by then, as the services do."""
        bench = self.bench
        bench.sleep(max(0, until - bench.now))
        while bench.engine.next_due() == 0:
            bench.sleep(0)
        bench.commit()
        autos = bench.engine.auto_retries
        while (name := autos.pop_due(bench.now)) is not None:
            auto_slice(bench.engine, name, bench.now)
        bench.commit()

    def wait_exactly(self, job: str, said: r.WhyReply) -> None:
        """Wait as long as the answer says: so it is until then, and not for longer."""
        assert said.until is not None
        self.wait(said.until - 1)
        try:
            before: Any = self.bench.do(c.Why(id=job))
        except Refused:
            before = None
        early = said.expires_at is not None and said.expires_at < said.until
        if said.code in ("delayed", "backs-off") and said.until - 1 >= self.bench.now:
            assert early or (before is not None and (before.code, before.until) == (said.code, said.until)), said.why
        if said.code == "rate-limit" and before is not None and before.code == "rate-limit":
            assert self.bench.pull(said.queue).job is None, "the gate was open"
        self.wait(said.until)

    def follow(self, job: str) -> None:
        """Do what the answers say until the job runs, or has ended."""
        last: r.WhyReply | None = None
        for _ in range(300):
            said = self.why(job, last)
            if said is None or said.code in ("completed", "cancelled"):
                return
            # A pull takes the first in line, which is seen there; the next run of a series may stand in its place at once.
            if last is not None and last.code not in ("in-line", "nobody-asks", "next"):
                is_same = (
                    said.code,
                    said.since,
                    said.until,
                    said.position,
                    said.waits_for_count,
                    said.active,
                    said.attempts,
                )
                was = (
                    last.code,
                    last.since,
                    last.until,
                    last.position,
                    last.waits_for_count,
                    last.active,
                    last.attempts,
                )
                names = said.why == last.why
                assert is_same != was or not names, f"{last.why} It has been done, and changed nothing."
            last = said
            if said.code in ("active", "failed") and (said.until is None or self.rng.random() < 0.5):
                return
            self.satisfy(job, said)
        # It starves: a series of higher priority is always before it, or what is not ended in time comes back.
        assert last is not None
        assert last.position is None or last.position > 1, f"It never ran: {last.why}"

    def satisfy(self, job: str, said: r.WhyReply) -> None:
        bench = self.bench
        match said.code:
            case "delayed" | "backs-off" | "rate-limit" | "active" | "cancelling" | "failed":
                self.wait_exactly(job, said)
            case "paused" if said.until is not None and self.rng.random() < 0.5:
                self.wait_exactly(job, said)
            case "paused":
                bench.do(c.Resume(queue=said.queue))
            case "concurrency":
                held = next(
                    each.id
                    for each in bench.engine.jobs.values()
                    if (each.queue, each.state) == (said.queue, State.ACTIVE)
                )
                bench.ack(held)
            case "waits-for-jobs":
                assert said.waits_for
                needed = self.rng.choice(said.waits_for)
                self.follow(needed)
                now = self.bench.engine.find(needed)
                if now is not None and now.state is State.ACTIVE:
                    bench.ack(needed)
            case "workers-quiet":
                quiet = [each for each in bench.engine.workers.quieted() if each.name in said.why]
                assert quiet, said.why
                bench.do(c.UnquietWorker(id=self.rng.choice(quiet).id))
            case "in-line" | "nobody-asks" | "next":
                pulled = bench.pull(said.queue).job
                assert pulled is not None, f"{said.why} Nothing stood in its way."
                assert (pulled.id == job) is (said.position == 1), said.why
                if pulled.id != job and self.rng.random() < 0.8:
                    # Else it would come back before the others, when its time is over.
                    bench.ack(pulled.id)
            case _:
                raise AssertionError(said.code)


def any_life(seed: int) -> Follower:
    rng = random.Random(seed)
    life = Life(seed)
    for _ in range(rng.choice((30, 80, 150))):
        life.step()
    follower = Follower(life, rng)
    for queue in QUEUES:
        if rng.random() < 0.7:
            trouble(follower.bench, queue, rng)
    return follower


def trouble(bench: Bench, queue: str, rng: random.Random) -> None:
    """Let jobs of a queue wait, and something stand in their way."""
    hands = [f"hand-{rng.randrange(3)}" for _ in range(3)]
    for _ in range(rng.choice((1, 3, 8))):
        bench.push(
            queue, priority=rng.randint(0, 2), lifo=rng.random() < 0.2, delay=rng.choice((0, 0, 0, 500)), ttl=rng.choice((None, None, 300, 90_000)),
            max_attempts=rng.choice((1, 3)), backoff=rng.choice((0, 400)), group_id=rng.choice((None, "g")), timeout=rng.choice((None, 700)),
        )  # fmt: skip
    for hand in hands:
        bench.do(c.RegisterWorker(worker_id=hand, queues=rng.sample(QUEUES, rng.randint(1, 2))))
    if rng.random() < 0.5:
        until = rng.choice((None, bench.now + 800))
        bench.do(
            c.RateLimit(
                queue=queue,
                limit=rng.randint(1, 2),
                duration=rng.choice((50, 5000)),
                ttl=rng.choice((None, 200, 100_000)),
            )
        )
        bench.do(c.Pause(queue=queue, until=until)) if rng.random() < 0.4 else None
    for _ in range(rng.randint(0, 3)):
        pulled = bench.do(c.Pull(queue=queue, owner=rng.choice((None, *hands)))).job
        if pulled is not None and rng.random() < 0.3:
            bench.fail(pulled.id)
        elif pulled is not None and rng.random() < 0.2:
            bench.do(c.Cancel(id=pulled.id, reason="why", grace=rng.choice((200, 100_000))))
    if rng.random() < 0.3:
        bench.do(c.SetConcurrency(queue=queue, concurrency=rng.randint(1, 2)))
    for hand in hands:
        if rng.random() < 0.6:
            bench.do(c.QuietWorker(id=hand))


@pytest.mark.parametrize(
    "seed",
    [*range(4), *(pytest.param(seed, marks=[pytest.mark.thorough, pytest.mark.untraced]) for seed in range(4, 40))],
)
def test_what_is_missing_is_all_that_is_missing(seed: int):
    follower = any_life(seed)
    bench = follower.bench
    kept = [job.id for job in bench.disk.finished.values() if job.state is State.FAILED]
    ids = [job.id for job in bench.engine.jobs.values()] + kept
    for job_id in follower.rng.sample(ids, min(len(ids), 12)):
        if bench.engine.find(job_id) is not None:
            follower.follow(job_id)


@pytest.mark.thorough
@pytest.mark.untraced
def test_lives_bring_every_reason():
    seen: set[str] = set()
    for seed in range(24):
        follower = any_life(seed)
        for job in list(follower.bench.engine.jobs.values()):
            seen.add(follower.bench.do(c.Why(id=job.id)).code)
    assert seen >= {
        "delayed", "backs-off", "waits-for-jobs", "paused", "rate-limit", "concurrency", "nobody-asks", "workers-quiet", "in-line", "next", "active",
        "cancelling",
    }  # fmt: skip
