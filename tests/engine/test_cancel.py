"""A cancelled job with a grace: nothing lets it wait again, and no crash forgets that it is cancelled."""

import pytest

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.job import Cancelled, State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.storage.rows import Reader, changed_row, finished_row, new_row
from tests.engine.make import T0, Bench


def cancelled(bench: Bench, **options: object) -> tuple[str, str]:
    """An active job that is cancelled, with 1000 ms to end; its id and token."""
    job_id = bench.push(**options)
    token = bench.pull().token
    bench.commit()
    bench.do(c.Cancel(id=job_id, reason="no", grace=1000))
    assert token is not None
    return job_id, token


@pytest.mark.parametrize("options", [{}, {"timeout": 500}, {"timeout": 5000}])
def test_it_ends_with_the_grace_or_with_its_time(bench: Bench, options: dict[str, int]):
    job_id, _ = cancelled(bench, **options)
    ends = min(1000, options.get("timeout", 1000))
    bench.events()
    bench.sleep(ends - 1)
    assert bench.state(job_id).state == "active"
    bench.sleep(1)
    seen = bench.state(job_id)
    assert (seen.state, seen.error, seen.stalls, bench.engine.jobs[job_id].attempts) == (
        "failed",
        "Cancelled: no",
        0,
        0,
    )
    assert bench.events() == [f"removed {job_id}"]
    assert (bench.engine.totals.cancelled, bench.engine.totals.failed, bench.engine.totals.stalled) == (1, 0, 0)


@pytest.mark.parametrize("dropped", [True, False])
def test_it_ends_with_its_connection(bench: Bench, dropped: bool):
    job_id = bench.push()
    bench.pull(owner="socket")
    bench.do(c.Cancel(id=job_id, grace=1000))
    bench.engine.release_owner("socket", bench.now, dropped=dropped)
    assert (bench.state(job_id).state, bench.state(job_id).stalls) == ("failed", 0)


def test_a_crash_does_not_forget_it(bench: Bench):
    job_id, token = cancelled(bench)
    bench.commit()
    bench.now += 400
    bench.restart()
    assert bench.do(c.Heartbeat(id=job_id, token=token)).data["cancelled"]["reason"] == "no"
    bench.sleep(600)
    assert bench.state(job_id).state == "failed"
    bench.commit()
    bench.restart()
    seen = bench.state(job_id)
    assert (seen.cancelled.reason, seen.cancelled.at, seen.cancelled.until) == ("no", bench.now - 1000, bench.now)


def test_a_grace_that_was_over_while_the_server_was_down_is_over(bench: Bench):
    job_id, _ = cancelled(bench)
    bench.commit()
    bench.now += 5000
    bench.restart()
    bench.engine.advance(bench.now)
    assert bench.state(job_id).state == "failed"


@pytest.mark.parametrize(
    ("again", "left"),
    [
        ({"by": "ann", "grace": 9000}, 900),
        ({"by": "ann", "reason": "too slow", "grace": 300}, 300),
        ({"grace": 300}, 300),
        ({"reason": "at once"}, 0),
        ({"by": "ann", "grace": 0}, 0),
        ({}, 0),
    ],
)
def test_who_cancels_first_has_said_why_and_nobody_after_gives_more_time(bench: Bench, again: dict, left: int):
    job_id, _ = cancelled(bench)
    bench.sleep(100)
    bench.do(c.Cancel(id=job_id, **again))
    if left:
        bench.sleep(left - 1)
        seen = bench.state(job_id)
        assert (seen.state, seen.cancelled.until) == ("active", bench.now + 1)
        bench.sleep(1)
    seen = bench.state(job_id)
    assert (seen.state, seen.error, seen.cancelled.at) == ("failed", "Cancelled: no", T0)
    assert (seen.cancelled.reason, seen.cancelled.by) == ("no", None)
    assert bench.engine.totals.cancelled == 1


def test_who_was_first_and_has_said_nothing_leaves_it_to_the_next_to_say_why(bench: Bench):
    job_id = bench.push()
    bench.pull()
    bench.do(c.Cancel(id=job_id, grace=1000))
    bench.sleep(100)
    bench.do(c.Cancel(id=job_id, reason="no", by="ann", grace=1000))
    seen = bench.state(job_id).cancelled
    assert (seen.at, seen.until, seen.reason, seen.by) == (T0, T0 + 1000, "no", "ann")


@pytest.mark.parametrize("many", [False, True])
def test_the_record_names_who_was_asked_by_where_nobody_says_so(bench: Bench, *, many: bool):
    """The error has the words that were said, so that those of one kind stay together."""
    for job_id in "abcd":
        bench.push(job_id=job_id)
    ann = By("ann", "10.0.0.7")
    for job_id, how in (("a", {"reason": "no"}), ("b", {"by": "bob"}), ("c", None), ("d", {})):
        command: c.Command = c.Discard(id=job_id) if how is None else c.Cancel(id=job_id, **how)
        if many and how != {}:
            command = c.ActOnJobs(
                action="discard" if how is None else "cancel",
                filter=c.Filter(queue="q", id_prefix=job_id),
                **(how or {}),
            )
        apply(bench.engine, command, bench.now, by=ann)
    bench.commit()
    bench.restart()
    seen = {job_id: bench.state(job_id) for job_id in "abc"}
    assert [(each.error, each.cancelled and each.cancelled.by, each.discarded_by) for each in seen.values()] == [
        ("Cancelled: no", "ann", None), ("Cancelled by bob", "bob", None), ("Discarded", None, "ann"),
    ]  # fmt: skip
    assert "0 ms ago by ann: Cancelled: no" in bench.do(c.Why(id="a")).why
    assert "(discarded by ann, attempt 0 of 3)" in bench.do(c.Why(id="c")).why
    with pytest.raises(Refused, match="Job not found"):
        bench.state("d")


def test_a_worker_hears_by_whom_its_job_is_cancelled(bench: Bench):
    job_id = bench.push()
    bench.pull()
    apply(bench.engine, c.Cancel(id=job_id, grace=1000), bench.now, by=By("ann", "10.0.0.7"))
    apply(bench.engine, c.Cancel(id=job_id, reason="why", grace=1000), bench.now, by=By("bob", "10.0.0.8"))
    assert bench.do(c.Heartbeat(id=job_id)).data["cancelled"] == {"reason": "why", "by": "bob", "until": T0 + 1000}


def test_a_worker_with_many_jobs_hears_which_of_them_are_cancelled(bench: Bench):
    ids = [bench.push() for _ in range(3)]
    tokens = bench.do(c.PullBatch(queue="q", count=3)).tokens
    for job_id in ids[1:]:
        bench.do(c.Cancel(id=job_id, grace=1000))
    heard = bench.do(c.HeartbeatBatch(ids=ids, tokens=tokens)).data
    assert heard == {"ok": True, "count": 3, "cancelledIds": ids[1:]}


@pytest.mark.parametrize("how", ["many", "slot"])
def test_the_record_of_a_job_in_its_grace_outlives_who_cancels_without_a_word(bench: Bench, how: str):
    job_id = f"s@{T0:013}"
    bench.do(c.PutSchedule(name="s", queue="q", every=1000, overlap="cancel"))
    bench.push(job_id=job_id)
    bench.pull()
    bench.do(c.Cancel(id=job_id, reason="no", grace=5000))
    if how == "many":
        bench.do(c.ActOnJobs(action="cancel", filter=c.Filter(queue="q")))
    bench.sleep(1000)
    assert (bench.state(job_id).state, bench.state(job_id).error) == ("failed", "Cancelled: no")


def test_a_series_ends_with_a_run_that_is_cancelled(bench: Bench):
    cancelled(bench, repeat=c.Repeat(every=1000, limit=3))
    bench.sleep(1000)
    assert sum(bench.engine.counts.values()) == 0


def test_its_worker_learns_it_from_an_event(bench: Bench):
    job_id, _ = cancelled(bench)
    bench.do(c.Cancel(id=job_id, grace=500))
    first, second = [event for event in bench.engine.events if event.event_type == "cancelling"]
    assert (first.job_id, first.queue, first.reason, first.until) == (job_id, "q", "no", bench.now + 1000)
    assert (second.reason, second.until) == ("no", bench.now + 500)


def test_it_is_written_with_its_lease_and_its_record(bench: Bench):
    job_id, token = cancelled(bench)
    job, reader = bench.engine.jobs[job_id], Reader()
    read = reader.one(new_row(job))
    assert read.lease == job.lease
    assert read.lease is not None
    assert read.lease.cancelled == Cancelled(bench.now, bench.now + 1000, "no")
    assert changed_row(job)[-3] is not None
    bench.do(c.Release(id=job_id, token=token))
    assert job.state is State.FAILED
    record = reader.finished(tuple(finished_row(job)))
    assert record.noted().cancelled == Cancelled(bench.now, bench.now + 1000, "no")


def test_its_dependents_fail(bench: Bench):
    job_id, _ = cancelled(bench)
    dependent = bench.push(depends_on=[job_id])
    bench.sleep(1000)
    assert bench.state(dependent).error == f"Dependency {job_id} failed"


def test_a_job_for_whose_answer_nobody_waits_ends_too(bench: Bench):
    job_id, token = cancelled(bench)
    bench.engine.give_back(job_id, token, bench.now)
    assert bench.state(job_id).state == "failed"


@pytest.mark.parametrize("how", ["give up", "put off"])
def test_it_cannot_be_given_up_or_put_off_any_more(bench: Bench, how: str):
    job_id, token = cancelled(bench)
    if how == "give up":
        bench.do(c.Fail(id=job_id, token=token, error="boom", unrecoverable=True))
    else:
        bench.do(c.MoveToDelayed(id=job_id, delay=5000))
    seen = bench.state(job_id)
    assert (seen.state, seen.error) == ("failed", "Cancelled: no\nboom" if how == "give up" else "Cancelled: no")
    assert bench.engine.jobs[job_id].noted().reason == "cancelled"


def test_a_retry_of_all_leaves_it_where_it_is(bench: Bench):
    job_id = bench.push()
    bench.do(c.Cancel(id=job_id, reason="no"))
    other = bench.push()
    bench.do(c.Discard(id=other))
    bench.commit()
    said = bench.do(c.RetryDlq(queue="q"))
    assert (said.count, said.left) == (1, 1)
    assert (bench.state(job_id).state, bench.state(other).state) == ("failed", "waiting")


def test_a_record_keeps_who_has_discarded_the_job(bench: Bench):
    bench.push(job_id="a")
    apply(bench.engine, c.Discard(id="a"), bench.now, by=By("ann", "10.0.0.7"))
    job = bench.engine.jobs["a"]
    assert Reader().finished(finished_row(job)).noted().discarded_by == "ann"
