"""Reruns: a few dead letters first, the others as long as those do well, over crashes, and never one twice."""

from typing import Any

import pytest

from bunqueue_trio.config import RERUNS_KEPT, RERUNS_MAX
from bunqueue_trio.engine import rerunning
from bunqueue_trio.engine.rerunning import held, rerun_slice
from bunqueue_trio.engine.reruns import RERUN
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench


def dead(bench: Bench, n: int, queue: str = "q", error: str = "late", **options: Any) -> list[str]:
    ids = []
    for _ in range(n):
        ids.append(bench.push(queue, max_attempts=1, **options))
        assert bench.pull_id(queue) == ids[-1]
        bench.now += 1
        bench.fail(ids[-1], error)
    bench.commit()
    return ids


def begin(bench: Bench, **how: Any) -> str:
    bench.engine.watch_pulls({"q": [1], "r": [1]})
    wanted = how.pop("filter", c.Filter(queue="q"))
    return bench.do(c.RerunDlq(filter=wanted, **how)).rerun.id


def go_on(bench: Bench, seconds: int = 1) -> None:
    """What the runtime does in a number of seconds."""
    for _ in range(seconds):
        bench.sleep(1000)
        for one in bench.engine.reruns.under_way():
            if (left := one.allowance()) > 0:
                rerun_slice(bench.engine, one, left, bench.now)
        bench.commit()


def end(bench: Bench, n: int, error: str | None = None, queue: str = "q") -> None:
    for _ in range(n):
        job_id = bench.pull_id(queue)
        assert job_id is not None
        if error is None:
            bench.ack(job_id)
        else:
            bench.do(c.Fail(id=job_id, error=error, unrecoverable=True))
    bench.commit()


def told(bench: Bench, rerun: str | None = None) -> tuple[str, int, int, int]:
    views = bench.do(c.ListReruns()).reruns
    one = views[0] if rerun is None else next(view for view in views if view.id == rerun)
    return one.state, one.retried, one.open, one.died


def test_the_others_follow_when_the_first_have_done_well(bench: Bench):
    ids = dead(bench, 30)
    begin(bench, count=4, rate=10, stop_at=25)
    assert told(bench) == ("first", 0, 0, 0)
    go_on(bench, 3)
    assert told(bench) == ("first", 4, 4, 0)
    assert [bench.pull_id() for _ in range(4)] == ids[-4:]
    for job_id in ids[-4:-1]:
        bench.ack(job_id)
    assert told(bench) == ("first", 4, 1, 0)
    go_on(bench)
    assert told(bench) == ("first", 4, 1, 0)
    bench.do(c.Fail(id=ids[-1], error="again", unrecoverable=True))
    assert told(bench) == ("rest", 4, 0, 1)
    go_on(bench, 2)
    assert told(bench) == ("rest", 24, 20, 1)
    end(bench, 20)
    go_on(bench, 2)
    assert told(bench) == ("rest", 30, 6, 1)
    end(bench, 6)
    assert told(bench) == ("done", 30, 0, 1)
    assert bench.do(c.ListReruns()).reruns[0].ended_at == bench.now


def test_it_stops_by_itself_as_soon_as_too_many_of_the_first_die_again(bench: Bench):
    dead(bench, 30)
    begin(bench, count=10, stop_at=20)
    go_on(bench)
    end(bench, 2, "again")
    assert told(bench) == ("first", 10, 8, 2)
    end(bench, 1, "again")
    [view] = bench.do(c.ListReruns()).reruns
    assert (view.state, view.why, view.ended_at) == (
        "stopped",
        "by then 3 of 10 had died again, more than 20 %",
        bench.now,
    )
    assert [one.id for one in bench.engine.reruns.stopped] == [view.id]
    go_on(bench, 3)
    assert told(bench) == ("stopped", 10, 7, 3)
    end(bench, 7, "again")
    assert told(bench) == ("stopped", 10, 0, 10)
    assert len(bench.engine.reruns.stopped) == 1


def test_it_stops_by_itself_when_too_many_of_the_others_die_again(bench: Bench):
    dead(bench, 40)
    begin(bench, count=2, rate=5, stop_at=50)
    go_on(bench)
    end(bench, 2)
    go_on(bench, 2)
    end(bench, 2, "again")
    assert told(bench) == ("rest", 12, 8, 2)
    end(bench, 1, "again")
    assert told(bench) == ("stopped", 12, 7, 3)


def test_enough_are_under_way_that_something_is_left_to_stop(bench: Bench):
    dead(bench, 60)
    begin(bench, count=1, rate=2)
    go_on(bench)
    end(bench, 1)
    go_on(bench, 30)
    assert told(bench) == ("rest", 21, 20, 0)
    end(bench, 1)
    go_on(bench)
    assert told(bench) == ("rest", 22, 20, 0)


def test_what_dies_again_is_not_retried_again(bench: Bench):
    ids = dead(bench, 3, "q") + dead(bench, 3, "r")
    begin(bench, filter=c.Filter(error="late"), count=1, stop_at=100)
    go_on(bench)
    for _ in range(20):
        for queue in ("q", "r"):
            while (job_id := bench.pull_id(queue)) is not None:
                bench.do(c.Fail(id=job_id, error="late", unrecoverable=True))
        bench.commit()
        go_on(bench)
    assert told(bench) == ("done", 6, 0, 6)
    assert all(bench.state(job_id).state == "failed" for job_id in ids)


def test_only_the_queues_of_the_first_ones_are_looked_at(bench: Bench):
    dead(bench, 1, "r")
    dead(bench, 1, "q")
    bench.do(c.Pause(queue="r"))
    begin(bench, filter=c.Filter(error="late"), count=1)
    with pytest.raises(Refused, match="r is paused"):
        begin(bench, filter=c.Filter(error="late"), count=2)


def test_what_dies_after_its_beginning_is_none_of_it(bench: Bench):
    dead(bench, 1, "q")
    dead(bench, 1, "r")
    begin(bench, filter=c.Filter(error="late"), count=1, rate=1, stop_at=100)
    later = dead(bench, 3, "r")
    go_on(bench)
    end(bench, 1)
    go_on(bench)
    # It takes no place of those either that may be retried in a second.
    assert told(bench) == ("rest", 2, 1, 0)
    end(bench, 1, queue="r")
    go_on(bench)
    assert told(bench) == ("done", 2, 0, 0)
    assert {bench.state(job_id).state for job_id in later} == {"failed"}


def test_a_crash_forgets_nothing_of_it(bench: Bench):
    ids = dead(bench, 5)
    rerun = begin(bench, count=2, stop_at=50)
    bench.commit()
    bench.restart()
    go_on(bench)
    assert told(bench, rerun) == ("first", 2, 2, 0)
    bench.restart()
    assert told(bench, rerun) == ("first", 2, 2, 0)
    end(bench, 1)
    bench.restart()
    end(bench, 1, "again")
    bench.restart()
    assert told(bench, rerun) == ("rest", 2, 0, 1)
    go_on(bench)
    bench.restart()
    assert told(bench, rerun) == ("rest", 5, 3, 1)
    end(bench, 3)
    assert told(bench, rerun) == ("done", 5, 0, 1)
    bench.restart()
    assert told(bench, rerun) == ("done", 5, 0, 1)
    assert [bench.state(job_id).state for job_id in ids].count("completed") == 4


def test_a_step_that_is_not_committed_has_not_been(bench: Bench):
    dead(bench, 3)
    begin(bench, count=2)
    bench.commit()
    rerun_slice(bench.engine, bench.engine.reruns.under_way()[0], 2, bench.now)
    bench.restart()
    assert told(bench) == ("first", 0, 0, 0)
    go_on(bench)
    assert told(bench) == ("first", 2, 2, 0)


def test_it_is_stopped_by_who_says_so(bench: Bench):
    dead(bench, 5)
    rerun = begin(bench, count=2)
    go_on(bench)
    view = bench.do(c.StopRerun(rerun=rerun)).rerun
    assert (view.state, view.why) == ("stopped", "somebody stopped it")
    assert bench.do(c.StopRerun(rerun=rerun)).rerun == view
    go_on(bench)
    end(bench, 2, "again")
    assert told(bench) == ("stopped", 2, 0, 2)
    assert bench.engine.reruns.stopped == []
    with pytest.raises(Refused, match="Rerun not found"):
        bench.do(c.StopRerun(rerun="nobody"))


def test_it_stands_still_while_its_queue_is_paused(bench: Bench):
    dead(bench, 5)
    begin(bench, count=1)
    bench.do(c.Pause(queue="q"))
    go_on(bench, 3)
    [view] = bench.do(c.ListReruns()).reruns
    assert (view.state, view.why, view.retried) == ("first", "queue q is paused", 0)
    bench.do(c.Resume(queue="q"))
    go_on(bench)
    [view] = bench.do(c.ListReruns()).reruns
    assert (view.why, view.retried) == (None, 1)


@pytest.mark.parametrize("first", [True, False])
def test_it_says_that_the_queue_of_those_it_waits_for_is_paused(bench: Bench, first: bool):
    """It has retried as many as it may, and they cannot run."""
    dead(bench, 40)
    begin(bench, count=2, rate=1)
    go_on(bench, 2)
    if not first:
        end(bench, 2)
        go_on(bench, 15)
    open_jobs = 2 if first else 10
    bench.do(c.Pause(queue="q"))
    go_on(bench, 2)
    [view] = bench.do(c.ListReruns()).reruns
    assert (view.state, view.open, view.why) == ("first" if first else "rest", open_jobs, "queue q is paused")
    bench.restart()
    assert bench.do(c.ListReruns()).reruns[0].why == "queue q is paused"
    bench.do(c.Resume(queue="q"))
    assert bench.do(c.ListReruns()).reruns[0].why is None
    end(bench, open_jobs - 1)
    bench.do(c.Pause(queue="q"))
    bench.do(c.StopRerun(rerun=view.id))
    assert bench.do(c.ListReruns()).reruns[0].why == "somebody stopped it"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (None, None),
        ("gone", "nobody asks for jobs of queue q"),
        ("quiet", "nobody asks for jobs of queue q"),
        ("named", None),
        ("rate", "the rate limit of queue q lets none through"),
        ("full", "queue q has as many active jobs as it may have"),
    ],
)
def test_it_says_what_those_wait_for_that_it_waits_for(bench: Bench, what: str | None, says: str | None):
    """Only after a minute without a step: to wait for some seconds is usual."""
    bench.do(c.RegisterWorker(name="w", worker_id="w", queues=["q"]))
    if what == "rate":
        bench.do(c.RateLimit(queue="q", limit=5, duration=3_600_000))
    dead(bench, 5)
    begin(bench, count=2)
    go_on(bench)
    if what in ("gone", "quiet", "named"):
        bench.engine.watch_pulls({})
    if what == "gone":
        bench.do(c.UnregisterWorker(id="w"))
    if what == "quiet":
        bench.do(c.QuietWorker(id="w"))
    if what == "full":
        bench.do(c.SetConcurrency(queue="q", concurrency=1))
        bench.pull_id()
    bench.sleep(59_999)
    assert bench.do(c.ListReruns()).reruns[0].why is None
    if what == "named":
        bench.do(c.RegisterWorker(name="w", worker_id="w", queues=["q"]))
    bench.sleep(1)
    assert bench.do(c.ListReruns()).reruns[0].why == says
    found = list(held(bench.engine, bench.now))
    assert [(each.says, each.queue, each.retried, each.open, each.died) for each in found] == (
        [] if says is None else [(says, "q", 2, 2, 0)]
    )
    assert [bench.now - each.since for each in found] == [60_000] * len(found)


def test_it_waits_for_those_that_wait_for_their_next_attempt(bench: Bench):
    """That is no fault, though nobody asks; of two reruns in a queue both say what holds them up."""
    for _ in range(2):
        bench.push(max_attempts=2, backoff=10**6)
    ids = [bench.pull_id(), bench.pull_id()]
    for job_id in ids:
        bench.do(c.Fail(id=job_id, error="late", unrecoverable=True))
    bench.commit()
    for job_id in ids:
        begin(bench, filter=c.Filter(queue="q", id_prefix=job_id), count=1)
    go_on(bench)
    bench.engine.watch_pulls({})
    bench.sleep(60_000)
    assert len(list(held(bench.engine, bench.now))) == 2
    for job_id in ids:
        assert bench.pull_id() == job_id
        bench.fail(job_id)
    bench.sleep(60_000)
    assert list(held(bench.engine, bench.now)) == []


def test_it_looks_at_no_more_workers_than_a_step_may(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    for n in range(4):
        dead(bench, 2, f"q{n}")
        begin(bench, filter=c.Filter(queue=f"q{n}"), count=2, force=True)
    for n in range(10):
        bench.do(c.RegisterWorker(name=f"w{n}", worker_id=f"w{n}", queues=["other"]))
    go_on(bench)
    bench.sleep(60_000)
    monkeypatch.setattr(rerunning, "WORKERS_LOOKED", 25)
    assert [each.queue for each in held(bench.engine, bench.now)] == ["q0", "q1"]
    assert [one.why is None for one in bench.do(c.ListReruns()).reruns] == [False, False, True, True]


def test_it_stands_still_since_the_pause_of_its_queue(bench: Bench):
    dead(bench, 5)
    begin(bench, count=2)
    go_on(bench)
    bench.sleep(30_000)
    bench.do(c.Pause(queue="q"))
    (found,) = held(bench.engine, bench.now + 5000)
    assert (found.code, found.since) == ("paused", bench.now)


def test_it_names_no_queue_whose_jobs_have_ended(bench: Bench):
    dead(bench, 1, "q")
    dead(bench, 1, "r")
    begin(bench, filter=c.Filter(error="late"), count=2)
    go_on(bench)
    end(bench, 1, queue="q")
    bench.do(c.Pause(queue="q"))
    assert bench.do(c.ListReruns()).reruns[0].why is None
    bench.do(c.Pause(queue="r"))
    assert bench.do(c.ListReruns()).reruns[0].why == "queue r is paused"


def test_what_cannot_be_retried_stays_and_is_counted(bench: Bench):
    dead(bench, 1, unique_key="k")
    bench.push(unique_key="k")
    cancelled = bench.push(priority=5)
    bench.do(c.Cancel(id=cancelled, reason="no"))
    bench.commit()
    begin(bench, count=5)
    go_on(bench)
    [view] = bench.do(c.ListReruns()).reruns
    assert (view.state, view.retried, view.refused) == ("done", 0, {"key-held": 1, "job-cancelled": 1})


@pytest.mark.parametrize("how", [{}, {"reason": "no"}])
def test_one_that_is_cancelled_has_not_died_again(bench: Bench, how: dict[str, str]):
    [job_id] = dead(bench, 1)
    begin(bench, stop_at=0)
    go_on(bench)
    bench.do(c.Cancel(id=job_id, **how))
    assert told(bench) == ("done", 1, 0, 0)


def test_who_retries_it_alone_removes_it_from_the_rerun(bench: Bench):
    [job_id] = dead(bench, 1)
    begin(bench, stop_at=100)
    go_on(bench)
    end(bench, 1, "again")
    bench.do(c.RetryDlq(queue="q", job_id=job_id))
    end(bench, 1, "and again")
    assert told(bench) == ("done", 1, 0, 1)


def test_it_is_refused_where_nobody_would_find_out_how_they_fare(bench: Bench):
    dead(bench, 1)
    with pytest.raises(Refused, match="Nobody asks for jobs of queue q"):
        bench.do(c.RerunDlq(filter=c.Filter(queue="q")))
    bench.do(c.RegisterWorker(worker_id="w", queues=["q"]))
    bench.do(c.Pause(queue="q"))
    for force in (False, True):
        with pytest.raises(Refused, match="Queue q is paused"):
            bench.do(c.RerunDlq(filter=c.Filter(queue="q"), force=force))
    bench.do(c.Resume(queue="q"))
    bench.do(c.QuietWorker(id="w"))
    with pytest.raises(Refused, match="Nobody asks"):
        bench.do(c.RerunDlq(filter=c.Filter(queue="q")))
    bench.do(c.UnquietWorker(id="w"))
    assert bench.do(c.RerunDlq(filter=c.Filter(queue="q"))).rerun.state == "first"
    bench.now += 10**6
    with pytest.raises(Refused, match="Nobody asks"):
        bench.do(c.RerunDlq(filter=c.Filter(queue="q")))
    assert bench.do(c.RerunDlq(filter=c.Filter(queue="q"), force=True)).rerun.state == "first"


def test_one_that_is_active_shows_that_somebody_works(bench: Bench):
    dead(bench, 1)
    bench.push()
    bench.pull()
    assert bench.do(c.RerunDlq(filter=c.Filter(queue="q"))).rerun.state == "first"


def test_what_means_nothing_is_refused(bench: Bench):
    dead(bench, 1)
    for filter_, said in (
        (c.Filter(), "filter must say something"),
        (c.Filter(queue="q", state="waiting"), "state"),
        (c.Filter(queue="nobody"), "No dead letter"),
        (c.Filter(queue="q", fingerprint="000000000000"), "No dead letter"),
    ):
        with pytest.raises(Refused, match=said):
            bench.do(c.RerunDlq(filter=filter_))
    assert bench.do(c.ListReruns()).reruns == []


def test_a_bounded_number_is_under_way_and_a_bounded_number_is_remembered(bench: Bench):
    dead(bench, 1)
    for _ in range(RERUNS_MAX):
        begin(bench)
    with pytest.raises(Refused, match="Too many reruns"):
        begin(bench)
    for view in bench.do(c.ListReruns()).reruns:
        bench.do(c.StopRerun(rerun=view.id))
    for _ in range(RERUNS_KEPT):
        last = begin(bench)
        bench.do(c.StopRerun(rerun=last))
    begin(bench)
    views = bench.do(c.ListReruns()).reruns
    assert (len(views), views[1].id) == (RERUNS_KEPT + 1, last)
    assert len(bench.engine.facts.of(RERUN)) == RERUNS_KEPT + 1


def test_the_end_of_a_job_whose_rerun_is_forgotten_is_an_end_all_the_same(bench: Bench):
    dead(bench, 1)
    begin(bench)
    go_on(bench)
    bench.engine.reruns.clear()
    end(bench, 1)
