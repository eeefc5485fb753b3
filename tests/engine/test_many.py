"""One thing done to many jobs: to which, what forbids it, and where it goes on."""

from typing import Any

import pytest

from bunqueue_trio.engine import many
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.engine.make import Bench


def act(bench: Bench, action: Any, how: dict[str, Any] | None = None, **wanted: Any) -> r.ActReply:
    reply: r.ActReply = bench.do(c.ActOnJobs(filter=c.Filter(**wanted), action=action, **(how or {})))
    return reply


def die(bench: Bench, queue: str = "q", **options: Any) -> str:
    job_id = bench.push(queue, max_attempts=1, **options)
    assert bench.pull_id(queue) == job_id
    bench.fail(job_id)
    return job_id


def state(bench: Bench, job_id: str) -> str:
    return bench.state(job_id).state


def test_what_is_shown_is_what_is_acted_on(bench: Bench):
    for n in range(5):
        bench.push(tags=["x"] if n % 2 else [])
    found = [job.id for job in bench.do(c.FindJobs(tag="x")).jobs]
    tried = act(bench, "cancel", {"dry_run": True}, tag="x")
    assert (tried.count, tried.refused, tried.scanned, tried.next) == (2, {}, 5, None)
    assert [job.id for job in tried.examples] == found
    assert len(bench.engine.jobs) == 5
    did = act(bench, "cancel", tag="x")
    assert (did.count, did.scanned, [job.id for job in did.examples]) == (2, 5, found)
    assert len(bench.engine.jobs) == 3
    assert bench.engine.totals.cancelled == 2


def test_examples_are_three_as_they_were(bench: Bench):
    for _ in range(5):
        bench.push(delay=50)
    examples = act(bench, "promote", queue="q").examples
    assert [job.state for job in examples] == ["delayed"] * 3


@pytest.mark.parametrize("dry_run", [False, True])
def test_no_example_is_of_what_is_left_alone(bench: Bench, dry_run: bool):
    first, second = bench.push(), bench.push()
    assert bench.pull_id("q") == first
    reply = act(bench, "cancel", {"dry_run": dry_run}, queue="q", state=["active", "waiting"])
    assert (reply.refused, [job.id for job in reply.examples]) == ({"is-active": 1}, [second])


def test_of_many_that_are_cancelled_with_a_reason_a_record_is_kept(bench: Bench):
    waiting, active, rest = bench.push(), bench.push(), bench.push("r")
    assert bench.pull_id("q") == waiting
    how = {"reason": "wrong data", "by": "ann", "grace": 500}
    assert act(bench, "cancel", how, queue="q").refused == {"is-active": 1}
    assert state(bench, active) == "failed"
    assert bench.state(active).error == "Cancelled by ann: wrong data"
    assert act(bench, "cancel", how | {"force": True}, queue="q").count == 1
    assert state(bench, waiting) == "active"
    bench.sleep(500)
    assert bench.state(waiting).error == "Cancelled by ann: wrong data"
    assert act(bench, "cancel", queue="r").count == 1
    with pytest.raises(Refused, match="Job not found"):
        bench.state(rest)


def test_what_a_cancellation_does_not_change_is_no_act_and_what_its_worker_ends_has_not_ended(bench: Bench):
    """Who reads how many were cancelled must not take active ones for ended, nor read of an act that did nothing."""
    for _ in range(3):
        bench.push()
    bench.pull()
    how = {"reason": "no", "by": "ann", "force": True, "grace": 500}
    dry = act(bench, "cancel", how | {"dry_run": True}, queue=["q"])
    assert (dry.count, dry.ending) == (3, 1)
    done = act(bench, "cancel", how, queue=["q"])
    assert (done.count, done.ending, bench.engine.acted) == (3, 1, True)
    again = act(bench, "cancel", how | {"reason": "another", "grace": 9000}, queue=["q"])
    assert (again.count, again.ending, again.refused, bench.engine.acted) == (0, 0, {}, False)
    [job_id] = [job.id for job in bench.engine.queues["q"].active]
    bench.do(c.Cancel(id=job_id, reason="another", grace=9000))
    assert bench.engine.acted is False
    # Less time, or none, is a change.
    assert act(bench, "cancel", how | {"grace": 100}, queue=["q"]).ending == 1
    assert act(bench, "cancel", {"force": True}, queue=["q"]).count == 1


@pytest.mark.parametrize("how", [{"reason": "x"}, {"by": "ann"}, {"grace": 5}])
@pytest.mark.parametrize("action", sorted(many.ACTIONS.keys() - {"cancel"}))
def test_only_what_is_cancelled_has_a_reason(bench: Bench, action: str, how: dict[str, Any]):
    job_id = bench.push(delay=50)
    with pytest.raises(Refused, match="reason, by and grace are for the action cancel"):
        act(bench, action, how | {"priority": 1}, queue="q")
    assert state(bench, job_id) == "delayed"


def test_active_jobs_are_taken_by_force_only(bench: Bench):
    for action in ("cancel", "discard"):
        active, waiting = bench.push(action), bench.push(action)
        bench.pull_id(action)
        tried = act(bench, action, {"dry_run": True}, queue=action)
        assert (tried.count, tried.refused) == (1, {"is-active": 1})
        done = act(bench, action, queue=action)
        assert (done.count, done.refused) == (1, {"is-active": 1})
        assert (state(bench, active), waiting in bench.engine.jobs) == ("active", action == "discard")
        assert act(bench, action, {"force": True}, queue=action).count == 1
        assert active not in bench.engine.jobs or state(bench, active) == "failed"
    active = bench.push()
    bench.pull_id()
    how = {"force": True, "priority": 1}
    assert act(bench, "priority", how, queue="q", state=["active"]).refused == {"is-active": 1}


def test_each_action_is_of_its_states_unless_the_filter_names_others(bench: Bench):
    waiting, delayed = bench.push(), bench.push(delay=50)
    assert act(bench, "promote", queue="q").count == 1
    assert state(bench, delayed) == "waiting"
    assert act(bench, "promote", queue="q", state="waiting").refused == {"not-delayed": 2}
    assert act(bench, "retry", queue="q", state="waiting").refused == {"not-dead": 2}
    assert act(bench, "purge", queue="q", state="waiting").refused == {"not-dead": 2}
    assert act(bench, "retry", queue="q").scanned == 0
    die(bench, "r")
    bench.commit()
    for action in ("cancel", "discard", "priority"):
        assert act(bench, action, {"priority": 1}, queue="r", state="failed").refused == {"job-not-found": 1}
    assert bench.pull_id() == waiting


def test_a_priority_is_given_once_to_each(bench: Bench):
    jobs = [bench.push(priority=n) for n in (5, 4, 3)]
    reply = act(bench, "priority", {"priority": -1, "limit": 1}, queue="q")
    counts = [reply.count]
    while reply.next is not None:
        reply = act(bench, "priority", {"priority": -1, "limit": 1, "after": reply.next}, queue="q")
        counts.append(reply.count)
    assert sum(counts) == 3, "each once, though its new place is behind the cursor"
    assert [bench.pull_id() for _ in jobs] == jobs
    with pytest.raises(Refused, match="priority is required"):
        act(bench, "priority", queue="q")


def test_nothing_moves_that_has_its_priority_already(bench: Bench):
    bench.push(priority=1)
    bench.commit()
    assert act(bench, "priority", {"priority": 1}, queue="q").count == 0
    assert not bench.engine.changed


def test_an_unfinished_job_that_ends_with_one_before_is_not_ended_twice(bench: Bench):
    first = bench.push(priority=1)
    bench.push("r", depends_on=[first])
    reply = act(bench, "cancel", newer=10**9)
    assert (reply.count, reply.refused) == (1, {"job-not-found": 1})


def test_the_dead_are_retried_in_the_order_of_their_deaths(bench: Bench):
    dead = [die(bench) for _ in range(4)]
    bench.commit()
    assert act(bench, "retry", {"dry_run": True}, queue="q").count == 4
    assert not bench.engine.has_changes
    assert act(bench, "retry", queue="q").count == 4
    assert [bench.pull_id() for _ in dead] == dead


def test_what_forbids_a_retry_is_counted(bench: Bench):
    held, cause = die(bench, unique_key="k"), die(bench)
    heir = bench.push("r", depends_on=[cause])
    bench.commit()
    assert state(bench, heir) == "failed"
    bench.push(unique_key="k")
    assert act(bench, "retry", queue=["q", "r"], id_prefix=held).refused == {"key-held": 1}
    assert act(bench, "retry", queue="r").refused == {many.DEPENDENCY_DEAD: 1}
    assert act(bench, "retry", queue="q").count == 1
    bench.commit()
    assert act(bench, "retry", queue="r").count == 1
    assert state(bench, heir) == "waiting-children"


def test_the_dead_are_deleted(bench: Bench):
    for error in ("late", "late", "refused"):
        bench.push(max_attempts=1)
        bench.fail(bench.pull_id() or "", error)
    bench.commit()
    key = next(group.fingerprint for group in bench.do(c.DeadGroups()).groups if group.shape == "late")
    assert act(bench, "purge", fingerprint=key).count == 2
    bench.commit()
    assert [entry.error for entry in bench.do(c.Dlq(queue="q")).entries] == ["refused"]


def test_a_step_does_as_many_as_it_may_and_says_where_to_go_on(bench: Bench):
    for _ in range(5):
        bench.push()
    assert act(bench, "cancel", {"dry_run": True}, queue="q").count == 5
    assert act(bench, "cancel", {"dry_run": True, "limit": 3}, queue="q").count == 3
    counts, after = [], None
    while True:
        reply = act(bench, "cancel", {"after": after, "limit": 2}, queue="q")
        counts.append(reply.count)
        if (after := reply.next) is None:
            break
    assert counts == [2, 2, 1]
    assert bench.engine.jobs == {}


def test_a_filter_that_says_nothing_is_refused(bench: Bench):
    bench.push()
    with pytest.raises(Refused, match="filter must say"):
        act(bench, "cancel")
    for nothing in ({"id_prefix": "", "text": ""}, {"older": 0}, {"queue": []}):
        with pytest.raises(Refused, match="filter must say"):
            act(bench, "cancel", **nothing)
    assert len(bench.engine.jobs) == 1


def test_what_was_cancelled_on_purpose_is_not_retried_with_others(bench: Bench):
    cancelled, dead = bench.push(), bench.push(max_attempts=1)
    bench.do(c.Cancel(id=cancelled, reason="no"))
    assert bench.pull_id() == dead
    bench.fail(dead)
    bench.commit()
    reply = act(bench, "retry", queue="q")
    assert (reply.count, reply.refused) == (1, {"job-cancelled": 1})
