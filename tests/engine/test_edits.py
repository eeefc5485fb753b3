"""What an operator changes of a job: its order stays a promise, and what is changed outlives a crash."""

import random

import pytest
from msgspec import Raw

from bunqueue_trio.engine.job import DEFAULT_OPTIONS, State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.engine_disk import freeze
from tests.engine.make import T0, Bench

CHANGES = {
    "priority": lambda job: c.ChangePriority(id=job, priority=7, lifo=True),
    "data": lambda job: c.Update(id=job, data=Raw(b'"new"')),
    "delay": lambda job: c.ChangeDelay(id=job, delay=500),
    "discarded": lambda job: c.Discard(id=job),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("when", ["new", "in flight", "committed"])
def test_a_change_is_on_the_disk_with_its_commit(bench: Bench, how: str, when: str):
    """Also of a job whose own push is in the same batch, or in the one before that is being written."""
    job = bench.push(job_id="mine")
    changes = None
    if when == "in flight":
        changes = bench.engine.take()
        batch = freeze(changes)
    elif when == "committed":
        bench.commit()
    bench.do(CHANGES[how](job))
    if changes is not None:
        bench.disk.commit(batch)
        bench.engine.forget(changes.jobs)
    bench.commit()
    bench.restart()
    found = bench.engine.find(job)
    assert found is not None
    seen = (found.state, found.priority, found.options.lifo, found.data, found.run_at)
    assert (
        seen
        == {
            "priority": (State.WAITING, 7, True, b"1", T0),
            "data": (State.WAITING, 0, False, b'"new"', T0),
            "delay": (State.DELAYED, 0, False, b"1", T0 + 500),
            "discarded": (State.FAILED, 0, False, b"1", T0),
        }[how]
    )


def test_what_is_delivered_after_a_change_waits_for_its_commit(bench: Bench):
    job = bench.push()
    bench.commit()
    bench.do(c.Update(id=job, data=Raw(b"2")))
    bench.engine.handed = 0
    bench.pull()
    assert bench.engine.handed == bench.engine.epoch


def test_a_lifo_job_that_is_one_no_more_stands_by_its_age(bench: Bench):
    first, second = bench.push(), bench.push(lifo=True)
    third = bench.push()
    bench.do(c.ChangePriority(id=second, priority=0, lifo=False))
    job = bench.engine.jobs[second]
    assert job.options is DEFAULT_OPTIONS
    assert [bench.pull_id() for _ in range(3)] == [first, second, third]


def test_a_delayed_job_with_another_priority_stands_by_it_when_it_is_due(bench: Bench):
    waiting, delayed = bench.push(priority=1), bench.push(delay=1000)
    bench.do(c.ChangePriority(id=delayed, priority=5))
    assert bench.engine.jobs[delayed].state is State.DELAYED
    bench.sleep(1000)
    assert [bench.pull_id() for _ in range(2)] == [delayed, waiting]


def test_a_changed_delay_may_be_sooner_or_later_and_is_kept_to(bench: Bench):
    job = bench.push(delay=1000)
    bench.do(c.ChangeDelay(id=job, delay=5000))
    bench.sleep(1000)
    assert bench.pull_id() is None
    bench.do(c.ChangeDelay(id=job, delay=500))
    assert bench.engine.next_due() == bench.now + 500
    bench.sleep(500)
    assert bench.pull_id() == job


def test_no_delay_leaves_a_ready_job_where_it_stands_and_a_dependent_waiting(bench: Bench):
    first, second = bench.push(), bench.push()
    dependent = bench.push(depends_on=[first], delay=60_000)
    bench.do(c.ChangeDelay(id=first, delay=0))
    bench.do(c.ChangeDelay(id=dependent, delay=0))
    assert bench.state(dependent).state == "waiting-children"
    assert [bench.pull_id(), bench.pull_id()] == [first, second]
    bench.ack(first)
    assert bench.pull_id() == dependent


def test_a_dependent_is_delayed_when_its_push_says_so(bench: Bench):
    first = bench.push()
    dependent = bench.push(depends_on=[first])
    bench.do(c.ChangeDelay(id=dependent, delay=100))
    bench.pull()
    bench.ack(first)
    assert bench.state(dependent).state == "delayed"
    bench.sleep(100)
    assert bench.pull_id() == dependent


def test_a_job_put_off_beyond_its_ttl_expires_at_it(bench: Bench):
    job = bench.push(ttl=1000)
    bench.do(c.ChangeDelay(id=job, delay=2000))
    bench.sleep(1000)
    assert bench.engine.find(job) is None


def test_a_job_that_is_put_off_makes_room(bench: Bench):
    bench.do(c.SetConcurrency(queue="q", concurrency=1))
    job, other = bench.push(), bench.push()
    bench.pull()
    bench.events()
    bench.do(c.MoveToDelayed(id=job, delay=100))
    assert bench.events() == [f"retried {job}", f"delayed {job}"]
    assert bench.pull_id() == other
    assert bench.state(job).lease_until is None


def test_a_discarded_run_is_followed_by_the_next_and_its_key_is_free(bench: Bench):
    job = bench.push(unique_key="k", repeat=c.Repeat(every=1000), delay=10)
    bench.events()
    bench.do(c.Discard(id=job))
    assert [event.split()[0] for event in bench.events()] == ["failed", "pushed", "delayed"]
    assert bench.push(unique_key="k") != job
    assert bench.engine.totals.failed == 1


def test_a_changed_payload_counts_for_the_disk(bench: Bench):
    job = bench.push()
    before = bench.engine.added_bytes
    bench.do(c.Update(id=job, data=Raw(b"12345")))
    assert bench.engine.added_bytes - before == 5


def test_whoever_is_not_touched_keeps_its_place(bench: Bench):
    """Random changes of priorities: the others are delivered in the order they would have been."""
    rng = random.Random(1)
    jobs = {bench.push(priority=rng.randrange(3)): n for n in range(60)}
    told = {job: bench.engine.jobs[job].priority for job in jobs}
    for job in rng.sample(list(jobs), 30):
        told[job] = rng.randrange(3)
        bench.do(c.ChangePriority(id=job, priority=told[job]))
    delivered = [bench.pull_id() for _ in jobs]
    assert delivered == sorted(jobs, key=lambda job: (-told[job], jobs[job]))


def test_what_waits_for_others_cannot_be_moved(bench: Bench):
    dependent = bench.push(depends_on=[bench.push()])
    with pytest.raises(Refused) as refused:
        bench.do(c.MoveToDelayed(id=dependent, delay=5))
    assert refused.value.code == c.NEVER_READY.code


def test_a_job_is_moved_to_wait_wherever_it_was(bench: Bench):
    first, second = bench.push(unique_key="k", max_attempts=1), bench.push()
    assert bench.pull_id() == first
    bench.do(c.MoveToWait(id=first))
    assert bench.pull_id() == first, "its previous position"
    bench.fail(first)
    bench.commit()
    twin = bench.push(unique_key="k", delay=500)
    with pytest.raises(Refused, match="uniqueKey"):
        bench.do(c.MoveToWait(id=first))
    bench.do(c.MoveToWait(id=twin))
    bench.do(c.MoveToWait(id=twin))
    bench.do(c.Cancel(id=twin))
    bench.do(c.MoveToWait(id=first))
    bench.commit()
    bench.restart()
    assert [bench.pull_id() for _ in range(2)] == [second, first]
    dependent = bench.push(depends_on=[second])
    with pytest.raises(Refused, match="waits for others"):
        bench.do(c.MoveToWait(id=dependent))
    with pytest.raises(Refused, match="Job not found"):
        bench.do(c.MoveToWait(id="nobody"))


def test_whoever_holds_a_job_moves_it_to_wait_with_its_token_and_nobody_else_does(bench: Bench):
    job = bench.push()
    with pytest.raises(Refused):
        bench.do(c.MoveToWait(id=job, token="nobody's"))
    pulled = bench.pull(lock_ttl=1000)
    with pytest.raises(Refused):
        bench.do(c.MoveToWait(id=job, token="nobody's"))
    assert pulled.token is not None
    bench.do(c.MoveToWait(id=job, token=pulled.token))
    assert bench.pull_id() == job
