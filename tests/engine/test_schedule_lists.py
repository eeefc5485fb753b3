"""Schedules: their lists, past slots, previews and figures."""

from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from bunqueue_trio.engine import planner
from bunqueue_trio.engine.commands import schedules
from bunqueue_trio.engine.job import State, Trace
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import scheduled as s
from tests.engine.make import T0, Bench
from tests.engine.schedule_steps import MINUTE, NOON, jobs, past, put, refusal, view
from tests.engine.schedule_steps import day as day

# --- asking ---------------------------------------------------------------------------------------------


def test_schedules_are_listed_by_name_in_pages(bench: Bench):
    for name in "cab":
        put(bench, name, every=MINUTE)
    page = bench.do(c.ListSchedules(limit=2))
    assert ([each.name for each in page.schedules], page.next) == (["a", "b"], "b")
    page = bench.do(c.ListSchedules(limit=2, after=page.next))
    assert ([each.name for each in page.schedules], page.next) == (["c"], None)


def test_past_slots_tell_what_became_of_them_in_pages(day: Bench):
    put(day, every=1000, options=c.RunOptions(max_attempts=1))
    told = {}
    for n in range(1, 13):
        day.sleep(1000)
        job_id = f"s@{NOON + n * 1000:013}"
        day.pull()
        day.now += 7
        (day.fail if n % 3 == 0 else day.ack)(job_id)
        told[NOON + n * 1000] = "failed" if n % 3 == 0 else "completed"
        day.now -= 7
        day.engine.now = day.now
    expected = sorted(told.items(), reverse=True)
    assert past(day) == expected[:10], "of those that are not committed yet the last ones are known"
    day.commit()
    day.push(job_id=f"s@{NOON:013}x")
    day.pull()
    day.ack(f"s@{NOON:013}x")
    day.commit()
    assert past(day) == expected
    found, before = [], None
    while True:
        reply = day.do(c.GetScheduleRuns(name="s", limit=5, before=before))
        found += [(each.slot, each.outcome) for each in reply.past]
        before = reply.next
        if before is None:
            break
    assert found == expected
    [last] = day.do(c.GetScheduleRuns(name="s", limit=1)).past
    assert (last.started_at, last.ended_at, last.took, last.error) == (NOON + 12_000, NOON + 12_007, 7, "boom")
    for wrong in ("x", "", "-5", "5+", "5+" + "a" * 41):
        assert refusal(day, c.GetScheduleRuns(name="s", before=wrong)).code == c.NOT_A_SLOT.code


def test_a_job_that_waits_again_has_not_begun(day: Bench):
    """As the job itself says: between two attempts nobody works on it."""
    put(day, every=1000, options=c.RunOptions(max_attempts=2, backoff=10_000))
    day.sleep(1000)
    day.pull()
    day.fail(f"s@{NOON + 1000:013}")
    [one] = day.do(c.GetScheduleRuns(name="s")).past
    assert (one.outcome, one.started_at, one.error) == ("delayed", None, "boom")
    assert day.do(c.GetJob(id=one.job)).job.started_at is None


def test_slots_of_more_digits_are_newer(bench: Bench):
    """As those from September 2001 on, beside those of a clock that began in 1970."""
    bench.now = 999_999_997_500
    put(bench, every=1000, overlap="skip")
    for _ in range(3):
        bench.sleep(1000)
    assert jobs(bench) == ["s@0999999998000"]
    put(bench, every=1000, overlap="allow")
    for _ in range(2):
        bench.sleep(1000)
    bench.pull_id()
    bench.ack("s@0999999998000")
    told = bench.do(c.RunSchedule(name="s")).id
    put(bench, every=1000, overlap="skip")
    bench.sleep(1000)
    [every, before] = [past(bench), None]
    assert [slot for slot, _ in every] == [
        1_000_000_003_000, bench.now - 1000, 1_000_000_002_000, 1_000_000_001_000, 999_999_999_000, 999_999_998_000,
    ]  # fmt: skip
    assert bench.do(c.GetScheduleRuns(name="s", limit=1)).past[0].why == "job s@1000000001000 had not ended"
    one_by_one = []
    for _ in every:
        page = bench.do(c.GetScheduleRuns(name="s", limit=1, before=before))
        one_by_one += [(each.slot, each.outcome) for each in page.past]
        before = page.next
    assert (one_by_one, before) == (every, None)
    assert past(bench, before="999999999000") == every[-1:], "also where the cursor has no zeros"
    assert told.startswith("s@1000000002500+")


def test_a_preview_stores_nothing_and_tells_the_rules(day: Bench):
    reply = day.do(c.PreviewSchedule(cron="0 9 * * MON", timezone="Asia/Tokyo", next=2))
    assert [each.local for each in reply.upcoming] == ["2026-01-19T09:00:00+09:00", "2026-01-26T09:00:00+09:00"]
    assert reply.rules.startswith("20")
    assert not day.engine.has_changes
    assert (
        day.do(c.PreviewSchedule(every=1, anchor=NOON + 500, next=1)).upcoming[0].local.endswith("12:00:00.001+00:00")
    )
    assert len(day.do(c.PreviewSchedule(cron="0 0 29 2 *", next=25)).upcoming) == 5, "20 years are shown"
    assert refusal(day, c.PreviewSchedule(at=NOON)).code == c.NEVER_RUNS.code


def test_the_heap_of_schedules_is_swept(bench: Bench):
    put(bench, "first", every=1000)
    for n in range(1000):
        put(bench, every=MINUTE + n)
    assert len(bench.engine.planner._heap) < 100


def test_what_is_skipped_is_kept_for_some_entries(bench: Bench):
    put(bench, every=1000)
    for _ in range(planner.SKIPS_KEPT + 5):
        bench.do(c.PauseSchedule(name="s"))
        bench.sleep(1000)
        bench.do(c.ResumeSchedule(name="s"))
        bench.sleep(1000)
    assert len(bench.engine.planner.skips("s")) == planner.SKIPS_KEPT


def test_a_trace_of_a_job_that_never_began_took_no_time():
    trace = Trace("s@0000000000005", State.FAILED, None, 7, "x" * 5000)
    shown = schedules._ended("s", trace)
    assert (shown.took, len(shown.error or "")) == (None, 1000)


def test_a_page_of_large_payloads_ends_early_and_none_is_larger_than_that(bench: Bench):
    large = Raw(b'"' + b"x" * (256 * 1024 - 2) + b'"')
    for n in range(6):
        put(bench, f"s{n}", every=MINUTE, data=large)
    page = bench.do(c.ListSchedules())
    assert ([each.name for each in page.schedules], page.next) == (["s0", "s1", "s2", "s3"], "s3")
    page = bench.do(c.ListSchedules(after=page.next))
    assert ([each.name for each in page.schedules], page.next) == (["s4", "s5"], None)
    command = c.PutSchedule(name="s", queue="q", every=5, data=Raw(bytes(large) + b" "))
    assert str(refusal(bench, command)) == "data must be at most 262144 bytes in a schedule"


# --- jobs that repeat -----------------------------------------------------------------------------


def listed(bench: Bench, **fields: Any) -> tuple[list[str], str | None]:
    page = bench.do(c.ListSchedules(**fields))
    return [*(each.name for each in page.schedules), *(each.job for each in page.repeats)], page.next


def test_jobs_that_repeat_are_listed_behind_the_schedules_page_by_page(bench: Bench):
    for name in ("a", "b"):
        put(bench, name, every=MINUTE)
    for job_id in ("z", "x", "y"):
        bench.push(job_id=job_id, repeat=c.Repeat(every=MINUTE), delay=5)
    bench.push(job_id="w")
    assert listed(bench) == (["a", "b", "x", "y", "z"], None)
    assert listed(bench, limit=1) == (["a"], "a")
    assert listed(bench, limit=2) == (["a", "b"], "~")
    assert listed(bench, limit=3) == (["a", "b", "x"], "~x")
    assert listed(bench, limit=2, after="~") == (["x", "y"], "~y")
    assert listed(bench, limit=2, after="~y") == (["z"], None)
    assert listed(bench, limit=5) == (["a", "b", "x", "y", "z"], None)
    for job_id in ("x", "y", "z"):
        bench.do(c.Cancel(id=job_id))
    assert listed(bench, limit=2) == (["a", "b"], None)


def test_a_job_that_repeats_is_listed_by_its_present_run_also_after_a_restart(bench: Bench):
    first = bench.push(repeat=c.Repeat(every=MINUTE, limit=2, name="poll"))
    (told,) = bench.do(c.ListSchedules()).repeats
    assert told == s.RepeatView(
        name="poll", job=first, queue="q", state="waiting", every=MINUTE, limit=2, run=1, due=T0,
    )  # fmt: skip
    bench.pull()
    bench.ack(first)
    bench.commit()
    bench.restart()
    (told,) = bench.do(c.ListSchedules()).repeats
    assert (told.name, told.state, told.run, told.due) == ("poll", "delayed", 2, T0 + MINUTE)
    assert b'"name":"poll"' in bytes(bench.do(c.GetState(id=told.job)).repeat)
    bench.do(c.Cancel(id=told.job))
    assert bench.do(c.ListSchedules()).repeats == []


# --- figures --------------------------------------------------------------------------------------


def test_what_is_late_and_what_is_left_out_is_counted(bench: Bench):
    put(bench, every=MINUTE)
    bench.sleep(2 * MINUTE)
    bench.sleep(MINUTE)
    assert (bench.engine.planner.late, bench.engine.planner.left_out) == (1, 2)


def test_the_last_that_were_late_are_known_by_name(bench: Bench):
    for name in "abcdefg":
        put(bench, name, every=MINUTE, misfire="skip")
    bench.sleep(10 * MINUTE)
    assert bench.engine.planner.late == 7
    assert bench.engine.planner.lately == dict.fromkeys("cdefg", 1_020_000)
    for name in "abdefg":
        bench.do(c.PauseSchedule(name=name))
    bench.sleep(10 * MINUTE)
    assert list(bench.engine.planner.lately) == ["d", "e", "f", "g", "c"]
    bench.do(c.DeleteSchedule(name="f"))
    assert list(bench.engine.planner.lately) == ["d", "e", "g", "c"]


def test_a_dry_run_tells_what_would_come_and_stores_nothing(bench: Bench):
    put = c.PutSchedule(name="s", queue="q", data=Raw(b"1"), every=60_000, source="me")
    would = bench.do(replace(put, dry_run=True))
    assert (would.outcome, would.schedule.source, would.schedule.runs) == ("created", "me", 0)
    assert not bench.engine.has_changes
    with pytest.raises(Refused, match="Schedule not found"):
        bench.do(c.GetSchedule(name="s"))
    assert bench.do(put).schedule == would.schedule
    bench.commit()
    bench.sleep(60_000)
    bench.commit()
    same = bench.do(replace(put, dry_run=True))
    assert (same.outcome, same.schedule.runs) == ("unchanged", 1)
    other = bench.do(replace(put, every=90_000, dry_run=True))
    assert (other.outcome, other.schedule.every) == ("changed", 90_000)
    with pytest.raises(Refused, match="never run"):
        bench.do(replace(put, name="t", every=None, at=1, dry_run=True))
    assert bench.do(c.GetSchedule(name="s")).schedule.every == 60_000
    assert not bench.engine.has_changes


@pytest.mark.parametrize("how", ["over", "paused", "waiting", "running"])
@pytest.mark.parametrize("fields", [{"data": Raw(b"2")}, {"limit": 9}, {"overlap": "allow"}, {"every": 90_000}, {}])
def test_a_dry_run_shows_the_schedule_that_the_put_makes(bench: Bench, how: str, fields: dict):
    said = {"every": MINUTE, "overlap": "queue", "limit": 1 if how == "over" else 5}
    put(bench, **said)
    bench.sleep(MINUTE)
    if how == "waiting":
        bench.sleep(MINUTE)
    if how == "paused":
        bench.do(c.PauseSchedule(name="s"))
    bench.sleep(1000)
    bench.commit()
    before = view(bench)
    would = put(bench, **{**said, **fields}, dry_run=True)
    assert not bench.engine.has_changes
    assert view(bench) == before
    assert put(bench, **{**said, **fields}) == would
