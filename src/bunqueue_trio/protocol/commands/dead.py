"""Commands about dead letters: jobs that failed for good and are kept."""

from typing import Annotated, Literal

from msgspec import Meta, Raw

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import EMPTY, Command, Count, Key, Name
from bunqueue_trio.protocol.commands.jobs import NOT_A_PLACE
from bunqueue_trio.protocol.commands.spec import EXAMPLE_DEAD_JOB, EXAMPLE_ID, Again, Does, Example, Path, Role, Spec

# A few records of each are read for it.
GroupCount = Annotated[int, Meta(ge=1, le=100)]


class Dlq(Command[r.DeadReply], kw_only=True, tag="Dlq"):
    """List the dead letters of a queue, newest first, of one error if told; goes on behind ``after`` while ``next`` is not null."""

    queue: str = ""
    fingerprint: Name | None = None
    error: Name | None = None
    limit: Count = 100
    after: Name | None = None


class DlqGroups(Command[r.GroupsReply], kw_only=True, tag="DlqGroups"):
    """Count the dead letters of a queue by the error that they died of, largest group first; goes on behind ``after``.

    With ``retrying`` also by what jobs have failed with that are tried again: errors that no job has died of yet are among them, and the size of a group is both.
    """

    queue: str = ""
    limit: GroupCount = 20
    after: Name | None = None
    retrying: bool = False


class DeadGroups(Command[r.GroupsReply], kw_only=True, tag="DeadGroups"):
    """Count the dead letters of all queues by the error that they died of, largest group first; goes on behind ``after``.

    ``retrying`` is as for those of one queue.
    """

    limit: GroupCount = 20
    after: Name | None = None
    retrying: bool = False


class RetryDlq(Command[r.RetryReply], kw_only=True, tag="RetryDlq", forbid_unknown_fields=True):
    """Let one dead letter of a queue wait again, or ``limit`` of them; goes on behind ``after`` while ``next`` is not null.

    ``fingerprint`` and ``error``: only those of this group, or with this text in their error. Attempts and stalls start anew, the id stays.
    ``data``: the payload of the one that is named, in place of its own. ``id`` is the same as ``jobId``: whoever takes the one name for the other
    means one job, not all.
    """

    queue: str = ""
    job_id: Key | None = None
    id: Key | None = None
    fingerprint: Name | None = None
    error: Name | None = None
    data: Raw = EMPTY
    limit: Count = 1000
    after: Name | None = None


class PurgeDlq(Command[r.PurgeReply], kw_only=True, tag="PurgeDlq", forbid_unknown_fields=True):
    """Delete one dead letter of a queue for good, or ``limit`` of them; goes on behind ``after`` while ``next`` is not null.

    ``id``, ``fingerprint`` and ``error`` are as those of a retry.
    """

    queue: str = ""
    job_id: Key | None = None
    id: Key | None = None
    fingerprint: Name | None = None
    error: Name | None = None
    limit: Count = 1000
    after: Name | None = None


class MarkGroup(Command[r.DataReply], kw_only=True, tag="MarkGroup"):
    """Say of an error that it is ``fixed``, and a finding speaks of it when it comes back; or ``muted``, and none does; ``none`` takes that back."""

    fingerprint: str = ""
    mark: Literal["fixed", "muted", "none"]


NOT_A_GROUP = Fault(400, "fingerprint must be that of a group of errors", "not-a-group")
DATA_OF_ONE = Fault(400, "data is for one dead letter: jobId is required", "data-of-one")
NOT_DEAD = Fault(404, "No dead letter of this id in this queue", "not-dead")
KEY_IS_HELD = Fault(400, "Another unfinished job has the uniqueKey of this one", "key-held")

_EXAMPLE_GROUP = {
    "fingerprint": "2a253bca139c", "shape": "ConnectionError: … refused", "count": 3000,
    "retrying": 40, "nextTryAt": 1700000962000, "retryingQueues": {"emails": 40},
    "firstSeen": 1700000001000, "lastSeen": 1700000961000, "queues": {"emails": 2990, "reports": 10},
    "example": {
        "id": EXAMPLE_ID, "queue": "emails", "enteredAt": 1700000961000, "reason": "max_attempts_exceeded",
        "error": "ConnectionError: 10.0.0.7:25 refused",
    },
    "common": {"sampled": 11, "tags": ["nightly"], "groupId": None, "keys": ["to"]}, "mark": None, "markedAt": None,
}  # fmt: skip

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
                        "fingerprint": "edd9f12d55e5", "retryCount": 1, "nextRetryAt": 1700003601000,
                    },
                ],
                "total": 42,
                "next": "41",
            },
        ),
    ),
    Spec(
        DlqGroups, Does.READS, Path("GET", "/queues/:queue/dlq/groups"), refuses=(errors.INVALID_QUEUE, NOT_A_PLACE),
        again=Again.FREELY, role=Role.READ, settled_by="everything",
        example=Example(None, {"ok": True, "groups": [_EXAMPLE_GROUP], "total": 3, "next": None}),
    ),
    Spec(
        DeadGroups, Does.READS, Path("GET", "/dead/groups"), refuses=(NOT_A_PLACE,),
        again=Again.FREELY, role=Role.READ, settled_by="everything",
        example=Example(None, {"ok": True, "groups": [_EXAMPLE_GROUP], "total": 3, "next": None}),
    ),
    Spec(
        MarkGroup, Does.CHANGES, Path("PUT", "/dead/groups/:fingerprint/mark"), refuses=(NOT_A_GROUP,), again=Again.FREELY,
        role=Role.ADMIN, acts="mark", example=Example({"mark": "fixed"}, {"ok": True}),
    ),
    Spec(
        RetryDlq, Does.CHANGES, Path("POST", "/queues/:queue/dlq/retry", optional_body=True),
        refuses=(errors.INVALID_QUEUE, NOT_A_PLACE, NOT_DEAD, KEY_IS_HELD, DATA_OF_ONE), role=Role.ADMIN, fills=True,
        acts="retry", sliced=True, example=Example({"jobId": EXAMPLE_ID}, {"ok": True, "count": 1, "left": 41, "next": None}),
    ),
    Spec(
        PurgeDlq, Does.CHANGES, Path("POST", "/queues/:queue/dlq/purge", optional_body=True),
        refuses=(errors.INVALID_QUEUE, NOT_A_PLACE, NOT_DEAD), role=Role.ADMIN,
        acts="purge", sliced=True, example=Example({"jobId": EXAMPLE_ID}, {"ok": True, "count": 1, "left": 41, "next": None}),
    ),
)  # fmt: skip
