"""Commands about the log of a job: what its workers write down while they work on it."""

from typing import Literal

from bunqueue_trio import errors
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import trail_replies as tr
from bunqueue_trio.protocol.commands.base import Command, Count, Name, Text
from bunqueue_trio.protocol.commands.jobs import NOT_A_PLACE
from bunqueue_trio.protocol.commands.spec import EXAMPLE_OK, Again, Does, Example, Path, Role, Spec


class AddLog(Command[r.DataReply], kw_only=True, tag="AddLog"):
    """Add a line to the log of a job, of which the last 1,000 lines and 256 KiB are kept."""

    id: str = ""
    message: Text
    level: Literal["info", "warn", "error"] = "info"


class GetLogs(Command[tr.LogsReply], kw_only=True, tag="GetLogs"):
    """Read the log of a job, oldest line first; ``next`` is the ``after`` of the next page, null after the last."""

    id: str = ""
    limit: Count = 100
    after: Name | None = None


class ClearLogs(Command[r.DataReply], kw_only=True, tag="ClearLogs"):
    """Delete the log of a job."""

    id: str = ""


SPECS: tuple[Spec, ...] = (
    Spec(
        AddLog, Does.CHANGES, Path("POST", "/jobs/:id/logs"), refuses=(errors.JOB_NOT_FOUND,), fills=True,
        example=Example({"message": "half way", "level": "info"}, {"ok": True, "data": {"added": True}}),
    ),
    Spec(
        GetLogs, Does.READS, Path("GET", "/jobs/:id/logs"), refuses=(errors.JOB_NOT_FOUND, NOT_A_PLACE),
        again=Again.FREELY, role=Role.READ,
        example=Example(
            None,
            {
                "ok": True,
                "data": {
                    "logs": [{"timestamp": 1700000000600, "level": "info", "message": "half way"}],
                    "count": 1, "next": None,
                },
            },
        ),
    ),
    Spec(
        ClearLogs, Does.CHANGES, Path("DELETE", "/jobs/:id/logs", optional_body=True), refuses=(errors.JOB_NOT_FOUND,),
        again=Again.FREELY, acts="clear logs", example=Example(None, EXAMPLE_OK),
    ),
)  # fmt: skip
