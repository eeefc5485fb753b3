"""The rules: what they say of a picture, and that they say nothing of a good one."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from msgspec.structs import replace

from bunqueue_trio.cli import COMMANDS, main
from bunqueue_trio.config import MIB
from bunqueue_trio.engine.failing import Blocked, Died
from bunqueue_trio.engine.figures import bucket_of
from bunqueue_trio.pages.findings import FINDINGS_MAX, Finding, Picture, find, full_in_ms
from bunqueue_trio.pages.words import count, rate, size, span
from bunqueue_trio.protocol.server_replies import BackupsView, UpkeepView
from bunqueue_trio.runtime.audit import Finding as AuditFinding
from bunqueue_trio.runtime.damage import Damage
from bunqueue_trio.runtime.history import Minute, Past
from bunqueue_trio.runtime.new_errors import NewError
from bunqueue_trio.runtime.picture import PauseLook, WorkerLook
from bunqueue_trio.runtime.statistics import (
    ErrorBack,
    Held,
    QuietLook,
    ScheduleFigures,
    Statistics,
    TaskFigures,
)
from bunqueue_trio.storage.store import Space
from tests.ui.pictures_of_servers import GOOD, MINUTE, NOW, found, line, minute, queue, slow

GIB = 1024 * MIB


def test_nothing_is_said_of_a_good_server():
    busy = queue("busy", waiting=5000, active=3, oldest_ready_at=NOW - 9 * MINUTE, completed=10)
    idle = queue("idle", pulls_waiting=3)
    assert found(Picture(GOOD, [busy, idle], Past())) == []


def storage(**fields: Any) -> Statistics:
    return replace(GOOD, storage=GOOD.storage._replace(**fields))


def test_a_disk_that_refuses_is_critical_and_says_since_when():
    failing = storage(is_failing=True, failing_since=NOW - 12_345, pending=7, trouble="disk is full")
    (finding,) = find(Picture(failing, [], Past()))
    assert (finding.code, finding.severity, finding.since) == ("storage-failing", "critical", NOW - 12_345)
    assert finding.title == "The disk refuses changes"
    assert "disk is full" in finding.cause
    assert "7 changes wait" in finding.evidence


DAMAGED = storage(damage=Damage("table finished: malformed", NOW - 12_345, "/var/q 1.db"))


def test_a_damaged_file_is_critical_and_says_what_to_do():
    (finding,) = find(Picture(DAMAGED, [], Past()))
    assert (finding.code, finding.severity, finding.since) == ("storage-damaged", "critical", NOW - 12_345)
    assert "table finished: malformed" in finding.cause
    assert finding.commands == ("bunqueue-trio doctor '/var/q 1.db'",)
    assert "bunqueue-trio restore COPY '/var/q 1.db' --force" in finding.remedy
    both = replace(DAMAGED, storage=DAMAGED.storage._replace(is_failing=True))
    assert found(Picture(both, [], Past())) == ["storage-damaged", "storage-failing"], "the one does not hide the other"


def test_damage_that_a_commit_has_met_is_one_finding_that_does_not_say_that_all_else_goes_on():
    """To make room helps nobody, and nothing is tried again."""
    (finding,) = find(Picture(DAMAGED, [], Past()))
    assert "all else goes on" in finding.evidence
    stopped = DAMAGED.storage._replace(is_failing=True, is_stopped=True, pending=7, trouble="malformed")
    (finding,) = find(Picture(replace(DAMAGED, storage=stopped, is_ready=False), [], Past()))
    assert (finding.code, finding.alert) == ("storage-damaged", "BunqueueStorageDamaged")
    assert finding.title == "The file is damaged, and changes are refused"
    assert "all else goes on" not in finding.evidence
    assert "of all queues get 503 `storage-damaged` until the next start" in finding.evidence
    assert "What is new of 7 jobs is not written" in finding.evidence
    assert "bunqueue-trio export" in finding.remedy
    assert "bunqueue-trio restore COPY '/var/q 1.db' --force" in finding.remedy


def test_a_database_is_not_called_a_disk():
    down = storage(is_failing=True, failing_since=NOW - 9000, trouble="connection refused", kind="database")
    (finding,) = find(Picture(down, [], Past()))
    assert finding.title == "The database takes no changes"
    assert "down" in finding.cause
    assert "connection refused" in finding.cause
    slow = replace(down, storage=down.storage._replace(is_failing=False, pending=20_000))
    (finding,) = find(Picture(slow, [], Past()))
    assert "disk" not in (finding.title + finding.cause + finding.evidence).lower()


def test_a_server_that_may_not_lead_any_more_says_so_first():
    away = storage(is_failing=True, failing_since=NOW - 20_000, trouble="timeout", kind="database")
    first, second = find(Picture(replace(away, is_ready=False, is_sure=False), [], Past()))
    assert (first.code, first.since, second.code) == ("not-sure", NOW - 20_000, "storage-failing")
    assert "another server may have taken over" in first.cause
    # Before it has tried anything, it is not taken for one that stops.
    assert found(Picture(replace(GOOD, is_ready=False, is_sure=False), [], Past())) == ["not-sure"]


def test_a_server_that_stops_says_so():
    assert found(Picture(replace(GOOD, is_ready=False), [], Past())) == ["not-ready"]


@pytest.mark.parametrize(
    ("free", "past", "code"),
    [
        (200 * MIB, [], ["disk-fills"]), (10 * GIB, [], []),
        (10 * GIB, [minute(30, disk_free=12 * GIB)], ["disk-fills"]),
        (10 * GIB, [minute(30, disk_free=11 * GIB)], []),  # in five hours
        (10 * GIB, [minute(5, disk_free=30 * GIB)], []),  # not seen for long enough
        (10 * GIB, [minute(30, disk_free=5 * GIB)], []),  # it empties
    ],
)  # fmt: skip
def test_a_disk_that_fills_up_is_reported_before_it_is_full(free: int, past: list[Minute], code: list[str]):
    space = Space(GIB, 0, free, 100 * GIB)
    assert found(Picture(storage(space=space), [], Past(past))) == code


def test_one_full_disk_is_one_finding():
    full = storage(
        is_failing=True, failing_since=NOW - 9000, trouble="disk is full", pending=1, space=Space(GIB, 0, 0, GIB)
    )
    (finding,) = find(Picture(full, [], Past()))
    assert finding.code == "storage-failing"
    assert finding.evidence.startswith("1 change waits for it. 0 B of 1.0 GiB are free.")
    assert "outside of the queue" in finding.remedy, "to delete takes room, too"


def test_what_fills_the_disk_is_named_with_a_line_that_helps():
    nearly = storage(space=Space(GIB, 0, 100 * MIB, GIB))
    queues = [queue("bulk", waiting=9000, active=1), queue("mails", completed=400), queue("old", dead=30)]
    (finding,) = [each for each in find(Picture(nearly, queues, Past())) if each.code == "disk-fills"]
    assert "Most jobs: 9,000 waiting in bulk, 400 completed in mails, 30 dead letters in old." in finding.evidence
    assert finding.commands[1:] == ("bunqueue-trio jobs bulk waiting", "bunqueue-trio clean mails completed")
    (finding,) = [each for each in find(Picture(nearly, queues[1:], Past())) if each.code == "disk-fills"]
    assert finding.commands[1:] == ("bunqueue-trio clean mails completed",)
    last = storage(space=Space(GIB, 0, MIB, GIB))
    (finding,) = [each for each in find(Picture(last, queues[1:], Past())) if each.code == "disk-fills"]
    assert finding.commands == ("bunqueue-trio storage",), "to delete takes room, too"
    assert "outside of the queue" in finding.remedy
    (finding,) = [each for each in find(Picture(last, [queue("q", dead=1)], Past())) if each.code == "disk-fills"]
    assert "Most jobs: 1 dead letter in q." in finding.evidence


def test_a_disk_is_nearly_full_only_once_jobs_are_refused():
    """One word for one thing: with less than 256 MiB it has little room left, and takes all jobs."""
    little = storage(space=Space(GIB, 0, 200 * MIB, GIB))
    titles = [
        find(Picture(told, [], Past()))[0].title
        for told in (little, storage(space=Space(GIB, 0, 9 * MIB, GIB), full_since=NOW))
    ]
    assert titles == ["The disk has little room left: 200 MiB", "The disk is nearly full"]


def test_the_time_until_the_disk_is_full():
    assert full_in_ms(Past([minute(60, disk_free=20)]), NOW, 10) == 60 * MINUTE
    assert full_in_ms(Past(), NOW, 10) is None


def test_faults_that_the_server_found_in_itself():
    audit = GOOD.audit._replace(
        faults={"lost": 2, "other": 0}, findings=(AuditFinding("lost", "job 7 is gone", 1, 2, 2),)
    )
    (finding,) = find(Picture(replace(GOOD, audit=audit), [], Past([minute(2), minute(1, faults=2)])))
    assert (finding.code, finding.severity, finding.since) == ("audit-faults", "critical", NOW - MINUTE)
    assert "job 7 is gone" in finding.evidence


def test_a_task_that_fails_again_and_again():
    tasks = (TaskFigures("scheduler", "running", 4, "ValueError: x"), TaskFigures("rates", "running", 0, None))
    assert found(Picture(replace(GOOD, tasks=tasks), [], Past([minute(5, restarts=1)]))) == ["task-failing"]
    assert found(Picture(replace(GOOD, tasks=tasks), [], Past([minute(5, restarts=3)]))) == []
    tasks = (TaskFigures("scheduler", "restarting", 1, "ValueError: x"),)
    assert found(Picture(replace(GOOD, tasks=tasks), [], Past())) == ["task-failing"]


def test_a_slow_disk_and_a_late_loop_are_judged_by_the_last_minutes():
    assert found(Picture(slow("commit", 500), [], Past())) == ["commits-slow"]
    assert found(Picture(slow("commit", 250), [], Past())) == []
    assert found(Picture(slow("commit", 500, n=5), [], Past())) == []
    before = slow("commit", 500).histograms["commit"].counts
    assert found(Picture(slow("commit", 500), [], Past([minute(3, commits=before)]))) == []
    assert found(Picture(slow("loop_lag", 250), [], Past())) == ["loop-lags"]
    assert found(Picture(storage(pending=10_001), [], Past())) == ["commits-slow"]


def test_the_rest_of_the_server():
    assert found(Picture(storage(log_bytes=300 * MIB), [], Past())) == ["log-grows"]
    assert found(Picture(replace(GOOD, events_dropped=5), [], Past([minute(5, dropped=2)]))) == ["events-missed"]
    assert found(Picture(replace(GOOD, events_dropped=5), [], Past([minute(5, dropped=5)]))) == []
    assert found(Picture(replace(GOOD, clock_offset_ms=-5000), [], Past())) == ["clock-off"]
    (finding,) = find(Picture(GOOD, [], Past(), is_guarded=False))
    assert finding.code == "no-tokens"
    place = GOOD.place._replace(addresses=("https://0.0.0.0:7601", "http://[::]:7601", "unix:/run/q"))
    (finding,) = find(Picture(replace(GOOD, place=place), [], Past(), is_guarded=False))
    assert "`BIND=127.0.0.1:7601,unix:/run/q`" in finding.remedy, "clients on this machine go on as they are"


def test_what_has_just_begun_is_neither_held_up_nor_forgotten():
    hour = 60 * MINUTE
    for ago, codes in ((12 * hour - 1, []), (12 * hour, ["workers-quiet"])):
        assert found(Picture(replace(GOOD, workers_quiet=(QuietLook("w", NOW - ago),)), [], Past())) == codes
    for ago, code, codes in ((MINUTE - 1, "paused", []), (MINUTE, "paused", ["rerun-held"]), (hour, "disk", [])):
        held = Held("r", code, "q", "", NOW - ago, 10, 10, 0)
        assert found(Picture(replace(GOOD, reruns_held=(held,)), [], Past())) == codes


def test_the_worst_comes_first_and_there_is_an_end():
    queues = [queue(f"q{n:04}", waiting=n + 1, oldest_ready_at=NOW - 20 * MINUTE) for n in range(1000)]
    queues.append(queue("p", pause=PauseLook(None, NOW, None), waiting=3, oldest_ready_at=NOW))
    all_of_them = find(Picture(storage(is_failing=True), queues, Past(), is_guarded=False))
    assert all_of_them[0].code == "storage-failing"
    assert all_of_them[1].queue == "q0999"
    assert [each.severity for each in all_of_them] == sorted(
        (e.severity for e in all_of_them), key=["critical", "warning", "notice"].index
    )
    more = next(each for each in all_of_them if each.code == "nobody-asks-more")
    assert more.numbers == {"queues": 980}
    assert len(all_of_them) <= FINDINGS_MAX
    msgspec.json.encode(all_of_them)


def rules() -> Iterator[str]:
    yield from re.findall(r"- alert: (\w+)", (Path(__file__).parents[2] / "docs" / "alerts.yml").read_text())


def test_every_alert_has_its_finding():
    """But for the one that only somebody else can notice."""
    pages = Path(__file__).parents[2] / "src" / "bunqueue_trio" / "pages"
    sources = "".join(
        (pages / name).read_text()
        for name in (
            "findings.py",
            "queue_findings.py",
            "cluster_findings.py",
            "damage_findings.py",
            "schedule_findings.py",
        )
    )
    assert [alert for alert in rules() if f'"{alert}"' not in sources] == ["BunqueueDown"]
    assert set(re.findall(r'"(Bunqueue\w+)"', sources)) <= set(rules())


def test_words():
    assert [span(ms) for ms in (0, 400, 1000, 61_000, 119_000, 41 * MINUTE, 80 * MINUTE, 50 * 60 * MINUTE, -5)] == [
        "0 ms", "400 ms", "1 s", "1 min 1 s", "1 min 59 s", "41 min", "1 h 20 min", "2 d 2 h", "0 ms",
    ]  # fmt: skip
    assert [count(1, "job"), count(1667, "job"), count(2, "is", "are")] == ["1 job", "1,667 jobs", "2 are"]
    assert [size(n) for n in (5, 2048, 5 * MIB, 300 * GIB)] == ["5 B", "2.0 KiB", "5.0 MiB", "300 GiB"]
    assert [rate(n) for n in (0, 0.5, 310, 60_000)] == ["0 a minute", "30 an hour", "310 a minute", "1,000 a second"]


def incidents() -> list[Picture]:
    """Pictures that show each finding there is."""
    dies, usual = line({"dead": 0}, {"dead": 30, "failed": 25, "died": 25}), line({"runs": {bucket_of(1000): 200}})
    grows = line(*({"waiting": 100 * n, "pushed": 120} for n in range(6)))
    waits, slow_one = (
        queue("a b", waiting=3, oldest_ready_at=NOW - MINUTE),
        queue(waiting=3, oldest_ready_at=NOW - 20 * MINUTE),
    )
    back = ErrorBack("049476a0149e", "TimeoutError", "q", NOW - 5, NOW - 4, 3, NOW - 4)
    lost = replace(GOOD, totals=replace(GOOD.totals, lost_to_stalls=3, stalled=100))
    late = ScheduleFigures(
        3, 1, 0, (("nightly", NOW),), 1, (("s", Died("s@1", NOW, NOW)),), 1, (("t", Blocked("t@1", NOW - 10 * MINUTE)),)
    )
    audit = GOOD.audit._replace(faults={"lost": 2})
    task = (TaskFigures("rates", "failed", 3, "boom"),)
    why = ("paused", "rate-limit", "concurrency", "nobody-asks")
    held = tuple(Held("r1", code, "q", "", NOW - MINUTE, 10, 9, 1) for code in why)
    quiet = tuple(QuietLook(f"w {n}", NOW - 13 * 60 * MINUTE) for n in range(7))
    begun = replace(GOOD, reruns_held=held, workers_quiet=quiet)
    return [
        Picture(replace(storage(is_failing=True), is_sure=False), [waits], Past(), is_guarded=False),
        Picture(replace(GOOD, is_ready=False, audit=audit, tasks=task, clock_offset_ms=5000, events_dropped=5), [], Past()),
        Picture(storage(space=Space(GIB, 0, 100 * MIB, GIB), log_bytes=GIB), [queue("h", completed=5), queue(completed=9)], Past()),
        Picture(slow("commit", 500), [], Past()), Picture(slow("loop_lag", 250), [], Past()),
        Picture(replace(GOOD, schedules=late, errors_back=(back,)), [], Past([minute(30)])),
        Picture(GOOD, [slow_one._replace(active=1)], Past()),
        Picture(GOOD, [slow_one._replace(active=1, concurrency=1)], Past()),
        Picture(GOOD, [slow_one._replace(opens_at=NOW + 5)], Past()),
        Picture(GOOD, [queue(waiting=600, active=1, oldest_ready_at=NOW - 5)], Past(queues={"q": grows})),
        Picture(GOOD, [queue(dead=60)], Past(queues={"q": dies})),
        Picture(GOOD, [queue(delayed=9)], Past(queues={"q": line({"failed": 20})})),
        Picture(GOOD, [queue(pause=PauseLook("ana", NOW, None), waiting=3)], Past()),
        Picture(GOOD, [queue(active=1, active_since=NOW - 2 * MINUTE, active_id="j 1")], Past(queues={"q": usual})),
        Picture(begun, [], Past()),
        Picture(lost, [], Past([minute(14), minute(10, stalled=100, lost_to_stalls=3)])),
        Picture(GOOD, [], Past(queues={"h": usual}), workers=[WorkerLook("mail 3", "mail 3", 5, ("h",), NOW - 12 * MINUTE, NOW - 40 * MINUTE)]),
        Picture(GOOD, [], Past(errors=[NewError("abc", "SMTP said …", NOW - MINUTE, NOW, 20, {"a": 10, "b": 10})])),
        Picture(GOOD, [queue(dead=2)], Past()), Picture(GOOD, [queue(dead=2), queue("r", dead=1)], Past()),
        Picture(GOOD, [slow_one._replace(name=f"q{n}") for n in range(30)], Past()), Picture(DAMAGED, [], Past()),
    ]  # fmt: skip


ALL_OF_THEM = [each for picture in incidents() for each in find(picture)]

HELPLESS = {"no-tokens", "clock-off"}
"""Findings that no command shows more of, or helps against: they say what to set."""


def test_the_incidents_show_every_finding():
    pages = Path(__file__).parents[2] / "src" / "bunqueue_trio" / "pages"
    others = ("queue", "act", "new", "damage", "schedule")
    names = ("findings.py", *(f"{each}_findings.py" for each in others))
    sources = "".join((pages / name).read_text() for name in names)
    codes = set(re.findall(r'(?:code=|"code": |else |)"([a-z]+(?:-[a-z]+)+)"', sources)) - {"loop-lag", "rate-limit"}
    assert {each.code for each in ALL_OF_THEM} == {*codes, "paused", "nobody-asks-more"}


@pytest.mark.parametrize("each", ALL_OF_THEM, ids=lambda each: each.code)
def test_every_finding_has_the_line_of_a_command_that_there_is(each: Finding):
    assert each.title
    assert each.cause
    assert each.evidence
    assert bool(each.commands) is (each.code not in HELPLESS)
    for command in each.commands:
        name, *words = shlex.split(command)
        assert name == "bunqueue-trio"
        group: click.Command = main
        while isinstance(group, click.Group) and words:
            context = click.Context(group)
            found = group.get_command(context, words[0])
            assert found is not None, each.commands
            group, words = found, words[1:]
        assert group.make_context(group.name, words)
    said = re.findall(r"`bunqueue-trio ([a-z]+)", each.cause + each.evidence + each.remedy)
    assert set(said) <= set(COMMANDS)


def test_what_is_over_stands_behind_what_is_as_bad():
    over = line({"failed": 900}, {}, {}, {}, {})
    goes_on = queue("now", delayed=1)
    lines = {"then": over, "now": line({"failed": 10})}
    told = find(Picture(GOOD, [queue("then", delayed=1), goes_on], Past(queues=lines)))
    assert [(each.queue, each.until is None) for each in told] == [("now", True), ("then", False)]


def test_a_reserve_that_is_larger_than_what_is_little_for_others_is_found_when_it_is_all_that_is_left():
    told = storage(space=Space(GIB, 0, 10 * GIB, 100 * GIB), full_since=NOW)
    (finding,) = find(Picture(told, [], Past()))
    assert (finding.code, finding.since) == ("disk-fills", NOW)
    assert finding.evidence.startswith(
        "10.0 GiB of 100 GiB are free; the queue's file has 1.0 GiB. What brings jobs or data is refused"
    )


def test_a_backup_that_has_failed_is_a_finding_until_one_is_whole():
    failed = UpkeepView(kind="backup", state="failed", bytes=7, ended_at=NOW - 5000, error="its disk is full")
    (finding,) = find(Picture(storage(upkeep=(failed,)), [], Past()))
    assert (finding.code, finding.severity, finding.since) == ("backup-failed", "warning", NOW - 5000)
    assert (finding.cause, finding.evidence) == ("its disk is full", "No copy is seen in BACKUP_DIR.")
    assert finding.commands == ("bunqueue-trio storage backup",)
    there = BackupsView(directory="/b", kept=7, copies=1, last_at=NOW - 3_600_000)
    (finding,) = find(Picture(storage(upkeep=(failed,), backups=there), [], Past()))
    assert finding.evidence == "The newest copy that is whole is 1 h old."
    away = BackupsView(directory="/b", kept=7, error="there is no such directory")
    for works in ((), (failed,)):
        (finding,) = find(Picture(storage(upkeep=works, backups=away), [], Past()))
        assert (finding.code, finding.title) == ("backup-failed", "No backup can be made")
        assert finding.cause == "BACKUP_DIR /b: there is no such directory"
    for kind, error in (("backup", None), ("check", "x")):
        other = UpkeepView(kind=kind, state="done", bytes=7, ended_at=NOW, error=error)
        assert found(Picture(storage(upkeep=(other,)), [], Past())) == []
