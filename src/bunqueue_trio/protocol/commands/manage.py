"""Commands that change jobs from outside: neither their producer's push nor their worker's report."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command
from bunqueue_trio.protocol.commands.spec import EXAMPLE_OK, Again, Does, Example, Path, Spec


class Cancel(Command[r.DataReply], kw_only=True, tag="Cancel"):
    """Remove an unfinished job, an active one too."""

    id: str = ""


SPECS: tuple[Spec, ...] = (
    Spec(
        Cancel, Does.CHANGES, Path("DELETE", "/jobs/:id", optional_body=True), refuses=(errors.JOB_NOT_FOUND,),
        again=Again.GUARDED, contract=True, example=Example(None, EXAMPLE_OK),
    ),
)  # fmt: skip
