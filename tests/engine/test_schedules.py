"""Schedules: what a restart, an outage, a clock and a job that does not end mean for their slots."""

import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from bunqueue_trio import errors
from bunqueue_trio.engine import planner, putting
from bunqueue_trio.engine.commands import schedules
from bunqueue_trio.engine.job import State, Trace
from bunqueue_trio.errors import Fault, Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import scheduled as s
from tests.engine.make import T0, Bench

MINUTE, DAY = 60_000, 86_400_000
NOON = int(datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp() * 1000)


def put(bench: Bench, name: str = "s", **fields: Any) -> s.ScheduleReply:
    reply: s.ScheduleReply = bench.do(c.PutSchedule(name=name, **{"queue": "q", "data": Raw(b"1"), **fields}))
    return reply


def view(bench: Bench, name: str = "s") -> s.ScheduleView:
    shown: s.ScheduleView = bench.do(c.GetSchedule(name=name)).schedule
    return shown


def past(bench: Bench, **fields: Any) -> list[tuple[int, str]]:
    return [(each.slot, each.outcome) for each in bench.do(c.GetScheduleRuns(name="s", **fields)).past]


def refusal(bench: Bench, command: c.Command) -> Refused:
    with pytest.raises(Refused) as caught:
        bench.do(command)
    return caught.value


def jobs(bench: Bench) -> list[str]:
    return sorted(bench.engine.jobs)


@pytest.fixture
def day(bench: Bench) -> Bench:
    """A bench at noon of a day in January."""
    bench.now = NOON
    return bench


# --- putting --------------------------------------------------------------------------------------


def test_a_new_schedule_runs_at_its_next_slot_and_not_before(bench: Bench):
    shown = put(bench, every=MINUTE, options=c.RunOptions(priority=3, tags=["t"])).schedule
    assert (shown.state, shown.next_run, shown.runs, shown.last_job) == ("active", 1_020_000, 0, None)
    bench.sleep(19_999)
    assert jobs(bench) == []
    bench.sleep(1)
    job = bench.do(c.GetJob(id="s@0000001020000")).job
    assert (job.queue, bytes(job.data), job.priority, job.tags, job.run_at) == ("q", b"1", 3, ["t"], 1_020_000)
    assert view(bench).next_run == 1_080_000


def test_what_is_not_said_of_a_change_stays_and_null_takes_it_back(bench: Bench):
    put(
        bench,
        cron="0 3 * * *",
        limit=5,
        jitter=500,
        misfire="all",
        options=c.RunOptions(max_attempts=7),
        data=Raw(b"[1]"),
    )
    before = view(bench)
    assert bench.do(c.ChangeSchedule(name="s")).outcome == "unchanged"
    assert bench.do(c.ChangeSchedule(name="s", data=Raw(b"2"), dry_run=True)).outcome == "changed"
    assert view(bench) == before
    assert bench.do(c.ChangeSchedule(name="s", data=Raw(b"2"))).outcome == "changed"
    assert msgspec.structs.replace(view(bench), data=before.data) == before
    now = bench.do(c.ChangeSchedule(name="s", every=MINUTE, limit=None, misfire=None, options=None)).schedule
    assert (now.cron, now.every, now.limit, now.misfire, now.jitter) == (None, MINUTE, None, "once", 500)
    assert (bytes(now.options), bytes(now.data)) == (b"{}", b"2")
    assert bytes(bench.do(c.ChangeSchedule(name="s", data=Raw(b"null"))).schedule.data) == b"null"
    assert refusal(bench, c.ChangeSchedule(name="t", limit=5)).code == "schedule-not-found"


def test_what_is_put_once_more_changes_nothing(bench: Bench):
    put(bench, every=MINUTE)
    bench.commit()
    bench.sleep(1000)
    assert put(bench, every=MINUTE).outcome == "unchanged"
    assert not bench.engine.has_changes
    assert view(bench).updated_at == T0


@pytest.mark.parametrize(
    "again",
    [b' { "a" : [ 1 , "x  y" ] , "b":{ } }\n', b'{"a":[1,"x  y"],"b":{}}', b'{"a" :\t[1, "x  y"],\r\n"b": {}}'],
)
def test_other_whitespace_in_a_payload_changes_nothing(bench: Bench, again: bytes):
    first = b'{"a": [1, "x  y"], "b": {}}'
    put(bench, every=MINUTE, data=Raw(first))
    bench.commit()
    bench.sleep(1000)
    would = bench.do(c.PutSchedule(name="s", queue="q", every=MINUTE, data=Raw(again), dry_run=True))
    assert would.outcome == "unchanged"
    shown = put(bench, every=MINUTE, data=Raw(again))
    assert (shown.outcome, bytes(shown.schedule.data)) == ("unchanged", first)
    assert not bench.engine.has_changes
    shown = put(bench, every=2 * MINUTE, data=Raw(again))
    assert (shown.outcome, bytes(shown.schedule.data)) == ("changed", first), "its bytes stay as they were put"


@pytest.mark.parametrize(
    "again",
    [
        b'{"b": {}, "a": [1, "x  y"]}',
        b'{"a": [1, "x y"], "b": {}}',
        b'{"a": [1.0, "x  y"], "b": {}}',
        b'{"a": [true, "x  y"], "b": {}}',
        b'{"a": [1, "\\u0078  y"], "b": {}}',
        b'{"a": [1, "\\ud800"], "b": {}}',
    ],
)
def test_anything_else_in_a_payload_is_a_change(bench: Bench, again: bytes):
    put(bench, every=MINUTE, data=Raw(b'{"a": [1, "x  y"], "b": {}}'))
    shown = put(bench, every=MINUTE, data=Raw(again))
    assert (shown.outcome, bytes(shown.schedule.data)) == ("changed", again)
    assert put(bench, every=MINUTE, data=Raw(again)).outcome == "unchanged"


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("0 3 * * *", " 0  3 *\t* * "),
        ("0 3 * * *", "00 03 * * *"),
        ("0 3 * * *", "0 0 3 * * *"),
        ("0 3 * * *", "0 3 1-31 JAN-DEC *"),
        ("0 3 * * MON", "0 3 * * 1"),
        ("0 3 * * mon,WED", "0 3 * * 3,1"),
        ("0 3 * * 0", "0 3 * * 7"),
        ("0 3 * * 7L", "0 3 * * 0L"),
        ("0,30 3 * * 5#1", "0/30 03 * * FRI#1"),
        ("@daily", "0 0 * * *"),
    ],
)
def test_another_way_to_write_an_expression_changes_nothing(day: Bench, first: str, again: str):
    shown = put(day, cron=first, overlap="queue").schedule
    day.commit()
    day.sleep(1000)
    said = put(day, cron=again, overlap="queue")
    assert (said.outcome, said.schedule.cron, said.schedule.next_run) == ("unchanged", first, shown.next_run)
    assert not day.engine.has_changes


def test_a_slot_that_waits_waits_on_where_its_time_is_only_written_in_another_way(bench: Bench):
    put(bench, cron="*/10 * * * * *", overlap="queue")
    bench.sleep(10_000)
    bench.sleep(10_000)
    said = put(bench, cron="*/10  * * * JAN-DEC *", overlap="queue", data=Raw(b"2"))
    assert (said.outcome, said.schedule.cron, said.schedule.waiting_slot) == ("changed", "*/10 * * * * *", 1_020_000)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        # These are other times where the clocks change.
        ("0 0 * * *", "0 */24 * * *"),
        ("0 0 * * *", "*/60 0 * * *"),
        # One of two is enough, and both must match.
        ("0 3 * * MON", "0 3 1-31 * MON"),
        ("0 3 1 * *", "0 3 1 * 0-6"),
        ("0 3 * * 5L", "0 3 * * 5#4"),
        ("0 3 L * *", "0 3 LW * *"),
        ("0 3 * * *", "1 0 3 * * *"),
    ],
)
def test_an_expression_with_other_slots_is_a_change(day: Bench, first: str, again: str):
    put(day, cron=first)
    said = put(day, cron=again)
    assert (said.outcome, said.schedule.cron) == ("changed", again)


def test_half_a_surrogate_pair_in_a_payload_is_kept_as_it_is(bench: Bench):
    data = b'{"a": ["\\ud800", "\\ude00\\ud83d"]}'
    put(bench, every=MINUTE, data=Raw(data))
    assert put(bench, every=MINUTE, data=Raw(data.replace(b" ", b""))).outcome == "unchanged"
    bench.commit()
    bench.restart()
    assert bytes(view(bench).data) == data
    bench.sleep(MINUTE)
    assert bytes(bench.do(c.GetJob(id="s@0000001020000")).job.data) == data


def test_another_payload_moves_no_slot_and_another_time_runs_nothing_now(bench: Bench):
    put(bench, every=MINUTE)
    bench.now += MINUTE * 3  # nobody looked meanwhile
    assert put(bench, every=MINUTE, data=Raw(b"2")).outcome == "changed"
    assert jobs(bench) == ["s@0000001140000"], "what was due has taken effect first"
    assert put(bench, every=1000).schedule.next_run == bench.now + 1000
    bench.sleep(0)
    assert jobs(bench) == ["s@0000001140000"]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"every": 5, "name": "a/b"}, c.INVALID_SCHEDULE),
        ({"every": 5, "name": "x" * 201}, c.INVALID_SCHEDULE),
        ({"every": 5, "name": ""}, c.INVALID_SCHEDULE),
        ({"every": 5, "name": "preview"}, c.INVALID_SCHEDULE),
        ({"every": 5, "name": "."}, c.INVALID_SCHEDULE),
        ({"every": 5, "name": ".."}, c.INVALID_SCHEDULE),
        ({"every": 5, "queue": "no good"}, errors.INVALID_QUEUE),
        ({}, c.WHEN_IS_UNCLEAR),
        ({"every": 5, "at": T0 + 5}, c.WHEN_IS_UNCLEAR),
        ({"cron": "* * *"}, c.NO_CRON),
        ({"cron": "*/90 * * * *"}, c.NO_CRON),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, c.NO_ZONE),
        ({"cron": "* * * * *", "timezone": "../Europe/Berlin"}, c.NO_ZONE),
        ({"at": T0}, c.NEVER_RUNS),
        ({"every": 5, "end": T0}, c.NEVER_RUNS),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(bench: Bench, fields: dict, fault: Fault):
    refused = refusal(bench, c.PutSchedule(**{"name": "s", "queue": "q", **fields}))
    assert (refused.status, refused.code) == (fault.status, fault.code)
    assert not bench.engine.has_changes


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"at": T0}, "its time has passed"),
        ({"at": T0 + 5, "end": T0 + 4}, "its time is after its end"),
        ({"at": T0 + 5, "start": T0 + 1, "end": T0 + 4}, "its time is after its end"),
        ({"at": T0 + 5, "start": T0 + 6}, "its time is before its start"),
        ({"every": 5, "end": T0}, "its end has passed"),
        ({"every": 5, "start": T0 + 6, "end": T0 + 5}, "its end is before its start"),
        ({"every": MINUTE, "start": T0 + 1, "end": T0 + 2}, "no time of it is to come before its end"),
    ],
)
def test_one_that_would_never_run_says_why(bench: Bench, fields: dict, why: str):
    assert str(refusal(bench, c.PutSchedule(name="s", queue="q", **fields))) == f"This schedule would never run: {why}"
    assert str(refusal(bench, c.PreviewSchedule(**fields))) == f"This schedule would never run: {why}"


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Berlin", ": do you mean Europe/Berlin?"),
        ("europe/berlin", ": do you mean Europe/Berlin?"),
        ("America/New York", ": do you mean America/New_York?"),
        ("Europe/Berln", ": do you mean Europe/Berlin?"),
        ("Mars/Olympus", ", such as Europe/Berlin"),
        ("x" * 200, ", such as Europe/Berlin"),
        ("", ", such as Europe/Berlin"),
    ],
)
def test_an_unknown_zone_is_refused_with_those_that_are_near(bench: Bench, zone: str, hint: str):
    refused = refusal(bench, c.PutSchedule(name="s", queue="q", cron="@daily", timezone=zone))
    assert str(refused) == f"timezone must be a name of the IANA time zone database{hint}"


def test_there_are_so_many_schedules_at_most(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(putting, "SCHEDULES_MAX", 2)
    put(bench, "a", every=5)
    assert put(bench, "b", every=5, dry_run=True).outcome == "created"
    assert (
        refusal(bench, c.PutSchedule(name="b", queue="q", every=5, dry_run=True, ahead=1)).code == "too-many-schedules"
    )
    assert put(bench, "a", every=6, dry_run=True, ahead=1).outcome == "changed"
    put(bench, "b", every=5)
    assert refusal(bench, c.PutSchedule(name="c", queue="q", every=5)).code == c.TOO_MANY_SCHEDULES.code
    assert put(bench, "b", every=6).outcome == "changed"


@pytest.mark.parametrize(
    "kind", [c.GetSchedule, c.DeleteSchedule, c.PauseSchedule, c.ResumeSchedule, c.RunSchedule, c.GetScheduleRuns]
)
def test_there_is_nothing_to_do_with_a_schedule_that_is_not_there(bench: Bench, kind: Any):
    assert refusal(bench, kind(name="s")).code == c.SCHEDULE_NOT_FOUND.code


def test_options_become_those_of_each_job(bench: Bench):
    given = c.RunOptions(max_attempts=7, backoff=c.Backoff(type="fixed", delay=5), timeout=0, ttl=DAY, group_id="g")
    put(bench, every=MINUTE, options=given)
    bench.sleep(MINUTE)
    options = bench.engine.jobs["s@0000001020000"].options
    assert (options.max_attempts, options.timeout, options.ttl, options.group_id) == (7, None, DAY, "g")
    assert (options.backoff, options.shape and options.shape.fixed) == (5, True)


def test_a_deleted_schedule_is_forgotten_and_its_jobs_stay(bench: Bench):
    put(bench, every=MINUTE, overlap="queue")
    bench.sleep(MINUTE)
    bench.sleep(MINUTE)
    bench.do(c.DeleteSchedule(name="s"))
    bench.commit()
    bench.sleep(DAY)
    assert jobs(bench) == ["s@0000001020000"]
    bench.pull()
    bench.ack("s@0000001020000")
    assert bench.disk.facts == {}


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


def test_only_so_many_slots_run_and_none_outside_of_the_time(bench: Bench):
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
def test_after_a_month_off_the_slots_that_were_missed_run_as_told(day: Bench, fields: dict, ran: list[int]):
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


def test_a_clock_that_was_ahead_is_told_only_of_a_schedule_that_waits_for_it(bench: Bench):
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


def test_a_slot_that_was_missed_is_told_of_also_where_it_cancels_many_jobs(bench: Bench):
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
def test_what_stands_in_the_way_of_slots_is_told_of_up_to_the_limit(bench: Bench, overlap: str, ran: int):
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


def test_an_unfinished_job_is_told_of_however_many_came_behind_it(day: Bench):
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
def test_slots_of_a_pause_are_told_of_also_when_something_else_is_put_meanwhile(bench: Bench, fields: dict, until: int):
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


def test_what_has_run_once_can_be_put_again_and_does_not_run(bench: Bench):
    put(bench, at=T0 + 5)
    bench.sleep(10)
    assert put(bench, at=T0 + 5).outcome == "unchanged"
    again = put(bench, at=T0 + 5, data=Raw(b"2"))
    assert (again.outcome, again.schedule.state) == ("changed", "ended")
    bench.sleep(DAY)
    assert jobs(bench) == [f"s@{T0 + 5:013}"]


def test_the_words_of_the_original_are_of_the_same_schedules(bench: Bench):
    said = c.Cron(name="s", queue="q", repeat_every=60_000, max_limit=3, immediately=True, priority=2)
    cron = bench.do(said).cron
    assert (cron.next_run, cron.executions, cron.max_limit, cron.priority) == (T0 + 60_000, 0, 3, 2)
    assert jobs(bench) == [view(bench).last_job]
    bench.sleep(30_000)
    bench.commit()
    assert bench.do(said).cron.next_run == T0 + 60_000, "put once more it goes on as it was"
    assert not bench.engine.has_changes
    assert bench.do(c.Cron(name="s", queue="q", repeat_every=1000)).cron.next_run == bench.now + 1000
    rome = bench.do(
        c.Cron(name="r", queue="q", schedule="0 9 * * *", timezone="Europe/Rome", prevent_overlap=False)
    ).cron
    assert (rome.schedule, rome.timezone, view(bench, "r").overlap) == ("0 9 * * *", "Europe/Rome", "allow")
    page = bench.do(c.CronList(limit=1))
    assert ([each.name for each in page.crons], page.next) == (["r"], "r")
    assert bench.do(c.CronGet(name="r")).cron == rome
    bench.do(c.CronDelete(name="r"))
    for command in (c.CronGet(name="r"), c.CronDelete(name="r")):
        assert refusal(bench, command).code == c.CRON_NOT_FOUND.code
    assert refusal(bench, c.Cron(name="r", queue="q")).code == c.CRON_IS_UNCLEAR.code
    assert refusal(bench, c.Cron(name="r", queue="q", schedule="@daily", repeat_every=5)).code == c.CRON_IS_UNCLEAR.code


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


@pytest.mark.parametrize(
    "fields",
    [{"timezone": "UTC"}, {"options": {"backoff": 1000}}, {"misfire": "once", "overlap": "skip", "misfireMax": 10}],
)
def test_a_default_that_is_said_changes_nothing(bench: Bench, fields: dict):
    """What a client sends is never the very object that is the default."""
    said = {"cmd": "PutSchedule", "name": "s", "queue": "q", "every": MINUTE, "data": 1}
    plain, full = (msgspec.json.decode(msgspec.json.encode(each), type=c.PutSchedule) for each in (said, said | fields))
    outcomes = [bench.do(each).outcome for each in (plain, full, plain, replace(full, dry_run=True))]
    assert outcomes == ["created", "unchanged", "unchanged", "unchanged"]
    bench.commit()
    bench.restart()
    assert [bench.do(each).outcome for each in (full, plain)] == ["unchanged", "unchanged"]


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
