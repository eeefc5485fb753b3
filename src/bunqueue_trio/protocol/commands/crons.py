"""The original's commands about what runs by the clock: other words for schedules, one set of them for both."""

from typing import Any

from msgspec import Raw, Struct

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import EMPTY, Command, EveryMs, Key, Name, Priority, Runs
from bunqueue_trio.protocol.commands.schedules import (
    INVALID_SCHEDULE,
    NEVER_RUNS,
    NO_CRON,
    NO_ZONE,
    TOO_MANY_SCHEDULES,
    Page,
    RunOptions,
)
from bunqueue_trio.protocol.commands.spec import EXAMPLE_OK, Again, Does, Example, Path, Role, Spec
from bunqueue_trio.protocol.replies import Reply

UNNAMED = "default"
"""What the original calls jobs that have no name."""


class CronView(Struct, kw_only=True, rename="camel"):
    """A schedule in the words of the original."""

    name: str
    job_name: str
    queue: str
    schedule: str | None
    repeat_every: int | None
    next_run: int | None
    executions: int
    max_limit: int | None
    timezone: str | None
    priority: int


class CronReply(Reply, kw_only=True):
    """One of them."""

    cron: CronView


class CronsReply(Reply, kw_only=True):
    """They by name, and behind which name the next page begins."""

    crons: list[CronView]
    next: str | None


class Cron(Command[CronReply], kw_only=True, tag="Cron"):
    """Create a schedule, or replace the one of this name, in the words of the original; see ``PutSchedule`` for all there is."""

    name: str
    queue: str
    data: Raw = EMPTY
    job_name: Key = UNNAMED
    schedule: Name | None = None
    repeat_every: EveryMs | None = None
    timezone: Name | None = None
    priority: Priority = 0
    max_limit: Runs | None = None
    skip_missed_on_restart: bool = True
    immediately: bool = False
    prevent_overlap: bool = True
    job_options: RunOptions | None = None


class CronGet(Command[CronReply], kw_only=True, tag="CronGet"):
    """Read a schedule in the words of the original."""

    name: str = ""


class CronList(Command[CronsReply], kw_only=True, tag="CronList"):
    """List the schedules by name, in the words of the original; ``next`` is the ``after`` of the next page."""

    after: Name | None = None
    limit: Page = 100


class CronDelete(Command[r.DataReply], kw_only=True, tag="CronDelete"):
    """Forget a schedule; the jobs that it has brought stay."""

    name: str = ""


CRON_NOT_FOUND = Fault(404, "Cron job not found", "cron-not-found")
CRON_IS_UNCLEAR = Fault(400, "Cron job must have either schedule or repeatEvery", "cron-is-unclear")

_MISSING = (CRON_NOT_FOUND,)
EXAMPLE_CRON: dict[str, Any] = {
    "name": "daily", "jobName": "report", "queue": "reports", "schedule": "0 9 * * *", "repeatEvery": None,
    "nextRun": 1795507200000, "executions": 0, "maxLimit": None, "timezone": "Europe/Rome", "priority": 0,
}  # fmt: skip

SPECS: tuple[Spec, ...] = (
    Spec(
        Cron, Does.CHANGES, Path("POST", "/crons"),
        refuses=(errors.INVALID_QUEUE, INVALID_SCHEDULE, CRON_IS_UNCLEAR, NO_CRON, NO_ZONE, NEVER_RUNS, TOO_MANY_SCHEDULES),
        again=Again.GUARDED, fills=True, role=Role.ADMIN, acts="schedules put",
        example=Example(
            {
                "name": "daily", "queue": "reports", "data": {}, "jobName": "report", "schedule": "0 9 * * *",
                "timezone": "Europe/Rome",
            },
            {"ok": True, "cron": EXAMPLE_CRON},
        ),
    ),
    Spec(
        CronList, Does.READS, Path("GET", "/crons"), again=Again.FREELY, role=Role.READ, settled_by="everything",
        example=Example(None, {"ok": True, "crons": [EXAMPLE_CRON], "next": None}),
    ),
    Spec(
        CronGet, Does.READS, Path("GET", "/crons/:name"), refuses=_MISSING, again=Again.FREELY, role=Role.READ,
        settled_by="everything", example=Example(None, {"ok": True, "cron": EXAMPLE_CRON}),
    ),
    Spec(
        CronDelete, Does.CHANGES, Path("DELETE", "/crons/:name", optional_body=True), refuses=_MISSING,
        again=Again.GUARDED, role=Role.ADMIN, acts="schedules delete", example=Example(None, EXAMPLE_OK),
    ),
)  # fmt: skip
