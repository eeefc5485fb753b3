"""Schedules: what a job that has not ended means for the next slot: skipped, waited for, or cancelled."""

from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from bunqueue_trio.engine import planner
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench
from tests.engine.schedule_steps import DAY, MINUTE, NOON, jobs, past, put, view
from tests.engine.schedule_steps import day as day

# --- jobs that do not end ---------------------------------------------------------------------------


def test_a_slot_is_skipped_while_the_job_before_has_not_ended(bench: Bench):
    put(bench, every=1000)
    for _ in range(4):
        bench.sleep(1000)
    assert jobs(bench) == ["s@0000001001000"]
    [skipped, ran] = bench.do(c.GetScheduleRuns(name="s")).past
    assert (skipped.slot, skipped.until, skipped.why) == (1_002_000, 1_004_000, "job s@0000001001000 had not ended")
    assert (ran.slot, ran.outcome, ran.job) == (1_001_000, "waiting", "s@0000001001000")
    bench.pull()
    bench.ack("s@0000001001000")
    bench.sleep(1000)
    assert "s@0000001005000" in bench.engine.jobs


def test_slots_of_one_step_that_are_skipped_in_a_row_are_one_entry(bench: Bench):
    put(bench, every=1000, misfire="all", misfire_max=10)
    bench.sleep(4000)
    assert jobs(bench) == ["s@0000001001000"]
    [skipped, ran] = bench.do(c.GetScheduleRuns(name="s")).past
    assert (skipped.slot, skipped.until) == (1_002_000, 1_004_000)
    assert ran.slot == 1_001_000


def test_one_slot_waits_for_the_end_of_the_job_before(bench: Bench):
    put(bench, every=1000, overlap="queue", limit=3)
    for _ in range(3):
        bench.sleep(1000)
    assert (jobs(bench), view(bench).waiting_slot, view(bench).state) == (["s@0000001001000"], 1_002_000, "active")
    bench.commit()
    bench.restart()
    bench.pull()
    bench.ack("s@0000001001000")
    assert bench.engine.next_scheduled() == 0
    bench.sleep(0)
    assert bench.engine.standing("s@0000001002000")
    assert view(bench).waiting_slot is None


def test_a_slot_that_waits_runs_after_a_crash_that_ended_the_job_before(bench: Bench):
    put(bench, every=1000, overlap="queue")
    bench.sleep(1000)
    bench.sleep(1000)
    bench.do(c.Cancel(id="s@0000001001000"))
    bench.commit()
    bench.restart()
    bench.sleep(0)
    assert jobs(bench) == ["s@0000001002000"]


def test_a_slot_that_waits_stays_until_its_schedule_is_resumed(bench: Bench):
    put(bench, every=1000, overlap="queue")
    bench.sleep(1000)
    bench.sleep(1000)
    bench.do(c.PauseSchedule(name="s"))
    bench.pull()
    bench.ack("s@0000001001000")
    bench.sleep(500)
    assert jobs(bench) == ["s@0000001001000"]
    bench.do(c.ResumeSchedule(name="s"))
    bench.sleep(0)
    assert bench.engine.standing("s@0000001002000")


def test_the_job_before_is_cancelled_if_that_is_wanted(bench: Bench):
    put(bench, every=1000, overlap="cancel")
    bench.sleep(1000)
    bench.pull()
    bench.sleep(1000)
    assert jobs(bench) == ["s@0000001002000"]
    assert past(bench) == [(1_002_000, "waiting"), (1_001_000, "cancelled")]
    bench.commit()
    bench.restart()
    [_, cancelled] = bench.do(c.GetScheduleRuns(name="s")).past
    assert cancelled.job == "s@0000001001000"
    assert cancelled.why == "overlap cancel: it had not ended when the slot of s@0000001002000 came"


@pytest.mark.parametrize("fields", [{"overlap": "cancel"}, {"overlap": "allow"}, {"every": 7000}])
def test_a_slot_that_waits_is_left_out_when_another_time_or_overlap_is_put(bench: Bench, fields: dict):
    put(bench, every=1000, overlap="queue")
    bench.sleep(1000)
    bench.sleep(1000)
    shown = put(bench, **{"every": 1000, "overlap": "queue", **fields}).schedule
    assert shown.waiting_slot is None
    [left_out, ran] = bench.do(c.GetScheduleRuns(name="s")).past
    assert (left_out.slot, left_out.outcome, left_out.why) == (1_002_000, "skipped", planner.ANOTHER)
    assert ran.slot == 1_001_000
    bench.do(c.Cancel(id="s@0000001001000"))
    bench.sleep(0)
    assert jobs(bench) == []
    assert shown.next_run is not None
    bench.sleep(shown.next_run - bench.now)
    assert jobs(bench) == [f"s@{shown.next_run:013}"]


def test_a_slot_that_waits_goes_on_waiting_when_another_payload_is_put(bench: Bench):
    put(bench, every=1000, overlap="queue")
    bench.sleep(1000)
    bench.sleep(1000)
    assert put(bench, every=1000, overlap="queue", data=Raw(b"2")).schedule.waiting_slot == 1_002_000
    bench.do(c.Cancel(id="s@0000001001000"))
    bench.sleep(0)
    assert bytes(bench.engine.jobs["s@0000001002000"].data) == b"2"


@pytest.mark.parametrize("overlap", ["queue", "cancel"])
def test_a_slot_that_waits_is_left_out_when_a_lower_limit_has_no_room_for_it(bench: Bench, overlap: str):
    put(bench, every=MINUTE, overlap=overlap, limit=5)
    bench.sleep(20_000)
    for _ in range(150):
        bench.do(c.RunSchedule(name="s"))
    bench.sleep(MINUTE)
    assert bench.engine.planner.progress["s"].waiting == 1_080_000
    assert bench.engine.planner.put("s", replace(bench.engine.planner.plans["s"], limit=2), bench.now) == "changed"
    assert bench.engine.planner.progress["s"].waiting == 1_080_000
    bench.engine.planner.put("s", replace(bench.engine.planner.plans["s"], limit=1), bench.now)
    assert (view(bench).state, view(bench).runs, view(bench).waiting_slot) == ("ended", 1, None)
    assert [each.why for each in bench.engine.planner.skips("s")] == [planner.LOWERED]
    for job_id in jobs(bench):
        bench.do(c.Cancel(id=job_id))
    bench.sleep(MINUTE)
    assert jobs(bench) == []


def test_the_slot_that_waits_is_none_of_those_to_come(bench: Bench):
    put(bench, every=1000, overlap="queue", limit=4)
    bench.sleep(1000)
    bench.sleep(1000)
    upcoming = bench.do(c.GetScheduleRuns(name="s", next=25)).upcoming
    assert [each.slot for each in upcoming] == [1_003_000, 1_004_000]


def with_many_unfinished(bench: Bench, overlap: str, beside: int) -> str:
    """The job of a slot goes on while others of ``run`` come, and all but that one end."""
    put(bench, every=DAY, overlap=overlap)
    bench.sleep(DAY - bench.now)
    long = f"s@{DAY:013}"
    assert bench.pull_id() == long
    bench.now += 1
    for _ in range(beside):
        bench.do(c.RunSchedule(name="s"))
    while (job_id := bench.pull_id()) is not None:
        bench.ack(job_id)
    bench.commit()
    assert jobs(bench) == [long]
    return long


@pytest.mark.parametrize("beside", [1, 30])
@pytest.mark.parametrize("killed", [False, True])
def test_a_job_that_goes_on_while_later_ones_have_ended_stands_in_the_way(bench: Bench, beside: int, killed: bool):
    long = with_many_unfinished(bench, "skip", beside)
    if killed:
        bench.restart()
    bench.sleep(2 * DAY - bench.now)
    assert jobs(bench) == [long]
    newest = bench.do(c.GetScheduleRuns(name="s")).past[0]
    assert (newest.slot, newest.outcome, newest.why) == (2 * DAY, "skipped", f"job {long} had not ended")


@pytest.mark.parametrize("killed", [False, True])
def test_a_job_that_goes_on_while_later_ones_have_ended_is_cancelled(bench: Bench, killed: bool):
    long = with_many_unfinished(bench, "cancel", 30)
    if killed:
        bench.restart()
    bench.sleep(2 * DAY - bench.now)
    assert jobs(bench) == [f"s@{2 * DAY:013}"]
    assert long not in bench.engine.jobs


@pytest.mark.parametrize("killed", [False, True])
def test_a_slot_waits_for_all_jobs_that_have_not_ended(bench: Bench, killed: bool):
    long = with_many_unfinished(bench, "queue", 30)
    late = [bench.do(c.RunSchedule(name="s")).id for _ in range(12)]
    bench.sleep(2 * DAY - bench.now)
    assert view(bench).waiting_slot == 2 * DAY
    bench.commit()
    if killed:
        bench.restart()
    for job_id in (*late[:6], long, *late[6:]):
        assert f"s@{2 * DAY:013}" not in bench.engine.jobs
        bench.do(c.Cancel(id=job_id))
        bench.sleep(0)
    assert jobs(bench) == [f"s@{2 * DAY:013}"]


def test_a_file_of_an_earlier_version_knows_of_all_jobs_that_have_not_ended(bench: Bench):
    """It named the job that a slot waits for."""
    put(bench, every=DAY, overlap="queue")
    bench.sleep(DAY - bench.now)
    bench.do(c.RunSchedule(name="s"))
    bench.sleep(DAY)
    bench.commit()
    early = b'"waiting":%d,"holder":"s@%d"' % (2 * DAY, DAY)
    known = bench.disk.facts["schedule-progress", "s"]
    bench.disk.facts["schedule-progress", "s"] = known.replace(b'"waiting":%d' % (2 * DAY), early)
    bench.restart()
    bench.do(c.Cancel(id=f"s@{DAY:013}"))
    bench.sleep(0)
    assert f"s@{2 * DAY:013}" not in bench.engine.jobs
    bench.do(c.Cancel(id=jobs(bench)[0]))
    bench.sleep(0)
    assert jobs(bench) == [f"s@{2 * DAY:013}"]


def test_many_jobs_are_cancelled_in_steps_before_the_slot_runs_once(bench: Bench):
    put(bench, every=DAY, overlap="cancel")
    for _ in range(450):
        bench.do(c.RunSchedule(name="s"))
    bench.now = DAY
    left = [450]
    while f"s@{DAY:013}" not in bench.engine.jobs:
        bench.engine.advance(DAY)
        left.append(sum(1 for _ in bench.engine.planner.unfinished))
    assert left == [450, 350, 250, 150, 50, 1]
    assert bench.engine.totals.cancelled == 450
    assert view(bench).runs == 1
    assert view(bench).next_run == 2 * DAY


def with_jobs_in_the_way(bench: Bench, number: int, **fields: Any) -> None:
    put(bench, **{"every": 10 * MINUTE, "overlap": "cancel", **fields})
    for _ in range(number):
        bench.do(c.RunSchedule(name="s"))
    bench.commit()


def test_a_slot_that_was_missed_is_reported_also_where_it_cancels_many_jobs(bench: Bench):
    with_jobs_in_the_way(bench, 350)
    bench.now = DAY
    bench.restart()
    bench.sleep(0)
    progress = bench.engine.planner.progress["s"]
    assert (progress.waiting, progress.runs) == (DAY, 0)
    for _ in range(3):
        bench.sleep(0)
    assert jobs(bench) == [f"s@{DAY:013}"]
    figures = bench.engine.planner
    assert figures.take_notices() == [planner.Notice("s", planner.LATE, 1_200_000, DAY - 10 * MINUTE, 0)], (
        "the slot of now is in time"
    )
    assert (figures.late, figures.lately, figures.left_out) == (1, {"s": 1_200_000}, 1)


@pytest.mark.parametrize("misfire", ["skip", "once"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_slot_that_has_begun_to_cancel_runs_however_long_that_takes(bench: Bench, misfire: str, killed: bool):
    """Nobody wants jobs to be cancelled for nothing."""
    with_jobs_in_the_way(bench, 250, misfire=misfire)
    bench.sleep(1_200_000 - bench.now)
    assert (len(jobs(bench)), bench.engine.planner.progress["s"].waiting) == (150, 1_200_000)
    bench.commit()
    bench.now += 5 * MINUTE
    if killed:
        bench.restart()
    bench.sleep(0)
    bench.sleep(0)
    assert jobs(bench) == ["s@0000001200000"]
    assert past(bench)[0] == (1_200_000, "waiting")
    assert (view(bench).runs, view(bench).waiting_slot, view(bench).next_run) == (1, None, 1_800_000)
    assert bench.engine.planner.take_notices() == []


def test_slots_that_come_while_one_cancels_run_in_their_turn(bench: Bench):
    with_jobs_in_the_way(bench, 150, misfire="all", misfire_max=2)
    bench.now = 3_000_000
    bench.restart()
    bench.sleep(0)
    assert bench.engine.planner.progress["s"].waiting == 1_800_000
    bench.sleep(0)
    assert jobs(bench) == ["s@0000003000000"]
    assert past(bench, limit=3) == [(3_000_000, "waiting"), (2_400_000, "cancelled"), (1_800_000, "cancelled")]
    told = [(each.first, each.last, each.jobs) for each in bench.engine.planner.take_notices()]
    assert told == [(1_200_000, 1_800_000, 1), (2_400_000, 2_400_000, 1)], "the slot of now is in time"


def test_a_pause_keeps_a_slot_from_cancelling_more(bench: Bench):
    with_jobs_in_the_way(bench, 250)
    bench.sleep(1_200_000 - bench.now)
    bench.do(c.PauseSchedule(name="s"))
    left = len(jobs(bench))
    bench.sleep(MINUTE)
    assert len(jobs(bench)) == left > 0
    bench.do(c.ResumeSchedule(name="s"))
    for _ in range(3):
        bench.sleep(0)
    assert jobs(bench) == ["s@0000001200000"]


@pytest.mark.parametrize(("overlap", "ran"), [("skip", 1), ("queue", 2)])
def test_what_stands_in_the_way_of_slots_is_reported_up_to_the_limit(bench: Bench, overlap: str, ran: int):
    """Those that did not run do not count towards it."""
    put(bench, every=1000, limit=ran + 1, overlap=overlap)
    bench.sleep(10_000)
    skipped, *others = bench.do(c.GetScheduleRuns(name="s")).past
    assert (skipped.slot, skipped.until) == (1_001_000 + ran * 1000, 1_010_000)
    assert skipped.why == "job s@0000001001000 had not ended"
    assert [each.slot for each in others] == [1_001_000]
    assert view(bench).state == "active"


def test_the_log_counts_the_jobs_that_slots_bring(bench: Bench):
    for name, overlap in (("a", "skip"), ("b", "queue"), ("c", "allow")):
        put(bench, name, every=DAY, misfire="all", misfire_max=4, overlap=overlap)
    bench.commit()
    bench.now = 9 * DAY + 2 * MINUTE
    bench.restart()
    bench.sleep(0)
    told = {each.name: (each.first, each.last, each.jobs) for each in bench.engine.planner.take_notices()}
    assert told == {"a": (DAY, 9 * DAY, 1), "b": (DAY, 9 * DAY, 2), "c": (DAY, 9 * DAY, 4)}


def test_a_job_that_was_there_is_one_of_the_limit(bench: Bench):
    put(bench, every=1000, overlap="queue", limit=2)
    bench.sleep(1000)
    bench.sleep(1000)
    bench.push(job_id="s@0000001002000")
    for job_id in ("s@0000001001000", "s@0000001002000"):
        bench.do(c.Cancel(id=job_id, reason="done"))
    bench.commit()
    bench.sleep(0)
    for _ in range(2):
        assert (view(bench).state, view(bench).runs, view(bench).next_run) == ("ended", 2, None)
        bench.commit()
        bench.sleep(5000)
        bench.restart()
    assert jobs(bench) == []


def test_a_job_that_waited_for_a_cancelled_one_ends_with_it(bench: Bench):
    put(bench, every=DAY, overlap="cancel")
    first = bench.do(c.RunSchedule(name="s")).id
    bench.push(job_id=f"s@{T0 + 1:013}", depends_on=[first])
    bench.sleep(DAY - bench.now)
    assert [job.id for job in bench.engine.planner.unfinished] == [f"s@{DAY:013}"]
    assert bench.do(c.GetState(id=f"s@{T0 + 1:013}")).state == "failed"


def test_an_unfinished_job_is_reported_however_many_came_behind_it(day: Bench):
    put(day, every=1000, overlap="allow")
    for _ in range(15):
        day.sleep(1000)
    day.commit()
    expected = [(NOON + n * 1000, "waiting") for n in range(15, 0, -1)]
    assert past(day) == expected
    page = day.do(c.GetScheduleRuns(name="s", limit=12))
    assert [each.slot for each in page.past] == [slot for slot, _ in expected[:12]]
    assert past(day, limit=12, before=page.next) == expected[12:]


def test_jobs_of_a_deleted_schedule_count_when_it_is_put_again(bench: Bench):
    put(bench, every=1000)
    bench.sleep(1000)
    bench.do(c.DeleteSchedule(name="s"))
    put(bench, every=1000)
    bench.sleep(1000)
    assert jobs(bench) == ["s@0000001001000"]
    bench.push(job_id="s@x")
    bench.push(job_id="s2@5")
    bench.do(c.Cancel(id="s@0000001001000"))
    bench.sleep(1000)
    assert "s@0000001003000" in bench.engine.jobs, "ids of other forms and names are of no schedule of this one"
