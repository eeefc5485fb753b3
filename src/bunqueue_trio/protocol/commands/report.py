"""Commands by which a holder says how its job goes."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import (
    EMPTY,
    Command,
    JobIds,
    Key,
    LockMs,
    Name,
    Percent,
    Results,
    Text,
    Tokens,
    YearMs,
)
from bunqueue_trio.protocol.commands.spec import (
    EXAMPLE_ID,
    EXAMPLE_OK,
    EXAMPLE_TOKEN,
    Again,
    Does,
    Example,
    Path,
    Spec,
)


class Ack(Command[r.DataReply], kw_only=True, tag="ACK"):
    """Complete an active job, optionally with a result."""

    id: str = ""
    token: Name | None = None
    result: Raw = EMPTY


class AckBatch(Command[r.DataReply], kw_only=True, tag="ACKB"):
    """Complete several active jobs; those that are not active are named in the answer."""

    ids: JobIds
    tokens: Tokens | None = None
    results: Results | None = None


class Fail(Command[r.DataReply], kw_only=True, tag="FAIL"):
    """Report a failed attempt: the job is retried, or goes to the dead-letter queue.

    An ``unrecoverable`` one is the last, whatever attempts are left. ``retryIn`` is the ms until the next one, instead of the
    backoff; it gives no attempt more. Both at once are refused. ``stack`` is kept with the attempt.
    """

    id: str = ""
    token: Name | None = None
    error: Text | None = None
    stack: Text | None = None
    unrecoverable: bool = False
    retry_in: YearMs | None = None


# A failure is up to twenty times the work of an ack.
FAILURES_MAX = 500
FAILURES_BYTES = 2 * 1024 * 1024
"""How large the command may be: each text in it may be one that takes long to make a text of, 80 ms in all."""


class Failure(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What is said of one of several jobs that have failed, as in FAIL."""

    id: Key
    token: Name | None = None
    error: Text | None = None
    stack: Text | None = None
    unrecoverable: bool = False
    retry_in: YearMs | None = None


class FailBatch(Command[r.FailBatchReply], kw_only=True, tag="FAILB"):
    """Report several failed attempts, each as with FAIL; jobs that are not active are named in the answer.

    ``runAt`` there says of each, in their order, when its next attempt may begin: null for one that has none, or did not count.
    ``ignoredIds`` names the jobs that are not active, or not held by the token; without any it is left out.
    """

    failures: Annotated[list[Failure], Meta(max_length=FAILURES_MAX)]


class Heartbeat(Command[r.DataReply], kw_only=True, tag="JobHeartbeat"):
    """Renew the lease of an active job, for ``duration`` ms or as long as it was first given."""

    id: str = ""
    token: Name | None = None
    duration: LockMs | None = None


class HeartbeatBatch(Command[r.DataReply], kw_only=True, tag="JobHeartbeatB"):
    """Renew several leases; the answer counts those that are still held."""

    ids: JobIds
    tokens: Tokens | None = None


class ExtendLock(Command[r.DataReply], kw_only=True, tag="ExtendLock"):
    """Set the lease of an active job to end ``duration`` ms from now."""

    id: str = ""
    token: Name
    duration: LockMs


class Release(Command[r.DataReply], kw_only=True, tag="Release"):
    """Return an active job to its previous position: no attempt is charged, and no stall."""

    id: str = ""
    token: Name | None = None


class Progress(Command[r.DataReply], kw_only=True, tag="Progress"):
    """Report how far an active job is; this renews its lease too."""

    id: str = ""
    progress: Percent
    message: Text | None = None
    token: Name | None = None


_REFUSES = (errors.NOT_ACTIVE, errors.LOST_LOCK)
RETRY_EXCLUDED = Fault(400, "unrecoverable and retryIn exclude each other", "retry-excluded")

SPECS: tuple[Spec, ...] = (
    Spec(
        Ack, Does.CHANGES, Path("POST", "/jobs/:id/ack", optional_body=True), refuses=_REFUSES, timed="ack",
        again_with_token=Again.GUARDED,
        example=Example({"result": {"sent": True, "messageId": "abc-123"}, "token": EXAMPLE_TOKEN}, EXAMPLE_OK),
    ),
    Spec(
        AckBatch, Does.CHANGES, Path("POST", "/jobs/ack-batch"), timed="ack",
        again_with_token=Again.GUARDED,
        example=Example({"ids": [EXAMPLE_ID]}, {"ok": True, "data": {"ignoredIds": [EXAMPLE_ID]}}),
    ),
    Spec(
        Fail, Does.CHANGES, Path("POST", "/jobs/:id/fail", optional_body=True), refuses=(*_REFUSES, RETRY_EXCLUDED),
        again_with_token=Again.GUARDED,
        example=Example({"error": "SMTP connection refused", "token": EXAMPLE_TOKEN}, EXAMPLE_OK),
    ),
    Spec(
        FailBatch, Does.CHANGES, Path("POST", "/jobs/fail-batch"), refuses=(RETRY_EXCLUDED,),
        again_with_token=Again.GUARDED,
        example=Example(
            {"failures": [{"id": "letter-1", "error": "SMTP connection refused"}, {"id": EXAMPLE_ID, "retryIn": 30000}]},
            {"ok": True, "data": {"runAt": [1700000001000, None], "ignoredIds": [EXAMPLE_ID]}},
        ),
    ),
    Spec(
        Heartbeat, Does.CHANGES, Path("POST", "/jobs/:id/heartbeat", optional_body=True), refuses=_REFUSES,
        again=Again.FREELY,
        example=Example({"token": EXAMPLE_TOKEN}, {"ok": True, "data": {"ok": True, "count": 1}}),
    ),
    Spec(
        HeartbeatBatch, Does.CHANGES, Path("POST", "/jobs/heartbeat-batch"), again=Again.FREELY,
        example=Example({"ids": [EXAMPLE_ID]}, {"ok": True, "data": {"ok": True, "count": 0, "lostIds": [EXAMPLE_ID]}}),
    ),
    Spec(
        ExtendLock, Does.CHANGES, Path("POST", "/jobs/:id/extend-lock"), refuses=_REFUSES, again=Again.FREELY,
        example=Example({"token": EXAMPLE_TOKEN, "duration": 60000}, EXAMPLE_OK),
    ),
    Spec(
        Release, Does.CHANGES, Path("POST", "/jobs/:id/release", optional_body=True), refuses=_REFUSES,
        again_with_token=Again.GUARDED,
        example=Example({"token": EXAMPLE_TOKEN}, EXAMPLE_OK),
    ),
    Spec(
        Progress, Does.CHANGES, Path("POST", "/jobs/:id/progress"), refuses=_REFUSES, again=Again.FREELY,
        example=Example({"progress": 50, "message": "half way"}, EXAMPLE_OK),
    ),
)  # fmt: skip
