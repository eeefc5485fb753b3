"""Why a job is not running: each reason in words, and doing what it says is missing leads to the next one."""

import random

import pytest
from msgspec import Raw

from bunqueue_trio.engine import ready
from bunqueue_trio.engine.figures import QueueMinute, bucket_of, upper
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench


def ask(bench: Bench, job: str) -> tuple[str, str]:
    said = bench.do(c.Why(id=job))
    return said.code, said.why


def test_each_reason_has_its_words(bench: Bench):
    first, second, third = bench.push(), bench.push(), bench.push(priority=1)
    nobody = "Nobody asks for jobs of this queue, and none is active. "
    assert ask(bench, third) == ("nobody-asks", nobody + "It is the next of its queue.")
    assert ask(bench, second) == ("nobody-asks", nobody + "It is number 3 in line, behind 1 of higher priority.")
    bench.pull()
    bench.sleep(61_000)
    assert ask(bench, third) == (
        "active",
        "A worker has had it for 1 min 1 s; what is usual in its queue is not known yet.",
    )
    assert ask(bench, first) == ("next", "It is the next of its queue. 1 job of the queue is active.")
    bench.pull()
    assert ask(bench, second) == ("next", "It is the next of its queue. 2 jobs of the queue are active.")
    other = bench.push()
    assert ask(bench, other) == (
        "in-line", "It is number 2 in line. 2 jobs of the queue are active.",
    )  # fmt: skip
    bench.do(c.SetConcurrency(queue="q", concurrency=1))
    assert ask(bench, second) == (
        "concurrency", "2 jobs of the queue are active, and no more than 1 may be. It is the next of its queue.",
    )  # fmt: skip
    bench.do(c.Pause(queue="q", reason="mail is down"))
    assert ask(bench, second) == ("paused", "The queue is paused (mail is down). It is the next of its queue.")
    bench.do(c.Pause(queue="q", until=bench.now + 90_000))
    assert ask(bench, second)[1] == "The queue is paused, for 1 min 30 s more. It is the next of its queue."
    bench.ack(third)
    bench.sleep(2000)
    assert ask(bench, third) == ("completed", "It completed 2 s ago.")
    with pytest.raises(Refused, match="Job not found"):
        ask(bench, "nobody")


def test_a_full_rate_says_when_the_next_is_possible(bench: Bench):
    bench.push()
    job = bench.push()
    bench.do(c.RateLimit(queue="q", limit=1, duration=7_200_000))
    bench.pull()
    said = bench.do(c.Why(id=job))
    assert (said.code, said.limit, said.until) == ("rate-limit", 1, T0 + 7_200_000)
    assert said.why == (
        "The queue delivers at most 1 in 2 h: the next is possible in 2 h. It is the next of its queue."
    )


def test_a_limit_that_ends_before_there_is_room_says_when_it_ends(bench: Bench):
    bench.push()
    job = bench.push()
    bench.do(c.RateLimit(queue="q", limit=1, duration=7_200_000, ttl=60_000))
    bench.pull()
    said = bench.do(c.Why(id=job))
    assert (said.code, said.until) == ("rate-limit", T0 + 60_000)
    assert said.why.startswith("The queue delivers at most 1 in 2 h: that limit ends in 1 min.")
    bench.sleep(60_000)
    assert bench.pull_id() == job


def test_who_is_removed_before_it_is_ready_says_when(bench: Bench):
    job = bench.push(delay=7_200_000, ttl=60_000)
    bench.sleep(1000)
    said = bench.do(c.Why(id=job))
    assert (said.code, said.until, said.expires_at) == ("delayed", T0 + 7_200_000, T0 + 60_000)
    assert said.why.endswith(" Its TTL ends in 59 s: it is removed then, if nobody has got it.")
    waits = bench.push("r", ttl=60_000, depends_on=[bench.push("s")])
    bench.push("q", ttl=60_000, priority=5)
    assert bench.do(c.Why(id=waits)).expires_at == bench.now + 60_000
    taken = bench.pull_id()
    assert bench.do(c.Why(id=taken)).expires_at is None, "who has been delivered once stays"


def test_who_is_not_ready_says_when_it_will_be(bench: Bench):
    job = bench.push(delay=172_800_000)
    assert ask(bench, job) == ("delayed", "It is delayed, and ready in 2 d.")
    tried = bench.push(backoff=500)
    for text in (
        "It has failed once, and is ready again in 500 ms.",
        "It has failed 2 times, and is ready again in 1 s.",
    ):
        bench.pull()
        bench.fail(tried)
        assert ask(bench, tried) == ("backs-off", text)
        bench.sleep(500)
    bench.sleep(500)
    bench.pull()
    bench.fail(tried)
    bench.sleep(1)
    assert ask(bench, tried) == (
        "failed", "It is a dead letter (max_attempts_exceeded, attempt 3 of 3) for 1 ms: boom",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("ValueError: amount\nTraceback", ": ValueError: amount"), ("\n  x\r\ny", ": x"), ("e" * 201, ": " + "e" * 200),
        (" \n", "."), ("", "."),
    ],
)  # fmt: skip
def test_a_dead_one_says_what_it_died_of(bench: Bench, error: str, told: str):
    job = bench.push(max_attempts=2)
    bench.pull()
    bench.do(c.Fail(id=job, error=error, unrecoverable=True))
    bench.sleep(53_000)
    assert ask(bench, job) == ("failed", f"It is a dead letter (unrecoverable, attempt 1 of 2) for 53 s{told}")


def test_who_waits_for_others_names_some_of_them(bench: Bench):
    ids = [bench.push() for _ in range(23)]
    job = bench.push(depends_on=ids[:2])
    assert ask(bench, job) == ("waits-for-jobs", f"It waits for {ids[0]}, {ids[1]} to complete.")
    said = bench.do(c.Why(id=bench.push(depends_on=ids)))
    assert (len(said.waits_for), said.waits_for_count) == (20, 23)
    assert said.why.endswith(" and 3 more to complete.")


def test_a_bounded_number_of_priorities_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ready, "_COUNTED", 3)
    for priority in range(1, 5):
        bench.push(priority=priority)
        bench.push(priority=priority)
    said = bench.do(c.Why(id=bench.push(priority=1)))
    assert (said.position, said.higher, said.exact) == (9, 6, True)
    said = bench.do(c.Why(id=bench.push()))
    assert (said.position, said.higher, said.exact) == (7, 6, False)
    assert "number at least 7 in line, behind at least 6 of higher priority" in said.why


def satisfy(bench: Bench, job: str, rng: random.Random) -> None:
    """Do what the answer says is missing, and nothing else."""
    said = bench.do(c.Why(id=job))
    match said.code:
        case "delayed" | "backs-off" | "rate-limit":
            bench.sleep(said.until - bench.now)
        case "paused" if said.until is not None and rng.random() < 0.5:
            bench.sleep(said.until - bench.now)
        case "paused":
            bench.do(c.Resume(queue=said.queue))
        case "concurrency":
            bench.ack(next(other.id for other in bench.engine.jobs.values() if is_active(other, said.queue)))
        case "waits-for-jobs":
            finish(bench, said.waits_for[0], rng)
        case "workers-quiet":
            quiet = [worker.id for worker in bench.engine.workers.quieted() if worker.works_on(said.queue)]
            assert all(name in said.why for name in quiet)
            bench.do(c.UnquietWorker(id=rng.choice(quiet)))
        case "in-line" | "nobody-asks" | "next":
            pulled = bench.pull(said.queue)
            assert pulled.job is not None, "nothing stands in its way"
            assert (pulled.job.id == job) is (said.position == 1)
        case _:
            raise AssertionError(said.code)


def is_active(job: object, queue: str) -> bool:
    return (job.state, job.queue) == (State.ACTIVE, queue)  # type: ignore[attr-defined]


def finish(bench: Bench, job: str, rng: random.Random) -> None:
    if run(bench, job, rng):
        bench.ack(job)


def run(bench: Bench, job: str, rng: random.Random) -> bool:
    """Bring a job to a worker, one reason after the other; return whether it has one, and is not ended by a cancellation instead."""
    before: tuple[object, ...] = ()
    for _ in range(500):
        serve(bench)
        said = bench.do(c.Why(id=job))
        if said.code in ("active", "cancelling"):
            return True
        if said.code in ("cancelled", "failed"):
            assert "ancelled" in said.why or "Dependency" in said.why
            return False
        seen = (
            bench.now,
            said.code,
            said.position,
            said.until,
            said.waits_for_count,
            said.active,
            bench.engine.workers.quiet,
        )
        assert seen != before, f"{said.why} It has been done, and changed nothing."
        before = seen
        satisfy(bench, job, rng)
    raise AssertionError("it never ran")


def serve(bench: Bench) -> None:
    """Give jobs to the pulls that wait, as the runtime does; then none waits where a job may leave."""
    waiting = bench.engine.pulls_waiting
    for queue, pulls in waiting.items():
        while pulls and bench.engine.offers(queue):
            assert bench.pull_id(queue) is not None
            pulls.pop()  # type: ignore[attr-defined]


def shut_gates(bench: Bench, rng: random.Random) -> None:
    """Let something stand before the jobs of most queues."""
    for queue in "ab":
        if rng.random() < 0.5:
            bench.do(c.Pause(queue=queue, until=rng.choice([None, bench.now + 500])))
        if rng.random() < 0.5:
            bench.do(c.RateLimit(queue=queue, limit=rng.randint(1, 3), duration=rng.choice([1, 1000])))
        if rng.random() < 0.5:
            bench.do(c.SetConcurrency(queue=queue, concurrency=rng.randint(1, 2)))


def call_crew(bench: Bench, rng: random.Random) -> None:
    """Let pulls wait, workers be quiet, and jobs be cancelled that are with one."""
    bench.engine.watch_pulls({queue: [None] * rng.randint(0, 3) for queue in "ab" if rng.random() < 0.5})
    for name in "vw":
        bench.do(c.RegisterWorker(worker_id=f"worker-{name}", queues=rng.sample("ab", rng.randint(1, 2))))
        if rng.random() < 0.6:
            bench.do(c.QuietWorker(id=f"worker-{name}"))
    for job in [job for job in bench.engine.jobs.values() if is_active(job, job.queue) and rng.random() < 0.5]:
        bench.do(c.Cancel(id=job.id, reason="why", grace=rng.choice([200, 100_000])))
        assert bench.do(c.Why(id=job.id)).code == "cancelling"


@pytest.mark.parametrize("seed", range(40))
def test_doing_what_is_missing_makes_a_job_run(seed: int):
    rng = random.Random(seed)
    bench = Bench()
    ids: list[str] = []
    for _ in range(rng.randint(3, 25)):
        needs = rng.sample(ids, min(len(ids), rng.choice([0, 0, 1, 2])))
        # Long leases, and none dies of what is tried here: only what Why says may move a job.
        ids.append(
            bench.push(
                rng.choice("ab"), data=Raw(b"1"), priority=rng.randint(0, 2), delay=rng.choice([0, 0, 50, 5000]),
                lifo=rng.random() < 0.2, depends_on=needs, backoff=100, timeout=86_400_000, remove_on_complete=True,
            )
        )  # fmt: skip
    shut_gates(bench, rng)
    for _ in range(rng.randint(0, 6)):
        pulled = bench.pull(rng.choice("ab")).job
        if pulled is not None and rng.random() < 0.5:
            bench.fail(pulled.id)
    call_crew(bench, rng)
    for job_id in rng.sample(ids, len(ids)):
        if bench.engine.find(job_id) is not None:
            finish(bench, job_id, rng)


def test_a_queue_whose_workers_are_quiet_does_not_look_forgotten(bench: Bench):
    job_id = bench.push()
    bench.do(c.RegisterWorker(worker_id="w", name="mailer", queues=["q"]))
    bench.do(c.RegisterWorker(worker_id="v", name="other", queues=["other"]))
    assert ask(bench, job_id)[0] == "nobody-asks"
    bench.do(c.QuietWorker(id="v"))
    assert ask(bench, job_id)[0] == "nobody-asks"
    bench.do(c.QuietWorker(id="w"))
    said = "Those who work on this queue are quiet, and get no jobs: mailer. It is the next of its queue."
    assert ask(bench, job_id) == ("workers-quiet", said)


def test_a_queue_of_which_only_quiet_workers_have_jobs_does_not_look_as_if_it_went_on(bench: Bench):
    """They get no other when they have ended these."""
    for worker in ("w", "v"):
        bench.do(c.RegisterWorker(worker_id=worker, name=f"name-{worker}"))
    held = [bench.push(), bench.push()]
    assert [bench.do(c.Pull(queue="q", owner=worker)).job.id for worker in ("w", "v")] == held
    job_id = bench.push()
    bench.do(c.QuietWorker(id="w"))
    assert ask(bench, job_id)[0] == "next"
    bench.do(c.QuietWorker(id="v"))
    said = "Those who work on this queue are quiet, and get no jobs: name-v, name-w. It is the next of its queue."
    assert ask(bench, job_id) == ("workers-quiet", said)
    bench.engine.watch_pulls({"q": [1]})
    assert ask(bench, job_id)[0] == "next"


def test_an_active_job_that_is_cancelled_says_how_long_it_may_go_on(bench: Bench):
    job_id = bench.push()
    bench.pull()
    bench.do(c.Cancel(id=job_id, grace=5000, reason="wrong file"))
    code, said = ask(bench, job_id)
    assert code == "cancelling"
    assert "It is cancelled, and may go on for 5" in said
    assert "wrong file" in said


def test_a_job_that_was_cancelled_says_so(bench: Bench):
    job_id = bench.push()
    bench.do(c.Cancel(id=job_id, reason="wrong file"))
    bench.now += 5000
    assert ask(bench, job_id) == ("cancelled", "It was cancelled 5 s ago: Cancelled: wrong file.")


def test_who_is_active_is_compared_to_what_is_usual_in_its_queue(bench: Bench):
    job = bench.push()
    bench.pull()
    runs = {bucket_of(1000): 95, bucket_of(300_000): 5}
    minute = QueueMinute(bench.now, 0, 100, 0, 0, 0, 0, 0, run=1, runs=runs)
    bench.engine.figures.note(bench.now, {"q": minute})
    bench.sleep(2000)
    said = bench.do(c.Why(id=job))
    assert (said.why, said.usual) == (
        "A worker has had it for 2 s; 95 of 100 of its queue take 1 s at most.",
        upper(bucket_of(1000)),
    )
    bench.sleep(60_000)
    assert bench.do(c.Why(id=job)).why == (
        "A worker has had it for 1 min 2 s; 95 of 100 of its queue take 1 s at most, so it is 60 times as long."
    )
