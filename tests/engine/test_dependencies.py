"""Dependencies: whose end a job waits for, and what a failed one means."""

import pytest
from msgspec import Raw

from bunqueue_trio.engine.engine import Rules
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench, refused

LEASE = Rules().lease


def test_an_unknown_dependency_is_refused(bench: Bench):
    answer = refused(bench, c.Push(queue="q", data=Raw(b"1"), depends_on=["nobody"]))
    assert answer == "400 Dependency job not found: nobody"


def test_an_id_of_its_own_is_no_dependency(bench: Bench):
    answer = refused(bench, c.Push(queue="q", data=Raw(b"1"), job_id="me", depends_on=["me"]))
    assert answer == "400 Dependency job not found: me"


def test_jobs_of_one_command_may_depend_on_earlier_ones_only(bench: Bench):
    first, second = c.JobSpec(data=Raw(b"1"), job_id="a"), c.JobSpec(data=Raw(b"2"), depends_on=["a"])
    assert refused(bench, c.PushBatch(queue="q", jobs=[second, first])) == "400 jobs[0]: Dependency job not found: a"
    ids = bench.do(c.PushBatch(queue="q", jobs=[first, second])).ids
    assert bench.state(ids[1]).waiting_on == ["a"]


def test_a_job_may_depend_on_one_of_its_bulk_push_by_either_name_of_the_id(bench: Bench):
    jobs = [c.JobSpec(data=Raw(b"1"), custom_id="a"), c.JobSpec(data=Raw(b"2"), depends_on=["a"])]
    ids = bench.do(c.PushBatch(queue="q", jobs=jobs)).ids
    assert ids[0] == "a"
    assert bench.state(ids[1]).waiting_on == ["a"]


def test_a_dependency_on_a_duplicate_is_one_on_the_job_it_stands_for(bench: Bench):
    """Else the dependent would run before what it has to wait for."""
    holder = bench.push(unique_key="k")
    jobs = [c.JobSpec(data=Raw(b"1"), job_id="a", unique_key="k"), c.JobSpec(data=Raw(b"2"), depends_on=["a"])]
    ids = bench.do(c.PushBatch(queue="q", jobs=jobs)).ids
    assert ids[0] == holder
    assert bench.state(ids[1]).waiting_on == [holder]


def test_a_dependency_that_fails_within_the_command_fails_its_dependent(bench: Bench):
    dead = bench.push(max_attempts=1)
    bench.pull()
    bench.fail(dead)
    jobs = [
        c.JobSpec(data=Raw(b"1"), job_id="a", depends_on=[dead], remove_on_fail=True),
        c.JobSpec(data=Raw(b"2"), depends_on=["a"]),
    ]
    ids = bench.do(c.PushBatch(queue="q", jobs=jobs)).ids
    assert (bench.state(ids[1]).state, bench.state(ids[1]).error) == ("failed", "Dependency a failed")
    assert bench.pull().job is None


def test_a_dependent_of_a_failed_job_fails_at_once_and_its_own_with_it(bench: Bench):
    first = bench.push(max_attempts=1)
    second = bench.push(depends_on=[first], remove_on_fail=True)
    third = bench.push(depends_on=[second, bench.push("other")])
    bench.pull()
    bench.events()
    bench.fail(first)
    assert bench.events() == [f"failed {first}", f"failed {second}", f"failed {third}"]
    assert bench.state(third).error == f"Dependency {second} failed"
    with pytest.raises(Refused, match="Job not found"):
        bench.state(second)
    late = bench.push(depends_on=[first])
    assert bench.events() == [f"pushed {late}", f"waiting-children {late}", f"failed {late}"]


@pytest.mark.thorough
def test_a_thousand_jobs_in_a_chain_fail_without_recursion(bench: Bench):
    first = last = bench.push(delay=1)
    for _ in range(5000):
        last = bench.push(depends_on=[last])
    bench.do(c.Cancel(id=first))
    while bench.engine.next_due() is not None:
        bench.sleep(0)
    assert bench.state(last).state == "failed"
    assert bench.engine.counts == dict.fromkeys(bench.engine.counts, 0)


def test_a_released_dependent_waits_for_the_rest_of_its_delay(bench: Bench):
    first = bench.push()
    later, now = bench.push(depends_on=[first], delay=100), bench.push(depends_on=[first], delay=40)
    bench.sleep(40)
    bench.pull()
    bench.ack(first)
    assert (bench.state(later).state, bench.state(now).state) == ("delayed", "waiting")
    bench.sleep(60)
    assert bench.state(later).state == "waiting"
