"""Commands about schedules: what brings jobs by itself, by name."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from bunqueue_trio import errors
from bunqueue_trio.config import SCHEDULES_MAX
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import (
    EMPTY,
    EPOCH_MS,
    Attempts,
    Command,
    DayMs,
    EveryMs,
    Key,
    Name,
    Names,
    Priority,
    Runs,
    YearMs,
)
from bunqueue_trio.protocol.commands.push import Backoff
from bunqueue_trio.protocol.commands.spec import EXAMPLE_ID, EXAMPLE_OK, Again, Does, Example, Path, Role, Spec
from bunqueue_trio.protocol.scheduled import SchedulePreview, ScheduleReply, ScheduleRuns, SchedulesReply

Misfire = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "queue", "cancel"]
# Each slot that is looked at costs 20 µs, and that of a rare day some ms.
Slots = Annotated[int, Meta(ge=1, le=25)]
Page = Annotated[int, Meta(ge=1, le=100)]
Others = Annotated[int, Meta(ge=0, le=SCHEDULES_MAX)]


# The year 9000: the calendar ends in 9999.
Moment = Annotated[int, Meta(ge=0, le=221_845_392_000_000, extra=EPOCH_MS, extra_json_schema=EPOCH_MS)]


class RunOptions(Struct, kw_only=True, rename="camel", frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the jobs of a schedule are pushed with; the defaults are those of a push."""

    priority: Priority = 0
    max_attempts: Attempts = 3
    backoff: DayMs | Backoff = 1000
    ttl: YearMs | None = None
    timeout: DayMs | None = None
    tags: Names = field(default_factory=list)
    group_id: Key | None = None
    lifo: bool = False
    remove_on_complete: bool = False
    remove_on_fail: bool = False
    name: Key | None = None


class PutSchedule(Command[ScheduleReply], kw_only=True, tag="PutSchedule", forbid_unknown_fields=True):
    """Create a schedule, or replace the one of this name; one that is the same already stays as it is.

    It runs by a ``cron`` expression in a ``timezone``, each ``every`` ms counted from an ``anchor``, or once ``at`` a time.
    Nothing runs because of this command: the first run is the next slot. ``dryRun`` tells what would come of it, and stores nothing;
    it does so as if ``ahead`` other new ones had been put before.
    """

    name: str
    queue: str
    data: Raw = EMPTY
    cron: Name | None = None
    timezone: Name = "UTC"
    every: EveryMs | None = None
    anchor: Moment = 0
    at: Moment | None = None
    start: Moment | None = None
    end: Moment | None = None
    limit: Runs | None = None
    jitter: DayMs = 0
    misfire: Misfire = "once"
    misfire_max: Slots = 10
    window: YearMs | None = None
    overlap: Overlap = "skip"
    options: RunOptions | None = None
    source: Key | None = None
    """Who declares it: a program that puts its schedules finds those that it does not declare any more."""
    dry_run: bool = False
    ahead: Others = 0


class ChangeSchedule(Command[ScheduleReply], kw_only=True, tag="ChangeSchedule", forbid_unknown_fields=True):
    """Change a schedule that is there; what is left out stays as it was, null is as if it had never been said.

    One of ``cron``, ``every`` and ``at`` takes the place of the others; null says nothing of these three, nor of the queue. ``options`` are said anew as a whole. All else is as with
    ``PutSchedule``: another payload moves no slot, and nothing runs because of this.
    """

    name: str = ""
    queue: str | UnsetType = UNSET
    data: Raw = EMPTY
    cron: Name | UnsetType = UNSET
    timezone: Name | UnsetType | None = UNSET
    every: EveryMs | UnsetType = UNSET
    anchor: Moment | UnsetType | None = UNSET
    at: Moment | UnsetType = UNSET
    start: Moment | UnsetType | None = UNSET
    end: Moment | UnsetType | None = UNSET
    limit: Runs | UnsetType | None = UNSET
    jitter: DayMs | UnsetType | None = UNSET
    misfire: Misfire | UnsetType | None = UNSET
    misfire_max: Slots | UnsetType | None = UNSET
    window: YearMs | UnsetType | None = UNSET
    overlap: Overlap | UnsetType | None = UNSET
    options: RunOptions | UnsetType | None = UNSET
    source: Key | UnsetType | None = UNSET
    dry_run: bool = False


class GetSchedule(Command[ScheduleReply], kw_only=True, tag="GetSchedule"):
    """Read a schedule: what it brings, when it runs next, and whether it is paused or over."""

    name: str = ""


class ListSchedules(Command[SchedulesReply], kw_only=True, tag="ListSchedules"):
    """List the schedules by name, then the jobs that were pushed with ``repeat``; ``next`` is the ``after`` of the next page.

    It is null after the last. ``limit`` counts both.
    """

    after: Name | None = None
    limit: Page = 100


class DeleteSchedule(Command[r.DataReply], kw_only=True, tag="DeleteSchedule"):
    """Forget a schedule; the jobs that it has brought stay."""

    name: str = ""


class PauseSchedule(Command[r.DataReply], kw_only=True, tag="PauseSchedule"):
    """Let a schedule bring no jobs until it is resumed."""

    name: str = ""


class ResumeSchedule(Command[r.DataReply], kw_only=True, tag="ResumeSchedule"):
    """Let a schedule go on with its next slot; what was to run in the pause is skipped."""

    name: str = ""


class RunSchedule(Command[r.PushReply], kw_only=True, tag="RunSchedule"):
    """Bring a job of a schedule now, paused or not, beside its slots."""

    name: str = ""


class GetScheduleRuns(Command[ScheduleRuns], kw_only=True, tag="GetScheduleRuns"):
    """Ask when a schedule runs next, with remarks, and what became of its past slots, newest first.

    ``next`` says how many to come; ``before`` is that of the page before.
    """

    name: str = ""
    next: Slots = 5
    limit: Page = 20
    before: Name | None = None


class PreviewSchedule(Command[SchedulePreview], kw_only=True, tag="PreviewSchedule", forbid_unknown_fields=True):
    """Ask when a schedule would run, without storing it."""

    cron: Name | None = None
    timezone: Name = "UTC"
    every: EveryMs | None = None
    anchor: Moment = 0
    at: Moment | None = None
    start: Moment | None = None
    end: Moment | None = None
    next: Slots = 5


SCHEDULE_NOT_FOUND = Fault(404, "Schedule not found", "schedule-not-found")
INVALID_SCHEDULE = Fault(
    400, "Schedule name must be 1 to 200 letters, digits or _.:- and not preview, . or ..", "invalid-schedule"
)
WHEN_IS_UNCLEAR = Fault(400, "Exactly one of cron, every and at must be given", "when-is-unclear")
NO_CRON = Fault(400, "cron must be a cron expression: {}", "no-cron")
NO_ZONE = Fault(400, "timezone must be a name of the IANA time zone database{}", "no-zone")
NEVER_RUNS = Fault(400, "This schedule would never run: {}", "never-runs")
TOO_MANY_SCHEDULES = Fault(409, "There would be more than {} schedules", "too-many-schedules")
NOT_A_SLOT = Fault(400, "before must be the next of an earlier page", "not-a-slot")

_WHEN = (WHEN_IS_UNCLEAR, NO_CRON, NO_ZONE, NEVER_RUNS)
_MISSING = (SCHEDULE_NOT_FOUND,)

EXAMPLE_SCHEDULE: dict[str, Any] = {
    "name": "nightly", "queue": "reports", "data": {"kind": "daily"}, "cron": "0 3 * * *", "timezone": "Europe/Berlin",
    "every": None, "anchor": 0, "at": None, "start": None, "end": None, "limit": None, "jitter": 0, "misfire": "once",
    "misfireMax": 10, "window": None, "overlap": "skip", "options": {"maxAttempts": 5}, "source": None, "state": "active",
    "createdAt": 1795500000000, "updatedAt": 1795500000000, "pausedAt": None, "nextRun": 1795572000000, "runs": 12,
    "lastJob": "nightly@1795485600000", "waitingSlot": None,
}  # fmt: skip

EXAMPLE_REPEAT: dict[str, Any] = {
    "name": "poll", "job": EXAMPLE_ID, "queue": "mail", "state": "delayed", "every": 60000, "limit": None, "run": 12,
    "due": 1795530000000,
}  # fmt: skip

SPECS: tuple[Spec, ...] = (
    Spec(
        PutSchedule, Does.CHANGES, Path("POST", "/schedules"),
        refuses=(errors.INVALID_QUEUE, INVALID_SCHEDULE, *_WHEN, TOO_MANY_SCHEDULES), again=Again.FREELY, fills=True, role=Role.ADMIN, acts="schedules put",
        example=Example(
            {
                "name": "nightly", "queue": "reports", "data": {"kind": "daily"}, "cron": "0 3 * * *",
                "timezone": "Europe/Berlin", "options": {"maxAttempts": 5},
            },
            {"ok": True, "schedule": EXAMPLE_SCHEDULE, "outcome": "created"},
        ),
    ),
    Spec(
        ChangeSchedule, Does.CHANGES, Path("PUT", "/schedules/:name"),
        refuses=(errors.INVALID_QUEUE, SCHEDULE_NOT_FOUND, *_WHEN), again=Again.FREELY, role=Role.ADMIN, acts="schedules change",
        example=Example({"data": {"kind": "weekly"}}, {"ok": True, "schedule": EXAMPLE_SCHEDULE | {"data": {"kind": "weekly"}}, "outcome": "changed"}),
    ),
    Spec(
        ListSchedules, Does.READS, Path("GET", "/schedules"), again=Again.FREELY, role=Role.READ,
        settled_by="everything",
        example=Example(None, {"ok": True, "schedules": [EXAMPLE_SCHEDULE], "repeats": [EXAMPLE_REPEAT], "next": None}),
    ),
    Spec(
        PreviewSchedule, Does.READS, Path("GET", "/schedules/preview"), refuses=_WHEN, again=Again.FREELY,
        role=Role.READ, settled_by="nothing",
        example=Example(
            None,
            {
                "ok": True,
                "upcoming": [
                    {
                        "slot": 1806109200000, "runAt": 1806109200000, "local": "2027-03-28T03:00:00+02:00",
                        "remarks": ["02:30 does not exist on this day: runs at 03:00"],
                    },
                ],
                "rules": "2026f",
            },
        ),
    ),
    Spec(
        GetSchedule, Does.READS, Path("GET", "/schedules/:name"), refuses=_MISSING, again=Again.FREELY, role=Role.READ,
        settled_by="everything", example=Example(None, {"ok": True, "schedule": EXAMPLE_SCHEDULE, "outcome": "read"}),
    ),
    Spec(
        DeleteSchedule, Does.CHANGES, Path("DELETE", "/schedules/:name", optional_body=True), refuses=_MISSING,
        again=Again.GUARDED, role=Role.ADMIN, acts="schedules delete", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        PauseSchedule, Does.CHANGES, Path("POST", "/schedules/:name/pause", optional_body=True), refuses=_MISSING,
        again=Again.FREELY, role=Role.ADMIN, acts="schedules pause", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        ResumeSchedule, Does.CHANGES, Path("POST", "/schedules/:name/resume", optional_body=True), refuses=_MISSING,
        again=Again.FREELY, role=Role.ADMIN, acts="schedules resume", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        RunSchedule, Does.CHANGES, Path("POST", "/schedules/:name/run", optional_body=True), refuses=_MISSING,
        fills=True, role=Role.ADMIN, acts="schedules run", example=Example(None, {"ok": True, "id": "nightly@1795530000000+01924f5a-7b3c-7def-8a12-3456789abcde"}),
    ),
    Spec(
        GetScheduleRuns, Does.READS, Path("GET", "/schedules/:name/runs"), refuses=(SCHEDULE_NOT_FOUND, NOT_A_SLOT),
        again=Again.FREELY, role=Role.READ, settled_by="everything",
        example=Example(
            None,
            {
                "ok": True,
                "upcoming": [
                    {
                        "slot": 1795572000000, "runAt": 1795572000000, "local": "2026-11-25T03:00:00+01:00",
                        "remarks": [],
                    },
                ],
                "past": [
                    {
                        "slot": 1795485600000, "until": 1795485600000, "outcome": "completed",
                        "why": None, "job": "nightly@1795485600000", "startedAt": 1795485600004,
                        "endedAt": 1795485661004, "took": 61000, "error": None,
                    },
                    {
                        "slot": 1795399200000, "until": 1795399200000, "outcome": "skipped",
                        "why": "job nightly@1795312800000 had not ended", "job": None, "startedAt": None,
                        "endedAt": None, "took": None, "error": None,
                    },
                ],
                "next": None,
                "rules": "2026f",
            },
        ),
    ),
)  # fmt: skip
