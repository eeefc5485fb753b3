"""Repeated jobs: each run makes the next one, at most once, also over a restart."""

from bunqueue_trio.engine.engine import Rules
from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench

LEASE = Rules().lease


def test_a_series_neither_doubles_nor_loses_a_run_in_a_restart(bench: Bench):
    bench.push(repeat=c.Repeat(every=100, limit=3))
    runs = 0
    while (job_id := bench.pull_id()) is not None:
        runs += 1
        bench.commit()
        bench.restart()
        bench.ack(job_id)
        bench.commit()
        bench.restart()
        bench.sleep(100)
    assert runs == 3


def test_slots_that_have_passed_are_skipped(bench: Bench):
    job_id = bench.push(repeat=c.Repeat(every=100))
    bench.pull()
    bench.sleep(950)
    bench.ack(job_id)
    (run,) = [job for job in bench.engine.jobs.values() if job.state is State.DELAYED]
    assert (run.run_at, run.options.series.run) == (T0 + 1000, 2)


def test_a_series_ends_with_a_run_that_is_cancelled(bench: Bench):
    bench.do(c.Cancel(id=bench.push(repeat=c.Repeat(every=100), ttl=50)))
    bench.sleep(50)
    assert bench.engine.counts == dict.fromkeys(bench.engine.counts, 0)
    assert bench.engine.totals.expired == 0


def test_a_series_goes_on_when_a_run_expires(bench: Bench):
    bench.push(repeat=c.Repeat(every=100, limit=3), ttl=50)
    bench.sleep(50)
    assert bench.engine.counts[State.DELAYED] == 1
    bench.sleep(50)
    assert bench.pull_id() is not None, "the second run is there at its slot"
    assert bench.engine.totals.expired == 1


def test_a_series_that_nobody_takes_goes_on_once_a_second_until_somebody_does(bench: Bench):
    """A run that expires makes the next one: with an interval of 1 ms a single push would keep the server busy for ever."""
    bench.push(repeat=c.Repeat(every=1), ttl=0)
    for _ in range(60):
        bench.sleep(1000)
    assert 60 <= bench.engine.totals.expired <= 75


def test_a_series_is_back_at_its_slots_once_a_run_is_taken(bench: Bench):
    bench.push(repeat=c.Repeat(every=100), ttl=50)
    for _ in range(30):
        bench.sleep(100)
    (run,) = bench.engine.jobs.values()
    bench.sleep(run.run_at - bench.now)
    bench.ack(bench.pull_id())
    (following,) = [job for job in bench.engine.jobs.values() if job.state is State.DELAYED]
    assert following.run_at == run.run_at + 100


def test_a_dead_run_is_followed_by_the_next(bench: Bench):
    job_id = bench.push(repeat=c.Repeat(every=100), max_attempts=1)
    bench.pull()
    bench.fail(job_id)
    assert bench.engine.counts[State.DELAYED] == 1
