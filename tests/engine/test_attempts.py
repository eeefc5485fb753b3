"""What is kept of the failed attempts of a job: written with the failure, and gone with the job."""

from typing import Any

import pytest

from bunqueue_trio.config import ATTEMPTS_KEPT
from bunqueue_trio.engine.engine import Rules
from bunqueue_trio.engine.trails import ATTEMPTS
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.engine_disk import freeze
from tests.engine.make import T0, Bench


def attempts(bench: Bench, job_id: str) -> list[Any]:
    bench.engine.advance(bench.now)
    bench.commit()
    found: list[Any] = bench.do(c.GetAttempts(id=job_id)).attempts
    return found


def told(bench: Bench, job_id: str) -> list[tuple[int, str, str]]:
    return [(each.attempt, each.reason, each.error) for each in attempts(bench, job_id)]


def try_and_fail(bench: Bench, **fields: Any) -> None:
    job_id = bench.pull_id()
    assert job_id is not None
    bench.do(c.Fail(id=job_id, **fields))


def test_an_attempt_says_when_how_long_who_and_why(bench: Bench):
    bench.push(job_id="a", backoff=0)
    bench.now += 10
    bench.pull(owner="socket-1")
    bench.now += 250
    bench.do(c.Fail(id="a", error="boom", stack="Traceback\n  boom"))
    bench.pull()
    bench.now += 5
    bench.do(c.Fail(id="a", retry_in=7))
    first, second = attempts(bench, "a")
    assert (first.started_at, first.failed_at, first.duration) == (T0 + 10, T0 + 260, 250)
    assert (first.attempt, first.reason, first.by, first.error, first.stack) == (
        1, "explicit_fail", "socket-1", "boom", "Traceback\n  boom",
    )  # fmt: skip
    assert (second.attempt, second.duration, second.by, second.error, second.stack) == (
        2,
        5,
        None,
        "Unknown error",
        None,
    )


def test_an_attempt_has_the_name_that_people_know(bench: Bench):
    """Of a registered worker, over a connection and without; of one that has said nothing, the address."""
    bench.do(c.RegisterWorker(worker_id="w-1", name="mail"))
    bench.do(c.RegisterWorker(worker_id="w-2", name="sums"), "socket-1")
    bench.engine.workers.addresses["socket-2"] = "10.0.0.9:77"
    found = []
    for named, owner in (
        ("w-1", None),
        (None, "socket-1"),
        ("free", None),
        ("@10.0.0.8", None),
        (None, "socket-2"),
        (None, None),
    ):
        job_id = bench.push(backoff=9999)
        assert bench.do(c.Pull(queue="q", owner=named), owner).job.id == job_id
        bench.fail(job_id)
        found.append(attempts(bench, job_id)[0].by)
    assert found == ["mail", "sums", "free", "@10.0.0.8", "@10.0.0.9:77", None]


def test_each_end_of_an_attempt_has_its_reason(bench: Bench):
    bench.push(job_id="a", max_attempts=2, backoff=0)
    try_and_fail(bench)
    try_and_fail(bench)
    assert [reason for _, reason, _ in told(bench, "a")] == ["explicit_fail", "max_attempts_exceeded"]
    bench.push(job_id="b")
    try_and_fail(bench, unrecoverable=True, stack="x")
    assert told(bench, "b") == [(1, "unrecoverable", "Unknown error")]
    assert attempts(bench, "b")[0].stack == "x"
    bench.push(job_id="c", timeout=100)
    bench.pull()
    bench.now += 100
    assert told(bench, "c") == [(1, "timeout", "Job timed out after 100 ms")]


def test_a_stall_is_none_of_the_attempts_that_a_job_has():
    bench = Bench(Rules(stalls_max=1, lease=100))
    bench.push(job_id="a")
    bench.pull()
    bench.now += 100
    bench.pull()
    bench.do(c.Fail(id="a", error="boom", retry_in=0))
    bench.pull()
    bench.now += 100
    assert told(bench, "a") == [
        (1, "stalled", "Job stalled 1 time"), (1, "explicit_fail", "boom"), (2, "stalled", "Job stalled 2 times"),
    ]  # fmt: skip


def test_what_is_no_failure_leaves_nothing(bench: Bench):
    for job_id in "abcd":
        bench.push(job_id=job_id)
        bench.pull()
    bench.ack("a")
    bench.do(c.Release(id="b"))
    bench.do(c.Discard(id="c"))
    bench.do(c.MoveToDelayed(id="d", delay=5))
    assert [change for change in bench.engine.trails.changed if change.kind == ATTEMPTS] == []
    assert [attempts(bench, job_id) for job_id in "abcd"] == [[]] * 4


def test_a_job_that_never_fails_writes_nothing(bench: Bench):
    job_id = bench.push(remove_on_complete=True)
    bench.pull()
    bench.ack(job_id)
    assert bench.engine.trails.changed == []


def test_the_last_attempts_are_reported(bench: Bench):
    bench.push(job_id="a", max_attempts=100, backoff=0)
    for _ in range(ATTEMPTS_KEPT):
        try_and_fail(bench)
    assert [number for number, _, _ in told(bench, "a")] == list(range(1, ATTEMPTS_KEPT + 1))


@pytest.mark.parametrize("options", [{"remove_on_fail": True, "max_attempts": 2}, {"remove_on_complete": True}, {}])
@pytest.mark.parametrize("together", [True, False])
def test_attempts_are_gone_with_their_job(bench: Bench, options: dict[str, Any], *, together: bool):
    bench.push(job_id="a", backoff=0, **options)
    try_and_fail(bench)
    if not together:
        assert len(attempts(bench, "a")) == 1
    bench.pull()
    if "max_attempts" in options:
        bench.fail("a")
    elif options:
        bench.ack("a")
    else:
        bench.do(c.Cancel(id="a"))
    bench.commit()
    assert bench.disk.trails.get("a", {}) == {}
    with pytest.raises(Refused, match="Job not found"):
        bench.do(c.GetAttempts(id="a"))


@pytest.mark.parametrize("when", ["gathering", "in flight", "committed"])
def test_a_job_of_the_same_id_begins_without(bench: Bench, when: str):
    bench.push(job_id="a", max_attempts=1)
    try_and_fail(bench)
    changes = None
    if when == "in flight":
        changes = bench.engine.take()
        batch = freeze(changes)
    elif when == "committed":
        bench.commit()
    bench.push(job_id="a")
    if when == "committed":
        assert bench.do(c.GetAttempts(id="a")).attempts == []
    if changes is not None:
        bench.disk.commit(batch)
        bench.engine.forget(changes.jobs)
        assert bench.do(c.GetAttempts(id="a")).attempts == []
    assert attempts(bench, "a") == []
    try_and_fail(bench, error="again")
    assert told(bench, "a") == [(1, "explicit_fail", "again")]


def test_a_dead_letter_that_is_retried_begins_anew(bench: Bench):
    bench.push(job_id="a", max_attempts=1)
    try_and_fail(bench)
    assert len(attempts(bench, "a")) == 1
    bench.do(c.RetryDlq(queue="q", job_id="a"))
    assert attempts(bench, "a") == []


def test_attempts_outlive_a_restart(bench: Bench):
    bench.push(job_id="a", backoff=0)
    try_and_fail(bench, error="before")
    bench.commit()
    bench.restart()
    try_and_fail(bench, error="after")
    assert [error for _, _, error in told(bench, "a")] == ["before", "after"]
