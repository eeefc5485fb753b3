"""Commands that look at a job and change nothing."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command
from bunqueue_trio.protocol.commands.spec import EXAMPLE_ID, EXAMPLE_JOB, Again, Does, Example, Path, Role, Spec


class GetJob(Command[r.JobReply], kw_only=True, tag="GetJob"):
    """Read a job."""

    id: str = ""


class GetState(Command[r.StateReply], kw_only=True, tag="GetState"):
    """Read where a job stands, with everything the job view of the contract leaves out."""

    id: str = ""


class GetResult(Command[r.ResultReply], kw_only=True, tag="GetResult"):
    """Read the result of a completed job."""

    id: str = ""


_REFUSES = (errors.JOB_NOT_FOUND,)

SPECS: tuple[Spec, ...] = (
    Spec(
        GetJob, Does.READS, Path("GET", "/jobs/:id"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ,
        contract=True,
        example=Example(None, {"ok": True, "job": EXAMPLE_JOB}),
    ),
    Spec(GetState, Does.READS, Path("GET", "/jobs/:id/state"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ),
    Spec(
        GetResult, Does.READS, Path("GET", "/jobs/:id/result"), refuses=_REFUSES, again=Again.FREELY, role=Role.READ,
        example=Example(None, {"ok": True, "id": EXAMPLE_ID, "result": {"sent": True}}),
    ),
)  # fmt: skip
