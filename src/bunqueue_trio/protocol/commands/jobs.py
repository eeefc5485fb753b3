"""Commands that look at many jobs at once."""

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, Count, Name
from bunqueue_trio.protocol.commands.spec import EXAMPLE_DEAD_JOB, Again, Does, Example, Path, Role, Spec


class GetJobs(Command[r.JobsReply], kw_only=True, tag="GetJobs"):
    """List the jobs of a queue in one state; ``next`` is the ``after`` of the next page, null after the last.

    Unfinished ones come as they would be delivered or become ready, finished ones newest end first.
    """

    queue: str = ""
    state: Name
    limit: Count = 100
    after: Name | None = None


UNKNOWN_STATE = Fault(
    400, "state must be waiting, delayed, waiting-children, active, completed or failed", "unknown-state"
)
NOT_A_PLACE = Fault(400, "after must be the next of an earlier page of the same state", "not-a-place")

SPECS: tuple[Spec, ...] = (
    Spec(
        GetJobs, Does.READS, Path("GET", "/queues/:queue/jobs/list"),
        refuses=(errors.INVALID_QUEUE, UNKNOWN_STATE, NOT_A_PLACE), again=Again.FREELY, role=Role.READ,
        settled_by="everything",
        example=Example(
            {"state": "failed"},
            {
                "ok": True,
                "jobs": [
                    EXAMPLE_DEAD_JOB | {"state": "failed", "error": "SMTP connection refused", "reason": "max_attempts_exceeded"},
                ],
                "next": "41",
            },
        ),
    ),
)  # fmt: skip
