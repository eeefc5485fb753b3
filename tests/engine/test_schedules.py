"""Schedules: what a restart, an outage, a clock and a job that does not end mean for their slots."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from bunqueue_trio import errors
from bunqueue_trio.engine import engine, putting
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench
from tests.engine.schedule_steps import DAY, MINUTE, jobs, put, refusal, view
from tests.engine.schedule_steps import day as day

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


def test_schedules_of_a_store_that_is_a_network_away_wait_while_a_step_has_enough_to_do(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench.disk, "at_once", False, raising=False)
    put(bench, every=MINUTE)
    delayed = [bench.push(delay=1000) for _ in range(5)]
    monkeypatch.setattr(engine, "ADVANCE_MAX", 3)
    due = bench.now + 30_000
    brought = []
    for _ in range(3):
        bench.engine.fire_schedules(due, due)
        brought.append([job.id for job in bench.engine.jobs.values() if job.id not in delayed])
    assert brought == [[], ["s@0000001020000"], ["s@0000001020000"]]


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


def test_the_number_of_schedules_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch):
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


def test_what_has_run_once_can_be_put_again_and_does_not_run(bench: Bench):
    put(bench, at=T0 + 5)
    bench.sleep(10)
    assert put(bench, at=T0 + 5).outcome == "unchanged"
    again = put(bench, at=T0 + 5, data=Raw(b"2"))
    assert (again.outcome, again.schedule.state) == ("changed", "ended")
    bench.sleep(DAY)
    assert jobs(bench) == [f"s@{T0 + 5:013}"]


def test_the_words_of_the_original_are_of_the_same_schedules(bench: Bench):
    said = c.Cron(
        name="s", queue="q", job_name="report", repeat_every=60_000, max_limit=3, immediately=True, priority=2
    )
    cron = bench.do(said).cron
    assert (cron.next_run, cron.executions, cron.max_limit, cron.priority) == (T0 + 60_000, 0, 3, 2)
    [job_id] = jobs(bench)
    assert job_id == view(bench).last_job
    assert (cron.job_name, bench.do(c.GetJob(id=job_id)).job.name) == ("report", "report")
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
