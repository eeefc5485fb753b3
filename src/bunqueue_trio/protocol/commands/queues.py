"""Commands about a queue as a whole."""

from typing import Annotated

from msgspec import Meta

from bunqueue_trio import errors
from bunqueue_trio.protocol import queue_replies as qr
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, Count, EpochMs, EveryMs, Name
from bunqueue_trio.protocol.commands.spec import EXAMPLE_OK, Again, Does, Example, Path, Role, Spec


class Pause(Command[r.DataReply], kw_only=True, tag="Pause"):
    """Stop delivering the jobs of a queue, until the epoch ms ``until`` if it is given; a second pause replaces the first."""

    queue: str = ""
    reason: Name | None = None
    until: EpochMs | None = None


class Resume(Command[r.DataReply], kw_only=True, tag="Resume"):
    """Deliver the jobs of a queue again."""

    queue: str = ""


class IsPaused(Command[qr.PausedReply], kw_only=True, tag="IsPaused"):
    """Ask whether a queue is paused: why, since when, until when."""

    queue: str = ""


class SetConcurrency(Command[r.DataReply], kw_only=True, tag="SetConcurrency"):
    """Let at most ``concurrency`` jobs of a queue be active at once; those that are stay so."""

    queue: str = ""
    concurrency: Annotated[int, Meta(ge=1, le=1_000_000)]


class ClearConcurrency(Command[r.DataReply], kw_only=True, tag="ClearConcurrency"):
    """Let any number of jobs of a queue be active at once."""

    queue: str = ""


class GetConcurrency(Command[qr.ConcurrencyReply], kw_only=True, tag="GetConcurrency"):
    """Ask how many jobs of a queue may be active at once, and how many are."""

    queue: str = ""


class RateLimit(Command[r.DataReply], kw_only=True, tag="RateLimit"):
    """Deliver at most ``limit`` jobs of a queue in any ``duration`` ms, for ``ttl`` ms if it is given; else until it is cleared."""

    queue: str = ""
    limit: Annotated[int, Meta(ge=1, le=1_000_000)]
    duration: EveryMs = 1000
    ttl: EveryMs | None = None


class RateLimitClear(Command[r.DataReply], kw_only=True, tag="RateLimitClear"):
    """Deliver the jobs of a queue at any rate."""

    queue: str = ""


class GetRateLimit(Command[qr.RateLimitReply], kw_only=True, tag="GetRateLimit"):
    """Ask how many jobs of a queue are delivered in any window of time at most, and how many of them were."""

    queue: str = ""


class ListQueues(Command[qr.QueuesReply], kw_only=True, tag="ListQueues"):
    """List the queues that hold a job, or are paused or limited, by name; ``next`` is the ``after`` of the next page."""

    after: Name | None = None
    limit: Count = 1000
    details: bool = False


class GetQueue(Command[qr.QueueReply], kw_only=True, tag="GetQueue"):
    """Read how a queue is doing; one that nobody has used yet is empty."""

    queue: str = ""


class GetFigures(Command[qr.FiguresReply], kw_only=True, tag="GetFigures"):
    """Read what went on in a queue: by the minute for the last hour, and by the hour for the last week."""

    queue: str = ""


class GetJobCounts(Command[qr.CountsReply], kw_only=True, tag="GetJobCounts"):
    """Count the jobs of a queue by state; ready ones of a paused queue are ``paused``."""

    queue: str = ""


class CountJobs(Command[qr.CountReply], kw_only=True, tag="Count"):
    """Count the jobs of a queue that are ready or delayed."""

    queue: str = ""


class GetCountsPerPriority(Command[qr.PriorityCountsReply], kw_only=True, tag="GetCountsPerPriority"):
    """Count the ready jobs of a queue by priority, the 1,000 highest ones."""

    queue: str = ""


_COUNTS = {"waiting": 6, "delayed": 1, "waiting-children": 0, "active": 2, "completed": 40, "failed": 1}
_QUEUE = {
    "name": "emails", "paused": False, "pause": None, "counts": _COUNTS, "oldestReadyAt": 1700000000000,
    "nextDueAt": 1700000060000, "pullsWaiting": 0, "concurrency": None, "rateLimit": {"limit": 100, "duration": 60000},
    "opensAt": None, "lately": {"minute": {"in": 40, "out": 38}, "hour": {"in": 2400, "out": 2390}, "p50": 191, "p95": 767}, "set": ["defaults"],
}  # fmt: skip


def _look(command: type[Command], path: str, answer: dict[str, object]) -> Spec:
    """Return the row of a command that looks at figures: they are of this moment, committed or not."""
    return Spec(
        command, Does.READS, Path("GET", path), again=Again.FREELY, role=Role.READ, settled_by="nothing",
        example=Example(None, {"ok": True} | answer),
    )  # fmt: skip


SPECS: tuple[Spec, ...] = (
    Spec(
        Pause, Does.CHANGES, Path("POST", "/queues/:queue/pause", optional_body=True),
        refuses=(errors.UNTIL_IS_PAST, errors.TOO_MANY_GATES), again=Again.FREELY, role=Role.ADMIN,
        acts="pause", example=Example({"reason": "the mail server is down", "until": 1893456000000}, EXAMPLE_OK),
    ),
    Spec(
        Resume, Does.CHANGES, Path("POST", "/queues/:queue/resume", optional_body=True), again=Again.FREELY,
        role=Role.ADMIN, acts="resume", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        IsPaused, Does.READS, Path("GET", "/queues/:queue/paused"), again=Again.FREELY, role=Role.READ,
        settled_by="everything",
        example=Example(
            None,
            {
                "ok": True, "paused": True, "reason": "the mail server is down", "since": 1700000000000,
                "until": 1893456000000,
            },
        ),
    ),
    Spec(
        SetConcurrency, Does.CHANGES, Path("PUT", "/queues/:queue/concurrency"), refuses=(errors.TOO_MANY_GATES,),
        again=Again.FREELY, role=Role.ADMIN, acts="limit", example=Example({"concurrency": 5}, EXAMPLE_OK),
    ),
    Spec(
        ClearConcurrency, Does.CHANGES, Path("DELETE", "/queues/:queue/concurrency", optional_body=True),
        again=Again.FREELY, role=Role.ADMIN, acts="limit", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        GetConcurrency, Does.READS, Path("GET", "/queues/:queue/concurrency"), again=Again.FREELY, role=Role.READ,
        settled_by="everything", example=Example(None, {"ok": True, "concurrency": 5, "active": 3}),
    ),
    Spec(
        RateLimit, Does.CHANGES, Path("PUT", "/queues/:queue/rate-limit"), refuses=(errors.TOO_MANY_GATES,),
        again=Again.FREELY, role=Role.ADMIN, acts="limit --rate", example=Example({"limit": 100, "duration": 60000}, EXAMPLE_OK),
    ),
    Spec(
        RateLimitClear, Does.CHANGES, Path("DELETE", "/queues/:queue/rate-limit", optional_body=True),
        again=Again.FREELY, role=Role.ADMIN, acts="limit --rate", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        GetRateLimit, Does.READS, Path("GET", "/queues/:queue/rate-limit"), again=Again.FREELY, role=Role.READ,
        settled_by="everything",
        example=Example(
            None,
            {
                "ok": True, "limit": 100, "duration": 60000, "until": None, "used": 100, "opensAt": 1700000060000,
            },
        ),
    ),
    _look(ListQueues, "/queues", {"queues": ["bulk", "emails"], "next": None}),
    _look(GetQueue, "/queues/:queue", {"queue": _QUEUE}),
    _look(
        GetFigures, "/queues/:queue/figures",
        {
            "queue": "emails",
            "minutes": [
                {
                    "at": 1700000060000, "pushed": 40, "completed": 38, "failed": 3, "stalled": 0, "retried": 2, "waiting": 12, "dead": 1,
                    "oldest": 4200, "run": 120, "p50": 95, "p95": 511,
                },
            ],
            "hours": [], "usual": 511,
        },
    ),
    _look(
        GetJobCounts, "/queues/:queue/counts",
        {
            "counts": {
                "waiting": 6, "prioritized": 0, "delayed": 1, "active": 2, "completed": 40, "failed": 1,
                "waiting-children": 0, "paused": 0,
            }
        },
    ),
    _look(CountJobs, "/queues/:queue/count", {"count": 7}),
    _look(GetCountsPerPriority, "/queues/:queue/priority-counts", {"queue": "emails", "counts": {"10": 1, "0": 5}}),
)  # fmt: skip
