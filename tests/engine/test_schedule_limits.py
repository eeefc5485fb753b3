"""Schedules: zones, jitter, limits of runs, and who pauses one."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from bunqueue_trio.engine import planner
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench
from tests.engine.schedule_steps import DAY, MINUTE, jobs, past, put, view
from tests.engine.schedule_steps import day as day

# --- time ------------------------------------------------------------------------------------------


def test_a_schedule_in_a_zone_runs_when_the_clock_goes_on(bench: Bench):
    bench.now = int(datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp() * 1000)
    put(bench, cron="30 2 * * *", timezone="Europe/Berlin", overlap="allow")
    [first, second] = bench.do(c.GetScheduleRuns(name="s", next=2)).upcoming
    assert (first.local, first.remarks) == (
        "2026-03-29T03:00:00+02:00",
        ["02:30 does not exist on this day: runs at 03:00"],
    )
    assert (second.local, second.remarks) == ("2026-03-30T02:30:00+02:00", [])
    for each in (first, second):
        bench.sleep(each.slot - bench.now)
        assert f"s@{each.slot:013}" in bench.engine.jobs


def test_jitter_is_between_a_slot_and_its_run(bench: Bench):
    for n in range(50):
        put(bench, f"s{n}", every=MINUTE, jitter=10_000, overlap="allow")
    shown = [view(bench, f"s{n}") for n in range(50)]
    times = sorted(each.next_run or 0 for each in shown)
    assert 1_020_000 <= times[0] < times[25] < times[-1] < 1_030_000
    bench.now = times[24]
    bench.engine.advance(bench.now)
    assert len(bench.engine.jobs) == sum(time <= bench.now for time in times)
    for _ in range(3):
        bench.sleep(MINUTE)
    assert {view(bench, f"s{n}").runs for n in range(50)} <= {2, 3, 4}
    [upcoming] = bench.do(c.GetScheduleRuns(name="s7", next=1)).upcoming
    assert upcoming.run_at == view(bench, "s7").next_run != upcoming.slot


def test_more_jitter_than_a_period_loses_no_slot(bench: Bench):
    put(bench, every=1000, jitter=30_000, overlap="allow", misfire="all", misfire_max=25)
    for _ in range(80):
        bench.sleep(500)
    assert jobs(bench) == [f"s@{1_001_000 + 1000 * n:013}" for n in range(len(bench.engine.jobs))]
    assert len(bench.engine.jobs) > 5


def test_a_bounded_number_of_slots_runs_and_none_outside_of_the_time(bench: Bench):
    put(bench, every=1000, limit=2, overlap="allow")
    put(bench, "t", every=1000, start=1_005_000, end=1_006_500, overlap="allow")
    for _ in range(20):
        bench.sleep(1000)
    assert jobs(bench) == ["s@0000001001000", "s@0000001002000", "t@0000001005000", "t@0000001006000"]
    assert [view(bench, name).state for name in "st"] == ["ended", "ended"]
    assert bench.do(c.GetScheduleRuns(name="s")).upcoming == []
    assert bench.engine.next_due() is None
    put(bench, every=1000, limit=5, overlap="allow")
    assert [each.slot for each in bench.do(c.GetScheduleRuns(name="s", next=9)).upcoming] == [
        1_021_000,
        1_022_000,
        1_023_000,
    ]


def test_what_was_due_beyond_the_limit_does_not_come_after_a_restart(bench: Bench):
    """The second of the two that may run is skipped, so that the limit is not reached."""
    put(bench, every=1000, limit=2, misfire="all")
    bench.sleep(10_000)
    assert jobs(bench) == ["s@0000001001000"]
    assert bench.pull_id() == "s@0000001001000"
    bench.ack("s@0000001001000")
    bench.commit()
    bench.restart()
    bench.sleep(999)
    assert jobs(bench) == []
    bench.sleep(1)
    assert jobs(bench) == ["s@0000001011000"]


def test_a_thousand_schedules_that_are_due_at_once_run_in_steps(bench: Bench):
    for n in range(1000):
        put(bench, f"s{n}", cron="* * * * *")
    bench.now += MINUTE
    steps = []
    while (due := bench.engine.next_due()) is not None and due <= bench.now:
        before = len(bench.engine.jobs)
        bench.engine.advance(bench.now)
        steps.append(len(bench.engine.jobs) - before)
    assert sum(steps) == 1000
    assert max(steps) <= 35, "a step is of 5 ms, and finding the next slot of a rare day takes 150 µs"


# --- told to ------------------------------------------------------------------------------------------


def test_a_paused_schedule_runs_nothing_and_goes_on_with_its_next_slot(bench: Bench):
    put(bench, every=1000, overlap="allow")
    for _ in range(2):  # the second is for nothing, and no fault
        bench.do(c.PauseSchedule(name="s"))
    assert (view(bench).state, view(bench).paused_at, view(bench).next_run) == ("paused", T0, None)
    bench.commit()
    bench.restart()
    bench.sleep(2500)
    assert jobs(bench) == []
    for _ in range(2):
        bench.do(c.ResumeSchedule(name="s"))
    assert view(bench).next_run == 1_003_000
    assert past(bench) == [(1_001_000, "skipped")]
    bench.do(c.PauseSchedule(name="s"))
    bench.do(c.ResumeSchedule(name="s"))
    assert past(bench) == [(1_001_000, "skipped")]
    bench.sleep(500)
    assert jobs(bench) == ["s@0000001003000"]


@pytest.mark.parametrize(
    ("fields", "until"), [({"data": Raw(b"2")}, 2600), ({"every": 700}, 2500), ({"limit": 9}, 2600)]
)
def test_slots_of_a_pause_are_listed_also_when_something_else_is_put_meanwhile(bench: Bench, fields: dict, until: int):
    put(bench, every=1000)
    bench.do(c.PauseSchedule(name="s"))
    bench.sleep(2500)
    assert put(bench, **{"every": 1000, **fields}).outcome == "changed"
    bench.sleep(100)
    bench.do(c.ResumeSchedule(name="s"))
    [skipped] = bench.do(c.GetScheduleRuns(name="s")).past
    assert (skipped.slot, skipped.until, skipped.why) == (1_001_000, T0 + until, "paused")
    following = view(bench).next_run
    assert following is not None
    assert following > bench.now


def test_a_pause_of_a_schedule_that_is_over_leaves_out_nothing(bench: Bench):
    put(bench, every=1000, limit=1)
    bench.sleep(1000)
    bench.do(c.PauseSchedule(name="s"))
    bench.sleep(5000)
    bench.do(c.ResumeSchedule(name="s"))
    assert past(bench) == [(1_001_000, "waiting")]
    assert view(bench).state == "ended"


def test_a_slot_in_its_jitter_is_left_out_when_another_time_is_put(bench: Bench):
    put(bench, every=MINUTE, jitter=MINUTE, start=T0 + DAY)
    slot, run_at = next((each.slot, each.run_at) for each in bench.do(c.GetScheduleRuns(name="s", next=1)).upcoming)
    assert run_at > slot
    bench.sleep(slot - bench.now)
    put(bench, every=DAY)
    [skipped] = bench.do(c.GetScheduleRuns(name="s")).past
    assert (skipped.slot, skipped.why) == (slot, planner.ANOTHER)
    bench.sleep(MINUTE)
    assert jobs(bench) == []


def in_the_middle_of_its_jitter(bench: Bench, **fields: Any) -> tuple[int, int]:
    """A slot has come, and its jitter has a while to go; return when it came and when it runs."""
    put(bench, every=DAY, jitter=DAY, **fields)
    [upcoming] = bench.do(c.GetScheduleRuns(name="s", next=1)).upcoming
    assert upcoming.run_at - upcoming.slot > 10 * MINUTE
    bench.sleep((upcoming.slot + upcoming.run_at) // 2 - bench.now)
    return upcoming.slot, upcoming.run_at


@pytest.mark.parametrize("fields", [{"overlap": "allow"}, {"misfire": "skip"}, {"data": Raw(b"2")}, {"limit": 5}])
def test_a_slot_in_its_jitter_runs_by_what_is_put_meanwhile(bench: Bench, fields: dict):
    slot, run_at = in_the_middle_of_its_jitter(bench)
    assert put(bench, **{"every": DAY, "jitter": DAY, **fields}).schedule.next_run == run_at
    bench.sleep(run_at - 1 - bench.now)
    assert jobs(bench) == []
    bench.sleep(1)
    assert jobs(bench) == [f"s@{slot:013}"]


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_slot_runs_at_once_where_a_smaller_jitter_would_have_let_it(bench: Bench, misfire: str, killed: bool):
    """It is in time: it was to wait, and nobody was away."""
    slot, _ = in_the_middle_of_its_jitter(bench, misfire=misfire)
    known = bench.engine.planner
    for fields in ({"jitter": 0}, {"priority": 5}):  # the second before the slot has had its turn
        assert known.put("s", replace(known.plans["s"], **fields), bench.now) == "changed"
    bench.commit()
    if killed:
        bench.restart()
    bench.sleep(0)
    assert jobs(bench) == [f"s@{slot:013}"]
    assert past(bench) == [(slot, "waiting")]
    assert bench.engine.planner.take_notices() == []
    assert view(bench).next_run == slot + DAY
    bench.commit()
    bench.now = slot + DAY + 2 * MINUTE
    bench.restart()
    bench.sleep(0)
    assert bench.engine.planner.late == 1, "a later slot has only the new jitter to wait"


def test_a_slot_in_its_jitter_outlasts_a_pause(bench: Bench):
    slot, run_at = in_the_middle_of_its_jitter(bench)
    bench.do(c.PauseSchedule(name="s"))
    bench.sleep(1)
    assert view(bench).next_run is None
    bench.do(c.ResumeSchedule(name="s"))
    assert view(bench).next_run == run_at
    bench.sleep(run_at - bench.now)
    assert past(bench) == [(slot, "waiting")]


def test_what_was_to_run_in_a_pause_is_left_out_and_what_comes_behind_is_not(bench: Bench):
    put(bench, every=MINUTE, jitter=5 * MINUTE, overlap="allow")
    bench.do(c.PauseSchedule(name="s"))
    bench.sleep(20 * MINUTE)
    bench.do(c.ResumeSchedule(name="s"))
    upcoming = bench.do(c.GetScheduleRuns(name="s", next=1)).upcoming[0]
    assert upcoming.slot <= bench.now < upcoming.run_at
    [skipped] = bench.do(c.GetScheduleRuns(name="s")).past
    assert (skipped.slot, skipped.until, skipped.why) == (1_020_000, upcoming.slot - 1, planner.PAUSED)
    bench.sleep(upcoming.run_at - bench.now)
    assert f"s@{upcoming.slot:013}" in jobs(bench)


def test_the_end_of_a_pause_looks_at_some_slots_that_wait_and_leaves_out_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(planner, "_WAITING_MAX", 1)
    put(bench, every=MINUTE, jitter=30 * MINUTE, overlap="allow")
    bench.do(c.PauseSchedule(name="s"))
    bench.sleep(DAY)
    bench.do(c.ResumeSchedule(name="s"))
    assert bench.engine.planner.progress["s"].settled == bench.now


@pytest.mark.parametrize(("misfire", "ran"), [("once", [2]), ("all", [1, 2]), ("skip", [2])])
def test_the_last_slot_that_was_missed_makes_room_for_one_that_waits_for_its_jitter(
    bench: Bench, misfire: str, ran: list[int]
):
    put(bench, every=DAY, jitter=DAY // 2, misfire=misfire, overlap="allow")
    bench.commit()
    _, second = bench.do(c.GetScheduleRuns(name="s", next=2)).upcoming
    assert second.run_at > second.slot
    bench.now = second.run_at - 1
    bench.restart()
    bench.sleep(0)
    assert jobs(bench) == [f"s@{n * DAY:013}" for n in ran[:-1]]
    bench.sleep(1)
    assert jobs(bench) == sorted(f"s@{n * DAY:013}" for n in ran)


def test_a_job_beside_the_slots_counts_as_one_that_has_not_ended(bench: Bench):
    put(bench, every=1000, limit=5)
    job_id = bench.do(c.RunSchedule(name="s")).id
    assert job_id == "s@0000001000000+id-1"
    bench.sleep(1000)
    assert jobs(bench) == [job_id]
    assert view(bench).runs == 0
    [skipped, ran] = bench.do(c.GetScheduleRuns(name="s")).past
    assert (skipped.outcome, ran.job, ran.why) == ("skipped", job_id, "told to run")


@pytest.mark.parametrize("misfire", ["once", "skip", "all"])
@pytest.mark.parametrize("jitter", [0, 5000])
def test_each_slot_in_time_runs_once_and_in_its_turn(bench: Bench, misfire: str, jitter: int):
    """Some seconds late, and with a jitter that is longer than the distance of the slots."""
    put(bench, every=1000, jitter=jitter, misfire=misfire, overlap="allow")
    told = [each.run_at for each in bench.do(c.GetScheduleRuns(name="s", next=25)).upcoming]
    assert told == sorted(told)
    slots = [each.slot for each in bench.do(c.GetScheduleRuns(name="s", next=25)).upcoming]
    bench.sleep(40_000)
    for _ in range(10):
        bench.engine.advance(bench.now)
    made = sorted(int(job.id.partition("@")[2]) for job in bench.engine.jobs.values())
    assert made[:25] == slots
    assert made == list(range(made[0], made[-1] + 1, 1000))
    assert made[-1] >= bench.now - jitter - 1000
    assert [each.outcome for each in bench.do(c.GetScheduleRuns(name="s")).past if each.outcome == "skipped"] == []


def test_a_window_of_nothing_leaves_out_no_slot_in_time(bench: Bench):
    put(bench, every=60_000, misfire="all", window=0)
    slot = view(bench).next_run
    assert slot is not None
    bench.sleep(slot - bench.now + 5000)
    assert [job.id for job in bench.engine.jobs.values()] == [f"s@{slot:013}"]
