"""Gates of queues: what is shut lets nothing out, opens on time, and is the same after a restart."""

import msgspec
import pytest

from bunqueue_trio import errors
from bunqueue_trio.engine import gates
from bunqueue_trio.engine.commands import apply, queues
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from tests.engine.make import T0, Bench


def pause(bench: Bench, queue: str = "q", **said: object) -> None:
    bench.do(c.Pause(queue=queue, **said))


def test_a_paused_queue_takes_jobs_and_gives_none(bench: Bench):
    pause(bench)
    job = bench.push()
    assert bench.pull_id() is None
    assert bench.do(c.PullBatch(queue="q", count=5)).jobs == []
    assert not bench.engine.offers("q")
    counts = bench.do(c.GetJobCounts(queue="q")).counts
    assert (counts["waiting"], counts["paused"]) == (0, 1)
    bench.do(c.Resume(queue="q"))
    counts = bench.do(c.GetJobCounts(queue="q")).counts
    assert (counts["waiting"], counts["paused"]) == (1, 0)
    assert bench.engine.offers("q")
    assert bench.pull_id() == job
    assert not bench.engine.offers("q")


def test_other_queues_go_on(bench: Bench):
    pause(bench)
    job = bench.push("other")
    assert bench.pull_id("other") == job


def test_what_is_out_goes_on_behind_a_shut_gate(bench: Bench):
    first, second = bench.push(), bench.push(ttl=1000)
    third = bench.push()
    assert bench.pull_id() == first
    pause(bench)
    bench.ack(first)
    bench.sleep(1000)
    assert bench.engine.find(second) is None, "its time is over behind the gate, too"
    assert bench.state(third).state == "waiting"


def test_a_pause_ends_by_itself_at_its_time_and_not_before(bench: Bench):
    pause(bench, until=T0 + 100)
    job = bench.push()
    assert bench.engine.next_scheduled() == T0 + 100
    bench.sleep(99)
    assert bench.pull_id() is None
    bench.engine.woken.clear()
    bench.sleep(1)
    assert set(bench.engine.woken) == {"q"}
    assert bench.engine.next_due() is None
    assert bench.pull_id() == job


def test_what_was_said_last_counts_and_the_start_stays(bench: Bench):
    pause(bench, reason="one", until=T0 + 100)
    bench.sleep(50)
    pause(bench, reason="two")
    assert msgspec.structs.asdict(bench.do(c.IsPaused(queue="q"))) == {
        "ok": True, "paused": True, "reason": "two", "since": T0, "until": None,
    }  # fmt: skip
    bench.sleep(50)
    assert bench.do(c.IsPaused(queue="q")).paused, "the first time is not so any more"
    pause(bench, until=T0 + 300)
    pause(bench, until=T0 + 200)
    bench.sleep(100)
    assert not bench.do(c.IsPaused(queue="q")).paused
    bench.sleep(50)
    pause(bench)
    bench.sleep(50)
    assert bench.do(c.IsPaused(queue="q")).since == T0 + 250


def test_an_end_that_is_past_is_refused_and_changes_nothing(bench: Bench):
    for until in (0, T0):
        with pytest.raises(Refused, match="until must be later than now"):
            pause(bench, until=until)
    with pytest.raises(Refused, match="invalid characters"):
        pause(bench, "no good")
    assert bench.engine.take().facts == []


def test_resuming_what_is_not_paused_does_nothing(bench: Bench):
    bench.do(c.Resume(queue="q"))
    assert (set(bench.engine.woken), bench.engine.take().facts) == (set(), [])


@pytest.mark.parametrize("until", [None, T0 + 100])
def test_a_restart_changes_nothing(bench: Bench, until: int | None):
    job = bench.push()
    pause(bench, reason="why", until=until)
    pause(bench, "r")
    bench.commit()
    bench.do(c.Resume(queue="r"))
    bench.commit()
    bench.restart()
    assert msgspec.structs.asdict(bench.do(c.IsPaused(queue="q"))) == {
        "ok": True, "paused": True, "reason": "why", "since": T0, "until": until,
    }  # fmt: skip
    assert not bench.do(c.IsPaused(queue="r")).paused
    assert bench.pull_id() is None
    bench.sleep(100)
    assert bench.pull_id() == (job if until else None)


def test_a_pause_that_ended_while_nobody_ran_ends_at_the_start(bench: Bench):
    job = bench.push()
    pause(bench, until=T0 + 100)
    bench.commit()
    bench.now += 1000
    bench.restart()
    assert bench.pull_id() == job
    bench.commit()
    assert bench.disk.facts == {}


def test_details_are_of_a_bounded_number_of_queues_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queues, "QUEUE_DETAILS_MAX", 2)
    for name in "abc":
        bench.push(name)
    page = bench.do(c.ListQueues(details=True))
    assert (page.queues, page.next) == (["a", "b"], "b")
    page = bench.do(c.ListQueues(details=True, after="b"))
    assert ([each.name for each in page.details], page.next) == (["c"], None)
    assert bench.do(c.ListQueues()).queues == ["a", "b", "c"]


def test_gates_have_a_number(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gates, "GATES_MAX", 2)
    pause(bench, "a")
    pause(bench, "b")
    with pytest.raises(Refused) as caught:
        pause(bench, "c")
    assert (caught.value.status, caught.value.code) == (409, errors.TOO_MANY_GATES.code)
    pause(bench, "a", reason="another")
    bench.do(c.Resume(queue="b"))
    pause(bench, "c")


def test_changing_its_mind_again_and_again_leaves_nothing_behind(bench: Bench):
    for i in range(1000):
        pause(bench, until=T0 + 2000 - i)
    assert len(bench.engine.gates._ends) < 200
    assert bench.engine.next_due() == T0 + 1001
    bench.sleep(1001)
    assert (dict(bench.engine.gates), bench.engine.gates._ends, bench.engine.gates.due) == ({}, [], None)


def test_many_pauses_that_end_at_once_end_in_steps(bench: Bench):
    for i in range(3000):
        pause(bench, f"q{i}", until=T0 + 1)
    bench.sleep(1)
    assert 0 < len(bench.engine.gates) < 3000
    while (due := bench.engine.next_due()) is not None and due <= bench.now:
        bench.sleep(0)
    assert len(bench.engine.gates) == 0


# --- the limit of active jobs ----------------------------------------------------------------------------


def limit(bench: Bench, concurrency: int, queue: str = "q") -> None:
    bench.do(c.SetConcurrency(queue=queue, concurrency=concurrency))


def test_the_limit_of_active_jobs_is_kept(bench: Bench):
    ids = [bench.push() for _ in range(5)]
    limit(bench, 2)
    assert [job.id for job in bench.do(c.PullBatch(queue="q", count=5)).jobs] == ids[:2]
    assert bench.pull_id() is None
    bench.engine.woken.clear()
    bench.ack(ids[0])
    assert set(bench.engine.woken) == {"q"}
    assert [bench.pull_id(), bench.pull_id()] == [ids[2], None]
    assert bench.do(c.GetConcurrency(queue="q")).active == 2
    limit(bench, 1)
    bench.ack(ids[1])
    assert bench.pull_id() is None, "those that were out stay so, and count"
    bench.do(c.ClearConcurrency(queue="q"))
    assert [bench.pull_id(), bench.pull_id()] == ids[3:]
    assert bench.do(c.GetConcurrency(queue="q")).concurrency is None


def _wait(bench: Bench, _: str) -> None:
    bench.sleep(bench.rules.lease)


LEAVING = {
    "acked": Bench.ack,
    "failed": Bench.fail,
    "dead": Bench.fail,
    "cancelled": lambda bench, job: bench.do(c.Cancel(id=job)),
    "stalled": _wait,
}


@pytest.mark.parametrize("how", LEAVING)
def test_every_way_to_be_active_no_more_makes_room(bench: Bench, how: str):
    limit(bench, 1)
    job = bench.push(max_attempts=1 if how == "dead" else 2)
    assert bench.pull_id() == job
    other = bench.push(priority=1)
    assert bench.pull_id() is None
    bench.engine.woken.clear()
    LEAVING[how](bench, job)
    assert "q" in bench.engine.woken
    assert bench.pull_id() == other


def test_a_limit_and_the_jobs_that_count_survive_a_restart(bench: Bench):
    first, second = bench.push(), bench.push()
    limit(bench, 1)
    limit(bench, 7, "other")
    token = bench.pull().token
    bench.commit()
    bench.do(c.ClearConcurrency(queue="other"))
    bench.commit()
    bench.restart()
    assert bench.do(c.GetConcurrency(queue="other")).concurrency is None
    assert bench.pull_id() is None
    bench.ack(first, token)
    assert bench.pull_id() == second


def test_a_limit_and_a_pause_do_not_know_of_each_other(bench: Bench):
    job = bench.push()
    limit(bench, 1)
    pause(bench)
    bench.do(c.ClearConcurrency(queue="q"))
    assert bench.pull_id() is None
    limit(bench, 1)
    bench.do(c.Resume(queue="q"))
    assert bench.pull_id() == job
    bench.push()
    assert bench.pull_id() is None
    pause(bench)
    bench.do(c.Resume(queue="q"))
    assert bench.pull_id() is None


def test_paused_and_limited_queues_are_counted(bench: Bench):
    def counts() -> tuple[int, int]:
        return bench.engine.gates.paused, bench.engine.gates.limited

    assert counts() == (0, 0)
    for queue in ("a", "b", "b", "c"):
        pause(bench, queue, until=T0 + 100 if queue == "c" else None)
    limit(bench, 1, "b")
    limit(bench, 2, "d")
    limit(bench, 3, "d")
    assert counts() == (3, 2)
    bench.commit()
    bench.restart()
    assert counts() == (3, 2)
    bench.sleep(100)
    bench.do(c.Resume(queue="b"))
    bench.do(c.ClearConcurrency(queue="d"))
    assert counts() == (1, 1)
    bench.do(c.Resume(queue="a"))
    bench.do(c.ClearConcurrency(queue="b"))
    assert counts() == (0, 0)


def test_a_limit_is_a_gate_among_others(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gates, "GATES_MAX", 1)
    limit(bench, 1)
    pause(bench)
    for command in (c.SetConcurrency(queue="r", concurrency=1), c.Pause(queue="r")):
        with pytest.raises(Refused, match="More than 1 queues"):
            bench.do(command)


def test_taking_away_a_limit_that_is_not_there_does_nothing(bench: Bench):
    bench.do(c.ClearConcurrency(queue="q"))
    pause(bench)
    bench.do(c.ClearConcurrency(queue="q"))
    assert set(bench.engine.woken) == set()
    for command in (c.ClearConcurrency(queue="a b"), c.SetConcurrency(queue="a b", concurrency=1)):
        with pytest.raises(Refused, match="invalid characters"):
            bench.do(command)


def test_a_queue_without_a_limit_wakes_nobody_when_a_job_ends(bench: Bench):
    pause(bench, "other")
    job = bench.push()
    bench.pull()
    bench.engine.woken.clear()
    bench.ack(job)
    assert set(bench.engine.woken) == set()


def test_a_queue_tells_how_many_pulls_wait_there_now(bench: Bench):
    waiting: dict[str, list[str]] = {}
    bench.engine.watch_pulls(waiting)
    assert bench.do(c.GetQueue(queue="q")).queue.pulls_waiting == 0
    waiting["q"] = ["one", "two"]
    assert bench.do(c.GetQueue(queue="q")).queue.pulls_waiting == 2
    assert bench.do(c.GetQueue(queue="other")).queue.pulls_waiting == 0


def test_a_pause_says_who_made_it(bench: Bench):
    ann, bob = By("ann", "10.0.0.7"), By("bob", "10.0.0.8")
    view = lambda: bench.do(c.GetQueue(queue="q")).queue.pause  # noqa: E731
    apply(bench.engine, c.Pause(queue="q", reason="x"), bench.now, by=ann)
    assert view().by == "ann"
    # Who says the same once more changes nothing; who says something else does.
    apply(bench.engine, c.Pause(queue="q", reason="x"), bench.now, by=bob)
    assert view().by == "ann"
    apply(bench.engine, c.Pause(queue="q", reason="y"), bench.now, by=bob)
    assert view().by == "bob"
    bench.do(c.Pause(queue="p"))
    assert bench.do(c.GetQueue(queue="p")).queue.pause.by is None
