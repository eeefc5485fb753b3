"""The rate limit of a queue, a number of deliveries in any window of time: held against a list of when each was, over restarts and clocks that are set."""

import random

import pytest

from bunqueue_trio.engine import gates, rates
from bunqueue_trio.engine.rates import Rate
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench


def limit(bench: Bench, limit: int, duration: int = 1000, ttl: int | None = None, queue: str = "q") -> None:
    bench.do(c.RateLimit(queue=queue, limit=limit, duration=duration, ttl=ttl))


def opens_at(bench: Bench) -> int | None:
    return bench.do(c.GetRateLimit(queue="q")).opens_at


def test_a_rate_limit_delivers_its_number_in_a_window_and_the_next_when_the_first_has_left_it(bench: Bench):
    ids = [bench.push() for _ in range(5)]
    limit(bench, 2)
    assert bench.pull_id() == ids[0]
    bench.sleep(400)
    assert [job.id for job in bench.do(c.PullBatch(queue="q", count=5)).jobs] == [ids[1]]
    assert (opens_at(bench), bench.engine.next_scheduled()) == (T0 + 1000, T0 + 1000)
    bench.ack(ids[0])
    bench.sleep(599)
    assert bench.pull_id() is None
    bench.engine.woken.clear()
    bench.sleep(1)
    assert set(bench.engine.woken) == {"q"}
    assert [bench.pull_id(), bench.pull_id()] == [ids[2], None]
    assert opens_at(bench) == T0 + 1400
    bench.do(c.RateLimitClear(queue="q"))
    assert [bench.pull_id(), bench.pull_id()] == ids[3:]


def test_a_job_that_is_delivered_again_counts_again_for_the_rate_limit(bench: Bench):
    job = bench.push(backoff=0)
    limit(bench, 2)
    for _ in range(2):
        assert bench.pull_id() == job
        bench.fail(job)
    assert bench.pull_id() is None


def test_what_has_left_the_window_is_forgotten(bench: Bench):
    limit(bench, 100)
    for _ in range(50):
        bench.push()
        bench.pull()
        bench.sleep(100)
    said = bench.do(c.GetRateLimit(queue="q"))
    assert (said.used, said.opens_at) == (9, None)
    assert len(bench.engine.gates["q"].rate.times) == 10


def test_a_rate_limit_that_is_changed_counts_what_is_known(bench: Bench):
    ids = [bench.push() for _ in range(4)]
    limit(bench, 3)
    for _ in range(3):
        bench.pull()
        bench.sleep(100)
    limit(bench, 1)
    assert opens_at(bench) == T0 + 1200, "when the last of them has left the window"
    limit(bench, 3)
    assert opens_at(bench) == T0 + 1000
    bench.engine.woken.clear()
    limit(bench, 4)
    assert "q" in bench.engine.woken
    assert bench.pull_id() == ids[3]


def test_a_rate_limit_for_a_time_ends_by_itself(bench: Bench):
    bench.push()
    job = bench.push()
    limit(bench, 1, 60_000, ttl=500)
    bench.pull()
    assert bench.pull_id() is None
    bench.engine.woken.clear()
    bench.sleep(500)
    assert set(bench.engine.woken) == {"q"}
    assert bench.pull_id() == job
    assert (dict(bench.engine.gates), bench.engine.gates._ends, bench.engine.gates.due) == ({}, [], None)
    bench.commit()
    assert bench.disk.facts == {}


def test_a_rate_limit_a_pause_and_a_limit_of_active_jobs_do_not_know_of_each_other(bench: Bench):
    ids = [bench.push() for _ in range(3)]
    limit(bench, 1, 500)
    bench.do(c.SetConcurrency(queue="q", concurrency=1))
    bench.do(c.Pause(queue="q", until=T0 + 100))
    bench.sleep(100)
    assert bench.pull_id() == ids[0]
    bench.ack(ids[0])
    bench.do(c.ClearConcurrency(queue="q"))
    assert bench.pull_id() is None
    bench.do(c.Pause(queue="q"))
    bench.sleep(500)
    assert (opens_at(bench), bench.pull_id()) == (None, None)
    bench.do(c.Resume(queue="q"))
    assert [bench.pull_id(), bench.pull_id()] == [ids[1], None]
    bench.do(c.Pause(queue="q"))
    bench.do(c.RateLimitClear(queue="q"))
    assert bench.pull_id() is None
    bench.do(c.Resume(queue="q"))
    assert bench.pull_id() == ids[2]


def test_taking_away_a_rate_limit_that_is_not_there_does_nothing(bench: Bench):
    bench.do(c.RateLimitClear(queue="q"))
    bench.do(c.Pause(queue="q"))
    bench.do(c.RateLimitClear(queue="q"))
    assert set(bench.engine.woken) == set()
    for command in (c.RateLimit(queue="a b", limit=1), c.RateLimitClear(queue="a b"), c.GetRateLimit(queue="a b")):
        with pytest.raises(Refused, match="invalid characters"):
            bench.do(command)


def test_a_rate_limit_is_a_gate_among_others(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gates, "GATES_MAX", 1)
    limit(bench, 1)
    limit(bench, 2)
    with pytest.raises(Refused, match="More than 1 queues"):
        limit(bench, 1, queue="r")


def test_a_full_gate_leaves_nothing_behind_however_often_it_is_full(bench: Bench):
    limit(bench, 1, 60_000)
    for i in range(1000):
        bench.do(c.RateLimit(queue="q", limit=1, duration=60_000 + i))
        bench.push()
        bench.pull()
    assert len(bench.engine.gates._ends) < 200


@pytest.mark.parametrize("clock", [-500_000, 0, 1, 700, 3_600_000])
def test_after_a_restart_time_goes_on_from_the_last_delivery_whatever_the_clock_says(bench: Bench, clock: int):
    """How long it was down cannot be known: the clock may have been set."""
    ids = [bench.push() for _ in range(3)]
    limit(bench, 2)
    bench.pull()
    bench.sleep(300)
    bench.pull()
    for job in ids[:2]:
        bench.ack(job)
    bench.commit()
    bench.now += clock
    begun = bench.now
    bench.restart()
    assert opens_at(bench) == begun + 700
    bench.sleep(699)
    assert bench.pull_id() is None
    bench.sleep(1)
    assert bench.pull_id() == ids[2]


def test_a_restart_before_any_delivery_leaves_the_gate_open(bench: Bench):
    job = bench.push()
    limit(bench, 1, ttl=5000)
    bench.commit()
    bench.restart()
    assert bench.pull_id() == job
    bench.sleep(5000)
    assert bench.do(c.GetRateLimit(queue="q")).limit is None


def test_a_rate_limit_keeps_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch):
    """Each counts a little longer when two become one, never shorter."""
    monkeypatch.setattr(rates, "_TIMES_MAX", 3)
    rate = Rate(100, 1000)
    for now in (1, 2, 3, 4):
        rate.note(now)
    assert rate.times == [(2, 2), (3, 1), (4, 1)]
    assert rate.used(1001) == 4


def test_many_deliveries_are_remembered_in_hundredths_of_the_window():
    rate = Rate(101, 10_000)
    for now in range(1000, 9000, 10):
        rate.note(now)
    assert rate.times[:2] == [(1090, 10), (1190, 10)]
    assert len(rate.times) == 80
    assert (rate.used(11_089), rate.used(11_090)) == (800, 790)
    assert rate.opens_at(9000) == rate.times[-11][0] + 10_000
    for now in range(50):
        Rate(101, 1).note(now)


@pytest.mark.thorough
@pytest.mark.untraced
@pytest.mark.parametrize("seed", range(30))
def test_no_window_ever_has_more_deliveries_than_its_rate_limit(seed: int):
    """Random deliveries, sleeps, crashes, restarts on clocks that were set, against a list of true times."""
    rng = random.Random(seed)
    bench = Bench()
    most, duration = rng.choice([1, 2, 5, 100, 101, 130]), rng.choice([1, 7, 100, 1000, 60_000])
    limit(bench, most, duration)
    bench.commit()
    true_now, delivered, told = 0, list[int](), 0
    for _ in range(120):
        step = rng.random()
        if step < 0.4:
            for _ in range(rng.choice([1, 1, 3, most])):
                bench.push(remove_on_complete=True)
                taken = bench.pull()
                # Its holder hears of it when it is committed.
                bench.commit()
                if taken.job is not None:
                    delivered.append(true_now)
                    bench.ack(taken.job.id, taken.token)
        elif step < 0.6 and (due := bench.engine.gates.due) is not None:
            ms = max(0, due - bench.now - rng.choice([0, 1]))
            true_now += ms
            bench.sleep(ms)
        elif step < 0.95:
            ms = rng.choice([0, 1, duration // 3, duration // 100, duration])
            true_now += ms
            bench.sleep(ms)
        else:
            true_now += rng.choice([0, 1, duration // 2, 10 * duration])
            bench.now = max(T0, bench.now + rng.choice([-duration, 0, duration // 2, 100 * duration]))
            bench.restart()
        while told < len(delivered):
            window = [time for time in delivered[: told + 1] if time > delivered[told] - duration]
            assert len(window) <= most, (seed, most, duration)
            told += 1
    assert delivered


def test_a_delivery_that_counts_is_answered_when_it_is_committed(bench: Bench):
    bench.push()
    bench.commit()
    limit(bench, 5)
    bench.engine.handed = 0
    bench.pull()
    assert bench.engine.handed == bench.engine.epoch
