"""Commands about reruns: dead letters that are retried by the server itself, a few first, as long as they do well."""

from typing import Annotated

from msgspec import Meta

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import rerun_replies as rr
from bunqueue_trio.protocol.commands.base import Command, Count, Key
from bunqueue_trio.protocol.commands.find import EMPTY_FILTER, Filter
from bunqueue_trio.protocol.commands.jobs import UNKNOWN_STATE
from bunqueue_trio.protocol.commands.spec import Again, Does, Example, Path, Role, Spec

Part = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]


class RerunDlq(Command[rr.RerunReply], kw_only=True, tag="RerunDlq", forbid_unknown_fields=True):
    """Begin to retry the dead letters that a filter describes: ``count`` of them first, and the others if those do well.

    The server goes on with it, over restarts too: at most ``rate`` a second, newest first, those that were dead when it began. It stops by itself
    when more than ``stopAt`` percent of what it has retried die again. It is refused where a queue is paused, or nobody asks for its jobs;
    the latter not with ``force``.
    """

    filter: Filter
    count: Count = 10
    rate: Count = 10
    stop_at: Part = 20
    force: bool = False


class ListReruns(Command[rr.RerunsReply], kw_only=True, tag="ListReruns"):
    """List the reruns that are under way, and the last that have ended, newest first."""


class StopRerun(Command[rr.RerunReply], kw_only=True, tag="StopRerun"):
    """Stop a rerun: it retries no more. What it has retried stays so."""

    rerun: Key = ""


NOTHING_DEAD = Fault(
    404,
    "No dead letter is as the filter says: it may be retried or deleted by now; GET /dead/groups has the groups of errors",
    "nothing-dead",
)
QUEUE_PAUSED = Fault(409, "Queue {} is paused: resume it first, or nobody finds out how they fare", "queue-paused")
NOBODY_ASKS = Fault(409, "Nobody asks for jobs of queue {}: start a worker first, or say force", "nobody-asks")
TOO_MANY_RERUNS = Fault(409, "Too many reruns are under way", "too-many-reruns")
RERUN_NOT_FOUND = Fault(404, "Rerun not found", "rerun-not-found")

_EXAMPLE = {
    "id": "01924f5a-7b3c-7def-8a12-3456789abcde", "filter": {"queue": "emails", "fingerprint": "2a253bca139c"},
    "count": 10, "rate": 10, "stopAt": 20, "state": "first", "why": None, "startedAt": 1700000000000, "endedAt": None,
    "retried": 10, "open": 3, "died": 1, "refused": {"key-held": 1},
}  # fmt: skip

SPECS: tuple[Spec, ...] = (
    Spec(
        RerunDlq, Does.CHANGES, Path("POST", "/dead/rerun"),
        refuses=(errors.INVALID_QUEUE, UNKNOWN_STATE, EMPTY_FILTER, NOTHING_DEAD, QUEUE_PAUSED, NOBODY_ASKS, TOO_MANY_RERUNS),
        role=Role.ADMIN, fills=True, acts="rerun",
        example=Example(
            {"filter": {"queue": "emails", "fingerprint": "2a253bca139c"}, "count": 10, "stopAt": 20},
            {"ok": True, "rerun": _EXAMPLE | {"retried": 0, "open": 0, "died": 0, "refused": {}}},
        ),
    ),
    Spec(
        ListReruns, Does.READS, Path("GET", "/dead/reruns"), again=Again.FREELY, role=Role.READ, settled_by="everything",
        example=Example(None, {"ok": True, "reruns": [_EXAMPLE]}),
    ),
    Spec(
        StopRerun, Does.CHANGES, Path("POST", "/dead/reruns/:rerun/stop", optional_body=True), refuses=(RERUN_NOT_FOUND,),
        again=Again.FREELY, role=Role.ADMIN, acts="reruns stop",
        example=Example(
            None, {"ok": True, "rerun": _EXAMPLE | {"state": "stopped", "why": "somebody stopped it", "endedAt": 1700000009000}}
        ),
    ),
)  # fmt: skip
