"""Commands that change jobs from outside: neither their producer's push nor their worker's report."""

from msgspec import Raw

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import EMPTY, Command, DayMs, EveryMs, Name, Priority, YearMs
from bunqueue_trio.protocol.commands.dead import KEY_IS_HELD
from bunqueue_trio.protocol.commands.spec import EXAMPLE_OK, Again, Does, Example, Path, Role, Spec


class Cancel(Command[r.DataReply], kw_only=True, tag="Cancel"):
    """Remove an unfinished job, an active one too.

    With a ``reason``, or ``by`` whom, a record is kept: it counts as failed, for the reason ``cancelled``. ``grace`` is the ms that the
    worker of an active one has to end it: what it reports meanwhile counts.
    """

    id: str = ""
    reason: Name | None = None
    by: Name | None = None
    grace: DayMs | None = None


class Promote(Command[r.DataReply], kw_only=True, tag="Promote"):
    """Make a delayed job ready now, and a job that waits out its backoff, too; it queues behind those that are."""

    id: str = ""


class Discard(Command[r.DataReply], kw_only=True, tag="Discard"):
    """Make a dead letter of an unfinished job, an active one too."""

    id: str = ""


class ChangePriority(Command[r.DataReply], kw_only=True, tag="ChangePriority"):
    """Give another priority to a job that is not active; it takes the place it would have had by its age."""

    id: str = ""
    priority: Priority
    lifo: bool | None = None


class ChangeDelay(Command[r.DataReply], kw_only=True, tag="ChangeDelay"):
    """Let a job that is not active be ready ``delay`` ms from now; a ready one waits again, unless it is 0."""

    id: str = ""
    delay: YearMs


class MoveToDelayed(Command[r.DataReply], kw_only=True, tag="MoveToDelayed"):
    """Let a job, an active one too, be ready ``delay`` ms from now; no attempt is counted."""

    id: str = ""
    delay: EveryMs
    token: Name | None = None


class MoveToWait(Command[r.DataReply], kw_only=True, tag="MoveToWait"):
    """Let a job wait for a worker now: an active or delayed one, or a dead letter; of one that waits already nothing changes.

    An active one goes back to its previous position, at no attempt; a delayed one is promoted, a dead letter retried: that takes the role
    ``admin``, as any retry.
    """

    id: str = ""
    token: Name | None = None


class Update(Command[r.DataReply], kw_only=True, tag="Update"):
    """Give another payload to a job that is not active."""

    id: str = ""
    data: Raw = EMPTY


NOT_DELAYED = Fault(400, "Job not found or not delayed", "not-delayed")
IS_ACTIVE = Fault(409, "Job is active", "is-active")
NEVER_READY = Fault(409, "Job waits for others: only their ends make it ready", "waits-for-others")

SPECS: tuple[Spec, ...] = (
    Spec(
        Cancel, Does.CHANGES, Path("DELETE", "/jobs/:id", optional_body=True), refuses=(errors.JOB_NOT_FOUND,),
        again=Again.GUARDED, acts="cancel", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        Promote, Does.CHANGES, Path("POST", "/jobs/:id/promote", optional_body=True), refuses=(NOT_DELAYED,),
        again=Again.GUARDED, acts="promote", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        Discard, Does.CHANGES, Path("POST", "/jobs/:id/discard", optional_body=True), refuses=(errors.JOB_NOT_FOUND,),
        again=Again.GUARDED, acts="discard", example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        ChangePriority, Does.CHANGES, Path("PUT", "/jobs/:id/priority"), refuses=(errors.JOB_NOT_FOUND, IS_ACTIVE),
        again=Again.FREELY, acts="change --priority", example=Example({"priority": 10}, EXAMPLE_OK),
    ),
    Spec(
        ChangeDelay, Does.CHANGES, Path("PUT", "/jobs/:id/delay"), refuses=(errors.JOB_NOT_FOUND, IS_ACTIVE),
        again=Again.FREELY, acts="change --delay", example=Example({"delay": 60000}, EXAMPLE_OK),
    ),
    Spec(
        MoveToDelayed, Does.CHANGES, Path("POST", "/jobs/:id/move-to-delayed"),
        refuses=(errors.JOB_NOT_FOUND, errors.NOT_ACTIVE, errors.LOST_LOCK, NEVER_READY), again=Again.GUARDED,
        acts="change --delay", example=Example({"delay": 60000}, EXAMPLE_OK),
    ),
    Spec(
        MoveToWait, Does.CHANGES, Path("POST", "/jobs/:id/move-to-wait", optional_body=True),
        refuses=(errors.JOB_NOT_FOUND, errors.NOT_ACTIVE, errors.LOST_LOCK, NEVER_READY, KEY_IS_HELD), again=Again.FREELY,
        again_with_token=Again.GUARDED, fills=True, acts="move to wait", revives_role=Role.ADMIN, example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        Update, Does.CHANGES, Path("PUT", "/jobs/:id/data"), refuses=(errors.JOB_NOT_FOUND, IS_ACTIVE),
        again=Again.FREELY, fills=True, acts="change --data", example=Example({"data": {"to": "user@test.com"}}, EXAMPLE_OK),
    ),
)  # fmt: skip
