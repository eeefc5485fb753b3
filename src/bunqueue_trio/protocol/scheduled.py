"""Replies about schedules. Times in epoch ms."""

from msgspec import Raw, Struct

from bunqueue_trio.config import LATE_MS
from bunqueue_trio.protocol.replies import Reply


class ScheduleView(Struct, kw_only=True, rename="camel"):
    """A schedule: what it brings and when, as it was put, and where it stands."""

    name: str
    queue: str
    data: Raw
    cron: str | None
    timezone: str
    every: int | None
    anchor: int
    at: int | None
    start: int | None
    end: int | None
    limit: int | None
    jitter: int
    misfire: str
    misfire_max: int
    window: int | None
    overlap: str
    options: Raw
    source: str | None
    state: str
    """``active``, ``paused``, or ``ended``: no slot is to come."""
    created_at: int
    updated_at: int
    paused_at: int | None
    next_run: int | None
    """With its jitter."""
    runs: int
    """How many of its slots brought a job."""
    last_job: str | None
    waiting_slot: int | None
    """The slot whose job comes when all jobs before have ended."""


class ScheduleReply(Reply, kw_only=True):
    """A schedule, and what came of the command: ``created``, ``changed``, ``unchanged`` or ``read``."""

    schedule: ScheduleView
    outcome: str


class RepeatView(Struct, kw_only=True, rename="camel"):
    """A job that was pushed with ``repeat``: its present run, which is to come, waits, or is worked on."""

    name: str | None
    """As it was pushed; others may have the same."""
    job: str
    queue: str
    state: str
    every: int
    limit: int | None
    run: int
    """Which of the runs it is, from 1 on."""
    due: int


class SchedulesReply(Reply, kw_only=True):
    """Schedules by name, behind them the jobs that repeat by id, and behind which the next page begins."""

    schedules: list[ScheduleView]
    repeats: list[RepeatView]
    next: str | None


class Upcoming(Struct, kw_only=True, rename="camel"):
    """A slot to come: its time, when it runs with its jitter, what the clock of its zone shows then, and what is special."""

    slot: int
    run_at: int
    local: str
    remarks: list[str]


class Past(Struct, kw_only=True, rename="camel"):
    """A slot that is over, or several in a row that were skipped for one reason: what became of it.

    ``outcome`` is the state of its job, ``cancelled`` where a later slot has cancelled that, ``gone`` where nothing is kept of it, or ``skipped``.
    """

    slot: int
    until: int
    outcome: str
    why: str | None = None
    job: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    took: int | None = None
    error: str | None = None


class SchedulePreview(Reply, kw_only=True):
    """The next slots, and which release of the rules of time zones they are by."""

    upcoming: list[Upcoming]
    rules: str


class ScheduleRuns(Reply, kw_only=True):
    """The next slots, the past ones newest first, before which one the next page begins, and which release of the rules of time zones holds."""

    upcoming: list[Upcoming]
    past: list[Past]
    next: str | None
    rules: str


def of_no_effect(misfire: str | None, misfire_max: int | None, window: int | None, jitter: int | None) -> str | None:
    """Return what is said of missed slots and would change nothing, for who is about to put it, or None; None is not said."""
    if misfire_max is not None and misfire != "all":
        return "misfire_max needs misfire all"
    if window is None:
        return None
    if misfire == "skip":
        return "window has no effect with misfire skip: no slot that was missed runs"
    in_time = LATE_MS + (jitter or 0)
    if window <= in_time:
        return f"window lets no slot run that was missed, for one up to {in_time / 1000:g} s late is in time: that is misfire skip"
    return None
