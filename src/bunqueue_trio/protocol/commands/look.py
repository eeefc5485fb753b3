"""Commands that look at a job and change nothing."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import trail_replies as tr
from bunqueue_trio.protocol.commands.base import Command, Name, WaitMs
from bunqueue_trio.protocol.commands.jobs import NOT_A_PLACE
from bunqueue_trio.protocol.commands.spec import EXAMPLE_ID, EXAMPLE_JOB, Again, Does, Example, Path, Role, Spec


class GetJob(Command[r.JobReply], kw_only=True, tag="GetJob"):
    """Read a job."""

    id: str = ""


class GetState(Command[r.StateReply], kw_only=True, tag="GetState"):
    """Read where a job stands, with everything the job view of the contract leaves out."""

    id: str = ""


class GetProgress(Command[r.ProgressReply], kw_only=True, tag="GetProgress"):
    """Read how far a job is, in the words of its worker, and when that was last said."""

    id: str = ""


class GetResult(Command[r.ResultReply], kw_only=True, tag="GetResult"):
    """Read the result of a completed job; wait up to ``timeout`` ms for its end, however it ends."""

    id: str = ""
    timeout: WaitMs = 0


class WaitJob(Command[r.WaitReply], kw_only=True, tag="WaitJob"):
    """Wait up to ``timeout`` ms for the end of a job, however it ends, and read its result or error."""

    id: str = ""
    timeout: WaitMs = 30_000


class Why(Command[r.WhyReply], kw_only=True, tag="Why"):
    """Ask why a job is not running: what it waits for, or how it ended."""

    id: str = ""


class GetAttempts(Command[tr.AttemptsReply], kw_only=True, tag="GetAttempts"):
    """Read the last 20 failed attempts of a job, stalls too: when, for how long, why, the error and the stack."""

    id: str = ""


class GetTimeline(Command[tr.TimelineReply], kw_only=True, tag="GetTimeline"):
    """Read what happened to a job, in order, also to one that is gone; goes on behind ``after`` while ``next`` is not null.

    The first page has what its record and its attempts tell, and what operators did to it; each has what some thousand kept events tell.
    """

    id: str = ""
    after: Name | None = None


_REFUSES = (errors.JOB_NOT_FOUND,)

SPECS: tuple[Spec, ...] = (
    Spec(
        GetJob, Does.READS, Path("GET", "/jobs/:id"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ, contract=True,
        example=Example(None, {"ok": True, "job": EXAMPLE_JOB}),
    ),
    Spec(GetState, Does.READS, Path("GET", "/jobs/:id/state"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ),
    Spec(
        GetProgress, Does.READS, Path("GET", "/jobs/:id/progress"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ,
        example=Example(None, {"ok": True, "progress": 50, "message": "half", "at": 1700000000500}),
    ),
    Spec(
        GetResult, Does.READS, Path("GET", "/jobs/:id/result"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ,
        waits=True,
        example=Example(
            None, {"ok": True, "id": EXAMPLE_ID, "result": {"sent": True}}
        ),
    ),
    Spec(
        WaitJob, Does.READS, Path("POST", "/jobs/:id/wait", optional_body=True), refuses=_REFUSES, again=Again.FREELY,
        role=Role.READ, waits=True,
        example=Example(
            {"timeout": 30000},
            {"ok": True, "id": EXAMPLE_ID, "result": {"sent": True}, "state": "completed", "error": None, "completed": True},
        ),
    ),
    Spec(
        GetAttempts, Does.READS, Path("GET", "/jobs/:id/attempts"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ,
        example=Example(
            None,
            {
                "ok": True,
                "attempts": [
                    {
                        "attempt": 1, "startedAt": 1700000000500, "failedAt": 1700000001000, "duration": 500,
                        "reason": "explicit_fail", "by": "mail-3", "error": "SMTP connection refused", "stack": None,
                    },
                ],
            },
        ),
    ),
    Spec(
        GetTimeline, Does.READS, Path("GET", "/jobs/:id/timeline"), refuses=(NOT_A_PLACE,), again=Again.FREELY, role=Role.READ,
        example=Example(
            None,
            {
                "ok": True, "id": EXAMPLE_ID, "state": "failed",
                "entries": [
                    {"at": 1700000000000, "what": "pushed"},
                    {"at": 1700000000500, "what": "pulled", "by": "mail-3"},
                    {
                        "at": 1700000001000, "what": "failed", "by": "mail-3", "attempt": 1, "reason": "max_attempts_exceeded",
                        "error": "SMTP connection refused",
                    },
                    {"at": 1700000001000, "what": "died", "reason": "max_attempts_exceeded", "error": "SMTP connection refused"},
                ],
                "scanned": 240, "complete": True, "gap": False, "next": None,
            },
        ),
    ),
    Spec(
        Why, Does.READS, Path("GET", "/jobs/:id/why"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ, settled_by="everything",
        example=Example(
            None,
            {
                "ok": True, "id": EXAMPLE_ID, "queue": "emails", "state": "waiting", "code": "in-line",
                "why": "It is number 7 in line, behind 2 of higher priority. 5 jobs of the queue are active.",
                "attempts": 0, "since": None, "until": None, "position": 7, "higher": 2, "exact": True, "active": 5,
                "limit": None, "pullsWaiting": 0, "usual": None, "waitsFor": None, "waitsForCount": None, "expiresAt": None,
            },
        ),
    ),
)  # fmt: skip
