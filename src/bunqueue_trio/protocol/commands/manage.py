"""Commands that change jobs from outside: neither their producer's push nor their worker's report."""

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command
from bunqueue_trio.protocol.commands.spec import EXAMPLE_OK, Again, Does, Example, Path, Spec


class Cancel(Command[r.DataReply], kw_only=True, tag="Cancel"):
    """Remove an unfinished job, an active one too."""

    id: str = ""


class Promote(Command[r.DataReply], kw_only=True, tag="Promote"):
    """Make a delayed job ready now, and a job that waits out its backoff, too; it queues behind those that are."""

    id: str = ""


NOT_DELAYED = Fault(400, "Job not found or not delayed", "not-delayed")

SPECS: tuple[Spec, ...] = (
    Spec(
        Cancel, Does.CHANGES, Path("DELETE", "/jobs/:id", optional_body=True), refuses=(errors.JOB_NOT_FOUND,),
        again=Again.GUARDED, contract=True, example=Example(None, EXAMPLE_OK),
    ),
    Spec(
        Promote, Does.CHANGES, Path("POST", "/jobs/:id/promote", optional_body=True), refuses=(NOT_DELAYED,),
        again=Again.GUARDED, example=Example(None, EXAMPLE_OK),
    ),
)  # fmt: skip
