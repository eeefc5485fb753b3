"""Commands about dead letters: jobs that failed for good and are kept."""

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, Count, Key, Name
from bunqueue_trio.protocol.commands.jobs import NOT_A_PLACE
from bunqueue_trio.protocol.commands.spec import EXAMPLE_DEAD_JOB, EXAMPLE_ID, Again, Does, Example, Path, Role, Spec


class Dlq(Command[r.DeadReply], kw_only=True, tag="Dlq"):
    """List the dead letters of a queue, newest first; ``next`` is the ``after`` of the next page, null after the last."""

    queue: str = ""
    limit: Count = 100
    after: Name | None = None


class RetryDlq(Command[r.RetryReply], kw_only=True, tag="RetryDlq", forbid_unknown_fields=True):
    """Let one dead letter of a queue wait again, or ``limit`` of them; goes on behind ``after`` while ``next`` is not null.

    Attempts and stalls start anew, the id stays. ``id`` is the same as ``jobId``: whoever takes the one name for the other
    means one job, not all.
    """

    queue: str = ""
    job_id: Key | None = None
    id: Key | None = None
    limit: Count = 1000
    after: Name | None = None


class PurgeDlq(Command[r.PurgeReply], kw_only=True, tag="PurgeDlq", forbid_unknown_fields=True):
    """Delete one dead letter of a queue for good, or ``limit`` of them; goes on behind ``after`` while ``next`` is not null.

    ``id`` is the same as ``jobId``.
    """

    queue: str = ""
    job_id: Key | None = None
    id: Key | None = None
    limit: Count = 1000
    after: Name | None = None


NOT_DEAD = Fault(404, "No dead letter of this id in this queue", "not-dead")
KEY_IS_HELD = Fault(400, "Another unfinished job has the uniqueKey of this one", "key-held")

SPECS: tuple[Spec, ...] = (
    Spec(
        Dlq, Does.READS, Path("GET", "/queues/:queue/dlq"), refuses=(errors.INVALID_QUEUE, NOT_A_PLACE),
        again=Again.FREELY, role=Role.READ, settled_by="everything",
        example=Example(
            None,
            {
                "ok": True,
                "entries": [
                    {
                        "job": EXAMPLE_DEAD_JOB,
                        "enteredAt": 1700000001000, "reason": "max_attempts_exceeded",
                        "error": "SMTP connection refused",
                    },
                ],
                "total": 42,
                "next": "41",
            },
        ),
    ),
    Spec(
        RetryDlq, Does.CHANGES, Path("POST", "/queues/:queue/dlq/retry", optional_body=True),
        refuses=(errors.INVALID_QUEUE, NOT_A_PLACE, NOT_DEAD, KEY_IS_HELD), role=Role.ADMIN, fills=True,
        example=Example({"jobId": EXAMPLE_ID}, {"ok": True, "count": 1, "left": 41, "next": None}),
    ),
    Spec(
        PurgeDlq, Does.CHANGES, Path("POST", "/queues/:queue/dlq/purge", optional_body=True),
        refuses=(errors.INVALID_QUEUE, NOT_A_PLACE, NOT_DEAD), role=Role.ADMIN,
        example=Example({"jobId": EXAMPLE_ID}, {"ok": True, "count": 1, "left": 41, "next": None}),
    ),
)  # fmt: skip
