"""Commands about whatever jobs a filter describes, in any queue and state: the same filter finds them and acts on them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, Count, DayMs, EpochMs, Name, Names, Priority, YearMs
from bunqueue_trio.protocol.commands.jobs import NOT_A_PLACE, UNKNOWN_STATE
from bunqueue_trio.protocol.commands.spec import EXAMPLE_DEAD_JOB, Again, Does, Example, Path, Role, Spec

# One call does no more: it is answered within a second or so.
ActCount = Annotated[int, Meta(ge=1, le=10_000)]
Tries = Annotated[int, Meta(ge=0, le=1000)]


class Filter(Struct, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """Which jobs: those that are all of what is said. What is not said does not matter.

    ``queue`` and ``state`` are one or several. ``error`` and ``text`` are looked for in the last error and in the payload as it was
    sent. ``older`` and ``newer`` are ms since the push, or since the end of an ended job. ``attempts`` have failed at least.
    ``owner`` is the connection that holds an active job.
    """

    queue: Names | Name | None = None
    state: Names | Name | None = None
    tag: Name | None = None
    group_id: Name | None = None
    id_prefix: Name | None = None
    fingerprint: Name | None = None
    error: Name | None = None
    text: Name | None = None
    older: YearMs | None = None
    newer: YearMs | None = None
    attempts: Tries | None = None
    owner: Name | None = None


class FindJobs(Command[r.FoundReply], kw_only=True, tag="FindJobs"):
    """List the jobs that a filter describes, of any queue and state; goes on behind ``after`` while ``next`` is not null.

    State by state, queue by queue, each in the order of ``GetJobs``. A page also ends when enough jobs were looked at:
    ``complete`` is false then. With ``count`` it tells how many there are, and not which: add up the ``count`` of all pages.
    """

    queue: Names | Name | None = None
    state: Names | Name | None = None
    tag: Name | None = None
    group_id: Name | None = None
    id_prefix: Name | None = None
    fingerprint: Name | None = None
    error: Name | None = None
    text: Name | None = None
    older: YearMs | None = None
    newer: YearMs | None = None
    attempts: Tries | None = None
    owner: Name | None = None
    count: bool = False
    limit: Count = 100
    after: Name | None = None


class ActOnJobs(Command[r.ActReply], kw_only=True, tag="ActOnJobs", forbid_unknown_fields=True):
    """Do something to up to ``limit`` of the jobs that a filter describes; goes on behind ``after`` while ``next`` is not null.

    ``dryRun`` tells what would be done, and does nothing. ``force`` takes active jobs from their workers, too. A crash may leave some
    of them done; what is answered is. With ``rate`` it is done to at most that many a second, and the answer comes after some seconds,
    whatever the limit. ``asOf`` is the moment at which whoever goes on has begun: what has come since is left alone. ``reason``, ``by`` and ``grace`` are as in ``Cancel``, and for ``cancel`` alone. ``move`` puts jobs that are
    not active into the queue ``to``.
    """

    filter: Filter
    action: Literal["cancel", "promote", "discard", "retry", "purge", "priority", "move"]
    priority: Priority | None = None
    to: Name | None = None
    """The queue that jobs are moved to; they stand there behind those of their priority, and keep all else."""
    dry_run: bool = False
    force: bool = False
    limit: ActCount = 1000
    rate: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    reason: Name | None = None
    """Of a cancellation, as in ``Cancel``: with any of these three a record of each is kept."""
    by: Name | None = None
    grace: DayMs | None = None
    as_of: EpochMs | None = None
    after: Name | None = None


NO_PRIORITY = Fault(400, "priority is required", "no-priority")
NO_TARGET = Fault(400, "to is required", "no-target")
ONLY_MOVED = Fault(400, "to is for the action move", "only-moved")
ONLY_CANCELLED = Fault(400, "reason, by and grace are for the action cancel", "only-cancelled")
EMPTY_FILTER = Fault(400, "filter must say something", "empty-filter")

SPECS: tuple[Spec, ...] = (
    Spec(
        FindJobs, Does.READS, Path("GET", "/jobs"), refuses=(errors.INVALID_QUEUE, UNKNOWN_STATE, NOT_A_PLACE),
        again=Again.FREELY, role=Role.READ, settled_by="everything",
        example=Example(
            {"queue": "emails", "state": "failed", "error": "refused"},
            {
                "ok": True,
                "jobs": [EXAMPLE_DEAD_JOB | {"state": "failed", "error": "SMTP connection refused", "reason": "max_attempts_exceeded"}],
                "scanned": 240, "complete": True, "next": "failed|emails|41",
            },
        ),
    ),
    Spec(
        ActOnJobs, Does.CHANGES, Path("POST", "/jobs/act"),
        refuses=(errors.INVALID_QUEUE, UNKNOWN_STATE, NOT_A_PLACE, EMPTY_FILTER, NO_PRIORITY, NO_TARGET, ONLY_MOVED, ONLY_CANCELLED), role=Role.ADMIN, acts="act", sliced=True,
        example=Example(
            {"filter": {"queue": "emails", "fingerprint": "2a253bca139c"}, "action": "retry"},
            {
                "ok": True, "count": 998, "ending": 0, "refused": {"key-held": 2}, "scanned": 1000,
                "examples": [EXAMPLE_DEAD_JOB | {"state": "failed", "error": "SMTP connection refused", "reason": "max_attempts_exceeded"}],
                "next": "failed|emails|41",
            },
        ),
    ),
)  # fmt: skip
