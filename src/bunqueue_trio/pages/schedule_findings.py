"""The rules about schedules: those that missed their time, whose runs die, or whose slots are left out. Pure functions."""

from collections.abc import Iterator, Sequence
from typing import Any

from bunqueue_trio.config import MINUTE_MS
from bunqueue_trio.pages.words import Given, count, line, span
from bunqueue_trio.runtime.history import Past
from bunqueue_trio.runtime.statistics import Died, ScheduleFigures, Statistics

# As the alert has it.
LATE_MS = 60 * MINUTE_MS
# Of schedules that it is so with.
_NAMED = 5

Fields = dict[str, Any]


def schedule_findings(told: Statistics, past: Past) -> Iterator[Fields]:
    """Yield the fields of the findings about schedules."""
    yield from _late(told, past)
    yield from _died(told.schedules, told.now)
    yield from _blocked(told.schedules, told.now)


def troubles(told: ScheduleFigures) -> dict[str, str]:
    """Return the schedules that somebody should look at, by name, and why, in a few words."""
    blocked = {name: "its slots are left out" for name, _ in told.blocked}
    return blocked | {name: f"{_runs(died)} died" for name, died in told.died}


def _runs(died: Died) -> str:
    return "its newest run" if died.runs == 1 else f"its last {count(died.runs, 'run')}"


def _late(server: Statistics, past: Past) -> Iterator[Fields]:
    now, told, lately = server.now, server.schedules, server.schedules.lately
    first = past.since(now - LATE_MS)
    # A server that was off for longer than a schedule may wait is late at its start, before its first minute has ended.
    before = first.late if first is not None and server.started_at <= now - LATE_MS else 0
    late = told.late - before
    if late <= 0 or not lately:
        return
    name, slot = lately[-1]
    others = [each for each, _ in reversed(lately[-late:-1])]
    more = f" Before it {', '.join(others)} {'was' if len(others) == 1 else 'were'} late." if others else ""
    yield {
        "code": "schedules-late", "severity": "warning", "alert": "BunqueueSchedulesLate", "weight": 350 * 10**5, "schedule": name, "since": slot, "until": slot,
        "title": f"Schedules missed their time {count(late, 'time')} within an hour, {name} last",
        "cause": "The server was off when they were due, its clock was set forward, or it has more work than it does.",
        "evidence": f"{name} was due {span(now - slot)} ago.{more} Each of them says what becomes of slots that were missed.",
        "remedy": "`show` tells what became of its slots, `run` brings a job now, and `why` says of one that came why it does not run.",
        "numbers": {"late": late, "leftOut": told.left_out},
        "commands": (line("schedules", "show", Given(name)), line("schedules", "run", Given(name))),
    }  # fmt: skip


def _died(told: ScheduleFigures, now: int) -> Iterator[Fields]:
    if not told.died:
        return
    (name, last), *others = told.died
    yield {
        "code": "schedule-dies", "severity": "warning", "alert": "BunqueueScheduleFails", "weight": 345 * 10**5, "schedule": name, "since": last.since,
        "title": f"Schedule {name}: {_runs(last)} died" + (f"; so did the newest of {count(told.dying - 1, 'other')}" if told.dying > 1 else ""),
        "cause": "What it asks for fails each time that it is tried, or its workers die of it.",
        "evidence": f"{last.job} died {span(now - last.at)} ago, and none of its runs has completed since.{_and_others(others, told.dying)}",
        "remedy": "`show` has the error of each run. When the cause is gone, let it run: the finding ends when a run completes, or with the schedule.",
        "numbers": {"runs": last.runs, "schedules": told.dying},
        "commands": (line("schedules", "show", Given(name)), line("schedules", "run", Given(name))),
    }  # fmt: skip


def _and_others(others: Sequence[tuple[str, object]], total: int) -> str:
    others = others[:_NAMED]
    if not others:
        return ""
    more = f" and {total - 1 - len(others)} more" if total - 1 > len(others) else ""
    return f" So it is with {', '.join(name for name, _ in others)}{more}."


def _blocked(told: ScheduleFigures, now: int) -> Iterator[Fields]:
    if not told.blocked:
        return
    (name, first), *others = told.blocked
    yield {
        "code": "schedule-blocked", "severity": "warning", "alert": "BunqueueScheduleFails", "weight": 344 * 10**5, "schedule": name, "job": first.job, "since": first.since,
        "title": f"Schedule {name}: its slots have been left out for {span(now - first.since)}"
        + (f", and those of {count(told.blocking - 1, 'other')}" if told.blocking > 1 else ""),
        "cause": f"Its job {first.job} has not ended: it hangs, waits for a worker, or takes longer than the time between two slots.",
        "evidence": f"None of its slots brings a job before that one has ended.{_and_others(others, told.blocking)}",
        "remedy": "`why` says why the job has not ended; the slots to come run as soon as it has.",
        "numbers": {"blockedMs": now - first.since, "schedules": told.blocking},
        "commands": (line("why", Given(first.job)), line("schedules", "show", Given(name)), line("cancel", Given(first.job))),
    }  # fmt: skip
