"""Jobs that are put into another queue: all of each at once, behind those that wait there, over crashes, counted by the audit."""

from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.engine import edits
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.engine.make import Bench
from tests.engine.test_reruns import begin, dead, end, go_on


def move(bench: Bench, to: str | None, how: dict[str, Any] | None = None, **wanted: Any) -> r.ActReply:
    reply: r.ActReply = bench.do(c.ActOnJobs(filter=c.Filter(**wanted), action="move", to=to, **(how or {})))
    return reply


def counts(bench: Bench, queue: str) -> dict[str, int]:
    told: dict[str, int] = bench.do(c.GetQueue(queue=queue)).queue.counts
    return {state: n for state, n in told.items() if n}


def test_jobs_stand_behind_those_that_wait_there_and_keep_all_else(bench: Bench):
    first = bench.push("b", priority=1)
    moved = [bench.push("a", priority=1, tags=["x"], data=Raw(b'{"n":%d}' % n)) for n in range(2)]
    sooner = bench.push("a", priority=5, tags=["x"])
    before = bench.do(c.GetJob(id=moved[0])).job
    told = move(bench, "b", queue="a", tag="x")
    assert (told.count, told.refused, told.next) == (3, {}, None)
    assert (counts(bench, "a"), counts(bench, "b")) == ({}, {"waiting": 4})
    after = bench.do(c.GetJob(id=moved[0])).job
    assert after.queue == "b"
    assert (after.priority, after.created_at, after.tags, after.data) == (
        before.priority,
        before.created_at,
        ["x"],
        before.data,
    )
    bench.commit()
    assert [bench.pull_id("b") for _ in range(4)] == [sooner, first, *moved]


def test_what_is_moved_is_there_after_a_crash_and_once(bench: Bench):
    jobs = [bench.push("a"), bench.push("a", delay=500)]
    bench.commit()
    move(bench, "b", queue="a")
    bench.commit()
    bench.restart()
    assert (counts(bench, "a"), counts(bench, "b")) == ({}, {"waiting": 1, "delayed": 1})
    assert bench.pull_id("b") == jobs[0]
    bench.sleep(500)
    assert bench.pull_id("b") == jobs[1]


def test_a_crash_before_the_commit_leaves_it_where_it_was(bench: Bench):
    bench.push("a")
    bench.commit()
    move(bench, "b", queue="a")
    bench.restart()
    assert (counts(bench, "a"), counts(bench, "b")) == ({"waiting": 1}, {})


def test_a_delayed_job_and_one_that_waits_for_another_come_when_they_would_have(bench: Bench):
    parent = bench.push("p")
    late, child = bench.push("a", delay=300), bench.push("a", depends_on=[parent])
    move(bench, "b", queue="a")
    assert counts(bench, "b") == {"delayed": 1, "waiting-children": 1}
    bench.ack(bench.pull_id("p"))
    bench.sleep(0)
    assert bench.pull_id("b") == child
    bench.sleep(300)
    assert bench.pull_id("b") == late


def test_active_jobs_stay_also_with_force(bench: Bench):
    bench.push("a")
    bench.pull("a")
    for how in ({}, {"force": True}):
        assert move(bench, "b", how, queue="a", state=["active", "waiting"]).refused == {"is-active": 1}
    assert counts(bench, "a") == {"active": 1}


def test_a_key_is_held_in_its_queue_alone(bench: Bench):
    bench.push("b", unique_key="k")
    held = bench.push("a", unique_key="k")
    free = bench.push("a", unique_key="other")
    told = move(bench, "b", queue="a")
    assert (told.count, told.refused) == (1, {"key-held": 1})
    assert set(bench.engine.queues["a"].keys) == {"k"}
    assert set(bench.engine.queues["b"].keys) == {"k", "other"}
    assert bench.do(c.GetJob(id=held)).job.queue == "a"
    # The key that it had is free there.
    assert bench.push("a", unique_key="other") != free


def test_a_dry_run_moves_nothing_and_what_is_there_already_is_no_act(bench: Bench):
    bench.push("a")
    assert move(bench, "b", {"dry_run": True}, queue="a").count == 1
    assert counts(bench, "a") == {"waiting": 1}
    assert move(bench, "a", queue="a").count == 0


def test_who_listens_to_either_queue_hears_of_a_move_and_the_timeline_tells_it(bench: Bench):
    job_id = bench.push("a")
    bench.commit()
    bench.sleep(5)
    move(bench, "b", queue="a")
    told = [(event.queue, event.job_id, event.reason) for event in bench.engine.events if event.event_type == "updated"]
    assert told == [("a", job_id, "moved to b"), ("b", job_id, "moved from a")]
    bench.commit()
    entries = bench.do(c.GetTimeline(id=job_id)).entries
    assert [entry.reason for entry in entries if entry.what == "updated"] == ["moved to b", "moved from a"]


def test_a_slice_moves_a_part_and_the_next_goes_on(bench: Bench):
    for _ in range(15):
        bench.push("a")
    told = move(bench, "b", {"limit": 10}, state="waiting")
    assert told.count == 10
    rest = bench.do(c.ActOnJobs(filter=c.Filter(state="waiting"), action="move", to="b", after=told.next))
    assert rest.count == 5
    assert counts(bench, "b") == {"waiting": 15}


@pytest.mark.parametrize(
    ("to", "says"), [(None, "to is required"), ("no queue", "invalid characters")]
)  # fmt: skip
def test_where_to_is_to_be_said(bench: Bench, to: str | None, says: str):
    with pytest.raises(Refused, match=says):
        move(bench, to, queue="a")


def test_where_to_is_for_a_move_alone(bench: Bench):
    with pytest.raises(Refused, match="for the action move"):
        bench.do(c.ActOnJobs(filter=c.Filter(queue="a"), action="promote", to="b"))


def test_a_retried_job_that_is_moved_is_open_where_it_is(bench: Bench):
    dead(bench, 2)
    rerun = begin(bench, count=2, rate=10)
    go_on(bench)
    one = bench.engine.reruns[rerun]
    assert one.open_in == {"q": 2}
    bench.do(c.ActOnJobs(filter=c.Filter(queue="q"), action="move", to="r", limit=1))
    assert one.open_in == {"q": 1, "r": 1}
    bench.commit()
    end(bench, 1)
    end(bench, 1, queue="r")
    assert one.open_in == {}
    assert one.open == 0


def test_a_queue_that_is_left_empty_goes_with_its_last_job(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edits, "QUEUES_IDLE_MAX", 1)
    bench.push("a")
    bench.push("b")
    move(bench, "b", queue="a")
    assert list(bench.engine.queues) == ["b"]
    assert counts(bench, "b") == {"waiting": 2}
