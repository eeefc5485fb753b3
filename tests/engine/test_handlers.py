"""What each command means, one claim at a time; `test_seeded.py` holds the combinations against the model."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bunqueue_trio.config import DAY_MS
from bunqueue_trio.engine import options
from bunqueue_trio.engine.engine import Rules
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.engine.make import Bench, refused

LEASE = Rules().lease


def test_a_queue_name_is_of_legal_characters(bench: Bench):
    bench.push("aZ09_.:-")
    bench.push("x" * 256)
    for name in ("", "x" * 257, "a b", "a/b", "ä", "a\n"):
        for command in (c.Push(queue=name, data=Raw(b"1")), c.Pull(queue=name), c.PullBatch(queue=name, count=1),
                        c.PushBatch(queue=name, jobs=[])):  # fmt: skip
            assert refused(bench, command) == "400 Queue name contains invalid characters"
    assert set(bench.engine.queues) == {"aZ09_.:-", "x" * 256}


def test_a_pull_makes_no_queue(bench: Bench):
    assert bench.pull("nowhere").job is None
    assert bench.do(c.PullBatch(queue="nowhere", count=5)).jobs == []
    assert bench.engine.queues == {}


def test_data_is_required_and_null_is_data(bench: Bench):
    assert refused(bench, c.Push(queue="q")) == "400 data is required"
    bench.push(data=Raw(b"null"))
    batch = c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1")), c.JobSpec()])
    assert refused(bench, batch) == "400 jobs[1]: data is required"


def test_equal_options_are_kept_once(bench: Bench):
    first, second = (bench.engine.jobs[bench.push(tags=["t"])] for _ in range(2))
    assert first.options is second.options
    plain = bench.engine.jobs[bench.push()]
    assert plain.options is bench.engine.jobs[bench.push(timeout=0)].options


@pytest.mark.parametrize("option", [{"unique_key": "k"}, {"repeat": c.Repeat(every=5)}])
def test_options_of_one_job_only_are_not_collected(bench: Bench, option: dict[str, Any]):
    bench.push(**option)
    bench.push(depends_on=[bench.push()])
    assert bench.engine.shared_options == {}


def test_the_table_of_shared_options_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(options, "_SHARED_MAX", 3)
    for n in range(20):
        bench.push(group_id=f"g{n}")
        assert len(bench.engine.shared_options) <= 3


def test_a_chosen_id_is_free_once_its_job_has_ended(bench: Bench):
    assert [bench.push(job_id="mine"), bench.push(job_id="mine")] == ["mine", "mine"]
    assert bench.engine.totals.pushed == 1
    bench.pull()
    assert bench.push(job_id="mine", data=Raw(b"2")) == "mine"
    bench.ack("mine")
    bench.push(job_id="mine", data=Raw(b"3"))
    assert bytes(bench.pull().job.data) == b"3"


def test_a_generated_id_is_idempotent_as_a_chosen_one(bench: Bench):
    job_id = bench.push()
    assert bench.push(job_id=job_id) == job_id
    assert len(bench.engine.jobs) == 1


def test_a_chosen_id_of_another_queue_is_refused_while_its_job_is_unfinished(bench: Bench):
    bench.push("a", job_id="mine")
    answer = refused(bench, c.Push(queue="b", data=Raw(b"1"), job_id="mine"))
    assert answer == "400 Job ID is in use by a job of another queue: mine"
    bench.pull("a")
    bench.ack("mine")
    assert bench.push("b", job_id="mine") == "mine"


def test_a_unique_key_is_held_through_everything_until_the_end(bench: Bench):
    job_id = bench.push(unique_key="k", max_attempts=2, backoff=100)
    assert bench.push(unique_key="k") == job_id
    bench.pull()
    assert bench.push(unique_key="k") == job_id
    bench.fail(job_id)
    assert bench.push(unique_key="k", job_id="other") == job_id
    assert bench.push("elsewhere", unique_key="k") != job_id
    bench.sleep(100)
    bench.pull()
    bench.fail(job_id)
    assert bench.push(unique_key="k") != job_id


def test_only_the_current_token_counts_and_none_is_needed(bench: Bench):
    job_id = bench.push()
    token = bench.pull().token
    for command in (c.Ack(id=job_id, token="x"), c.Fail(id=job_id, token="x"), c.Heartbeat(id=job_id, token="x"),
                    c.ExtendLock(id=job_id, token="x", duration=1), c.Progress(id=job_id, token="", progress=1)):  # fmt: skip
        assert refused(bench, command) == "400 Invalid or expired lock token"
    bench.ack(job_id, token)
    assert refused(bench, c.Ack(id=job_id, token=token)) == "400 Job not found or not active"


def test_the_token_of_a_lost_lease_is_dead(bench: Bench):
    job_id = bench.push()
    old = bench.pull().token
    bench.sleep(LEASE)
    assert refused(bench, c.Ack(id=job_id, token=old)) == "400 Job not found or not active"
    new = bench.pull().token
    assert refused(bench, c.Ack(id=job_id, token=old)) == "400 Invalid or expired lock token"
    bench.ack(job_id, new)


def test_a_deadline_passes_before_the_command_that_comes_with_it(bench: Bench):
    job_id = bench.push()
    bench.pull()
    bench.now += LEASE
    with pytest.raises(Refused, match="not active"):
        bench.ack(job_id)
    assert bench.state(job_id).stalls == 1


def test_a_fail_without_text_has_one(bench: Bench):
    job_id = bench.push()
    bench.pull()
    bench.do(c.Fail(id=job_id))
    assert bench.state(job_id).error == "Unknown error"


def test_an_empty_error_is_kept_as_given(bench: Bench):
    job_id = bench.push()
    bench.pull()
    bench.fail(job_id, "")
    assert bench.state(job_id).error == ""


def test_results_come_back_to_the_byte(bench: Bench):
    job_id = bench.push(data=Raw(b'{"b":1.50,"a":1e999}'))
    assert bytes(bench.pull().job.data) == b'{"b":1.50,"a":1e999}'
    bench.do(c.Ack(id=job_id, result=Raw(b"[1.0]")))
    assert bytes(bench.do(c.GetResult(id=job_id)).result) == b"[1.0]"


def test_a_job_without_result_gives_null(bench: Bench):
    job_id = bench.push()
    assert bytes(bench.do(c.GetResult(id=job_id)).result) == b"null"
    bench.pull()
    bench.ack(job_id)
    assert bytes(bench.do(c.GetResult(id=job_id)).result) == b"null"


def test_a_batch_of_acks_names_those_that_were_not_active(bench: Bench):
    ids = [bench.push() for _ in range(3)]
    taken = bench.do(c.PullBatch(queue="q", count=2))
    answer = bench.do(c.AckBatch(ids=[*ids, ids[0]], tokens=[*taken.tokens, "", ""], results=[Raw(b"1")] * 4))
    assert answer.data == {"ignoredIds": [ids[2]]}, "an id named twice is taken once"
    assert bytes(bench.do(c.GetResult(id=ids[1])).result) == b"1"
    assert bench.do(c.AckBatch(ids=[])).data is msgspec.UNSET


def test_a_batch_of_failures_says_of_each_when_it_is_tried_again(bench: Bench):
    ids = [bench.push(max_attempts=1 if n == 2 else 3, backoff=7) for n in range(5)]
    tokens = bench.do(c.PullBatch(queue="q", count=4)).tokens
    failures = [
        c.Failure(id=ids[0], token=tokens[0], error="no"),
        c.Failure(id=ids[1], token=tokens[1], retry_in=0),
        c.Failure(id=ids[2], token=tokens[2]),
        c.Failure(id=ids[3], token=tokens[3], error="never", unrecoverable=True, stack="in x"),
        c.Failure(id=ids[4]),
        c.Failure(id=ids[0], token=""),
    ]
    answer = bench.do(c.FailBatch(failures=failures))
    assert answer.data == r.Failed(run_at=[bench.now + 7, bench.now, None, None, None, None], ignored_ids=[ids[4]])
    assert [bench.do(c.GetState(id=job_id)).state for job_id in ids] == [
        "delayed", "waiting", "failed", "failed", "waiting",
    ]  # fmt: skip
    assert [bench.do(c.GetState(id=job_id)).error for job_id in (ids[0], ids[2], ids[3])] == [
        "no",
        "Unknown error",
        "never",
    ]
    assert bench.do(c.GetJob(id=ids[0])).job.attempts == 1, "an id named twice is taken once"
    assert bench.do(c.FailBatch(failures=[])).data == r.Failed(run_at=[])


def test_a_failure_that_says_what_cannot_be_refuses_all_of_its_batch(bench: Bench):
    ids = [bench.push() for _ in range(2)]
    bench.do(c.PullBatch(queue="q", count=2))
    both = c.Failure(id=ids[1], unrecoverable=True, retry_in=0)
    said = refused(bench, c.FailBatch(failures=[c.Failure(id=ids[0]), both]))
    assert said == "400 failures[1]: unrecoverable and retryIn exclude each other"
    assert {bench.do(c.GetState(id=job_id)).state for job_id in ids} == {"active"}


def test_a_heartbeat_counts_an_id_that_is_named_twice_once(bench: Bench):
    job_id = bench.push()
    bench.do(c.Pull(queue="q"))
    assert bench.do(c.HeartbeatBatch(ids=[job_id, job_id])).data == {"ok": True, "count": 1}


@pytest.mark.parametrize("stale_first", [True, False])
def test_of_two_tokens_for_one_job_the_one_that_counts_is_found(bench: Bench, stale_first: bool):
    """A worker that was cut off and got its job back names both attempts in one batch."""
    ids = [bench.push() for _ in range(2)]
    stale = bench.do(c.PullBatch(queue="q", count=2)).tokens
    for job_id, token in zip(ids, stale, strict=True):
        bench.do(c.Release(id=job_id, token=token))
    fresh = bench.do(c.PullBatch(queue="q", count=1)).tokens
    tokens = [*(stale[:1] + fresh if stale_first else fresh + stale[:1]), stale[1]]
    named = [ids[0], ids[0], ids[1]]
    assert bench.do(c.HeartbeatBatch(ids=named, tokens=tokens)).data == {"ok": True, "count": 1, "lostIds": [ids[1]]}
    assert bench.do(c.AckBatch(ids=[*named, ids[1]], tokens=[*tokens, ""])).data == {"ignoredIds": [ids[1]]}
    assert bench.do(c.GetState(id=ids[0])).state == "completed"


@pytest.mark.parametrize("stale_first", [True, False])
def test_of_two_tokens_for_one_failed_job_the_one_that_counts_is_found(bench: Bench, stale_first: bool):
    job_id = bench.push()
    stale = bench.pull().token
    bench.do(c.Release(id=job_id, token=stale))
    fresh = bench.pull().token
    tokens = [stale, fresh] if stale_first else [fresh, stale]
    answer = bench.do(c.FailBatch(failures=[c.Failure(id=job_id, token=token) for token in tokens]))
    assert [place is None for place in answer.data.run_at] == [stale_first, not stale_first]
    assert answer.data.ignored_ids is msgspec.UNSET
    assert bench.do(c.GetJob(id=job_id)).job.attempts == 1


def test_lists_beside_the_ids_are_as_long(bench: Bench):
    for command in (c.AckBatch(ids=["a"], tokens=[]), c.HeartbeatBatch(ids=[], tokens=["t"])):
        assert refused(bench, command) == "400 tokens must be as long as ids"
    assert refused(bench, c.AckBatch(ids=["a"], results=[])) == "400 results must be as long as ids"


def test_a_batch_of_heartbeats_counts_those_still_held(bench: Bench):
    ids = [bench.push() for _ in range(2)]
    bench.pull()
    assert bench.do(c.HeartbeatBatch(ids=ids)).data == {"ok": True, "count": 1, "lostIds": [ids[1]]}
    assert bench.do(c.HeartbeatBatch(ids=ids[:1])).data == {"ok": True, "count": 1}


@pytest.mark.parametrize("state", ["waiting", "delayed", "waiting-children", "active"])
def test_a_job_is_cancelled_in_every_unfinished_state(bench: Bench, state: str):
    blocker = bench.push("other")
    options = {"delayed": {"delay": 5}, "waiting-children": {"depends_on": [blocker]}}.get(state, {})
    job_id = bench.push(unique_key="k", **options)
    if state == "active":
        bench.pull()
    assert bench.state(job_id).state == state
    bench.do(c.Cancel(id=job_id))
    removed = bench.engine.events[-1]
    assert (removed.event_type, removed.prev, removed.job_id) == ("removed", state, job_id)
    assert refused(bench, c.GetJob(id=job_id)) == "404 Job not found"
    assert refused(bench, c.Heartbeat(id=job_id)) == "400 Job not found or not active"
    assert bench.push(unique_key="k") != job_id
    assert bench.engine.totals.cancelled == 1


def test_a_finished_or_unknown_job_cannot_be_cancelled(bench: Bench):
    job_id = bench.push()
    bench.pull()
    bench.ack(job_id)
    for name in (job_id, "nobody"):
        assert refused(bench, c.Cancel(id=name)) == "404 Job not found"


def test_removed_records_are_not_shown_but_a_completed_one_is_remembered(bench: Bench):
    kept, failed = bench.push("a", remove_on_complete=True), bench.push("b", remove_on_fail=True, max_attempts=1)
    bench.pull("a")
    bench.ack(kept)
    bench.pull("b")
    bench.fail(failed)
    for name in (kept, failed):
        assert refused(bench, c.GetState(id=name)) == "404 Job not found"
    assert bench.state(bench.push(depends_on=[kept])).state == "waiting"
    assert "not found" in refused(bench, c.Push(queue="q", data=Raw(b"1"), depends_on=[failed]))


def test_drained_tells_of_the_last_ready_job_only(bench: Bench):
    first, second = bench.push(), bench.push()
    bench.events()
    bench.do(c.PullBatch(queue="q", count=5))
    assert bench.events() == [f"pulled {first}", f"pulled {second}", f"drained {second}"]
    bench.pull()
    assert bench.events() == []


def test_progress_keeps_its_number_as_it_is(bench: Bench):
    job_id = bench.push()
    bench.pull()
    bench.do(c.Progress(id=job_id, progress=50, message="half"))
    assert msgspec.json.encode(bench.do(c.GetJob(id=job_id)).job.progress) == b"50"
    bench.do(c.Progress(id=job_id, progress=75.5))
    assert bench.do(c.GetJob(id=job_id)).job.progress == 75.5
    assert bench.state(job_id).message == "half"


def test_the_largest_numbers_fit_together(bench: Bench):
    year = 365 * DAY_MS
    job_id = bench.push(delay=year, ttl=year, repeat=c.Repeat(every=year), priority=10**6, backoff=DAY_MS)
    assert bench.state(job_id).state == "delayed"


def test_a_failure_for_good_takes_along_who_waits_for_it_and_the_series_goes_on(bench: Bench):
    job_id = bench.push(repeat=c.Repeat(every=1000), max_attempts=5, remove_on_fail=True)
    child = bench.push(depends_on=[job_id])
    bench.pull_id()
    bench.do(c.Fail(id=job_id, unrecoverable=True))
    assert refused(bench, c.GetState(id=job_id)) == "404 Job not found"
    assert bench.state(child).error == f"Dependency {job_id} failed"
    assert bench.engine.counts == {"waiting": 0, "delayed": 1, "waiting-children": 0, "active": 0}
    assert (bench.engine.totals.failed, bench.engine.totals.retried) == (2, 0)


@pytest.mark.parametrize("retry_in", [0, 1, 365 * DAY_MS])
def test_a_failure_may_say_when_the_next_attempt_is(bench: Bench, retry_in: int):
    job_id = bench.push(max_attempts=2, backoff=7)
    bench.pull_id()
    bench.do(c.Fail(id=job_id, retry_in=retry_in))
    job = bench.do(c.GetJob(id=job_id)).job
    assert (job.run_at, job.attempts, bench.state(job_id).state) == (
        bench.now + retry_in,
        1,
        "delayed" if retry_in else "waiting",
    )
    bench.sleep(retry_in)
    assert bench.pull_id() == job_id
    bench.do(c.Fail(id=job_id, retry_in=retry_in))
    assert bench.state(job_id).state == "failed"


def test_a_failure_is_not_both_the_last_and_to_be_retried(bench: Bench):
    """Said before anything else is looked at."""
    job_id = bench.push()
    bench.pull_id()
    both = c.Fail(id=job_id, unrecoverable=True, retry_in=0)
    assert refused(bench, both) == "400 unrecoverable and retryIn exclude each other"
    assert bench.state(job_id).state == "active"
    bench.do(c.Fail(id=job_id, unrecoverable=False, retry_in=5))
    assert bench.state(job_id).state == "delayed"


def test_a_backoff_is_shown_as_it_was_given(bench: Bench):
    for given in (
        0,
        5,
        c.Backoff(type="fixed", delay=5),
        c.Backoff(type="exponential", delay=0, max_delay=0, jitter=0),
    ):
        job_id = bench.push(backoff=given)
        bench.commit()
        bench.restart()
        shown = bench.do(c.GetJob(id=job_id)).job.backoff
        assert msgspec.json.encode(shown) == msgspec.json.encode(given)


def test_equal_backoffs_are_kept_once(bench: Bench):
    ids = [bench.push(backoff=c.Backoff(type="fixed", delay=5, jitter=0.5)) for _ in range(2)]
    one, other = (bench.engine.jobs[job_id].options for job_id in ids)
    assert one is other


def test_what_is_counted_waits_and_is_in_nobodys_hands(bench: Bench):
    assert bench.do(c.CountJobs(queue="q")).count == 0
    for _ in range(3):
        bench.push()
    bench.push(delay=1000)
    bench.push("other")
    assert bench.pull_id() is not None
    assert bench.do(c.CountJobs(queue="q")).count == 3
