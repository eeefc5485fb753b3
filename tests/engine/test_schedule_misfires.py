"""Schedules: what an outage, a restart, a crash and a wrong clock mean for slots that were missed."""

import random

import pytest

from bunqueue_trio.engine import planner
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench
from tests.engine.schedule_steps import DAY, MINUTE, NOON, jobs, past, put, view
from tests.engine.schedule_steps import day as day

# --- outages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "ran"),
    [
        ({}, [30]),
        ({"misfire": "skip"}, []),
        ({"misfire": "all", "misfire_max": 3}, [28, 29, 30]),
        ({"misfire": "all", "misfire_max": 3, "window": 13 * 3_600_000 + DAY}, [29, 30]),
        ({"window": 3_600_000}, []),
        ({"misfire": "all", "misfire_max": 25, "limit": 2}, [6, 7]),
    ],
)
def test_after_a_month_off_the_slots_that_were_missed_run_by_their_policy(day: Bench, fields: dict, ran: list[int]):
    put(day, cron="0 0 * * *", overlap="allow", **fields)
    day.commit()
    day.now += 30 * DAY  # 31 … 14: from midnight after the first noon on
    day.restart()
    day.sleep(0)
    midnight = NOON - DAY // 2
    assert jobs(day) == [f"s@{midnight + n * DAY:013}" for n in ran]
    notices = day.engine.planner.take_notices()
    assert notices == [planner.Notice("s", planner.LATE, midnight + DAY, midnight + 30 * DAY, len(ran))]
    skipped = [each for each in day.do(c.GetScheduleRuns(name="s")).past if each.outcome == "skipped"]
    last_skipped = (ran[0] if ran else 31) - 1
    assert [(each.slot, each.until) for each in skipped] == [(midnight + DAY, midnight + last_skipped * DAY)]
    assert "missed" in (skipped[0].why or "")
    day.commit()
    day.restart()
    day.sleep(0)
    assert jobs(day) == [f"s@{midnight + n * DAY:013}" for n in ran], "a restart runs nothing again"
    assert day.engine.planner.take_notices() == []


def test_a_slot_that_is_late_by_less_than_a_minute_is_in_time(bench: Bench):
    put(bench, every=DAY, misfire="skip", window=0)
    put(bench, "t", every=DAY, misfire="once", window=0)
    bench.commit()
    bench.now = DAY + MINUTE
    bench.restart()
    bench.sleep(0)
    assert jobs(bench) == [f"s@{DAY:013}", f"t@{DAY:013}"]
    assert bench.engine.planner.take_notices() == []
    put(bench, "u", every=DAY, misfire="once", window=0)
    bench.sleep(DAY + 1)
    assert f"u@{2 * DAY}" not in bench.engine.jobs


def test_an_old_file_from_a_backup_makes_no_job_that_it_has(bench: Bench):
    put(bench, every=MINUTE, overlap="allow")
    bench.commit()
    old = dict(bench.disk.facts)
    bench.sleep(20_000)
    bench.commit()
    bench.disk.facts = old
    bench.restart()
    bench.sleep(0)
    assert view(bench).runs == 1, "it is the job of that slot"
    assert past(bench) == [(1_020_000, "waiting")]
    assert [each.why for each in bench.engine.planner.skips("s")] == ["job s@0000001020000 was there already"]


def test_a_clock_that_was_ahead_is_reported_only_for_a_schedule_that_waits_for_it(bench: Bench):
    put(bench, "daily", every=DAY)
    put(bench, "often", every=MINUTE)
    bench.commit()
    bench.now -= 10 * MINUTE
    bench.restart()
    assert [(notice.name, notice.last) for notice in bench.engine.planner.take_notices()] == [("often", T0)]


def test_a_clock_that_is_behind_runs_no_slot_again_and_says_so_once(bench: Bench):
    put(bench, every=MINUTE, overlap="allow")
    bench.sleep(DAY)
    bench.commit()
    bench.now -= DAY // 2
    bench.restart()
    bench.sleep(MINUTE)
    assert len(bench.engine.jobs) == 1
    [notice] = bench.engine.planner.take_notices()
    assert (notice.event, notice.last) == (planner.BEHIND, 87_360_000)
    assert view(bench).next_run == 87_420_000


def test_slots_in_time_that_meet_their_own_job_are_no_line_of_the_log(bench: Bench):
    put(bench, every=100)
    bench.sleep(5000)
    assert [each.outcome for each in bench.do(c.GetScheduleRuns(name="s")).past] == ["skipped", "waiting"]
    assert bench.engine.planner.take_notices() == []


def test_a_clock_that_is_behind_runs_no_slot_again_when_it_is_put_or_resumed(bench: Bench):
    put(bench, every=MINUTE)
    bench.sleep(DAY)
    bench.commit()
    bench.now -= DAY // 2
    bench.restart()
    assert put(bench, every=30_000).schedule.next_run == 87_390_000
    bench.do(c.PauseSchedule(name="s"))
    bench.do(c.ResumeSchedule(name="s"))
    assert view(bench).next_run == 87_390_000


def test_a_disk_that_cannot_be_read_stops_no_schedule(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    put(bench, every=MINUTE)

    def refuse(job_ids: object) -> dict[str, State]:
        raise StoreError("it is gone")

    monkeypatch.setattr(bench.disk, "outcomes", refuse)
    bench.sleep(MINUTE)
    assert jobs(bench) == ["s@0000001020000"]


def test_a_crash_before_the_commit_makes_the_job_again_and_one_after_it_does_not(bench: Bench):
    put(bench, every=MINUTE)
    bench.commit()
    bench.sleep(20_000)
    bench.restart()  # nothing of it was written
    assert jobs(bench) == []
    bench.sleep(0)
    assert jobs(bench) == ["s@0000001020000"]
    bench.commit()
    bench.restart()
    bench.sleep(0)
    assert jobs(bench) == ["s@0000001020000"]
    assert view(bench).runs == 1


@pytest.mark.thorough
@pytest.mark.untraced
@pytest.mark.parametrize("seed", range(20))
def test_each_slot_makes_at_most_one_job_over_any_number_of_crashes(seed: int):
    """With ``all`` and ``allow`` and short outages each makes exactly one."""
    rng, bench = random.Random(seed), Bench()
    put(bench, every=1000, overlap="allow", misfire="all", misfire_max=25, options=c.RunOptions(ttl=DAY))
    bench.commit()
    made: list[str] = []

    def work() -> None:
        bench.commit()
        while (job_id := bench.pull_id()) is not None:
            made.append(job_id)
            bench.ack(job_id)
        bench.commit()

    written = bench.now
    for _ in range(100):
        bench.sleep(rng.choice([1, 300, 1000, 5000]))
        if rng.random() < 0.3 or bench.now - written > 15_000:
            work()
            written = bench.now
        elif rng.random() < 0.7:
            bench.restart()
    bench.sleep(0)
    work()
    settled = bench.engine.planner.progress["s"].settled
    assert sorted(made) == [f"s@{slot:013}" for slot in range(1_001_000, settled + 1, 1000)]
