"""Commands that remove, or promote, many jobs of a queue at once."""

from bunqueue_trio import errors
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command, Count, EpochMs, Name, YearMs
from bunqueue_trio.protocol.commands.jobs import NOT_A_PLACE
from bunqueue_trio.protocol.commands.spec import EXAMPLE_ID, Does, Example, Path, Role, Spec


class Drain(Command[r.DrainReply], kw_only=True, tag="Drain", forbid_unknown_fields=True):
    """Remove ``limit`` waiting jobs of a queue, the next ones first, and delayed ones if told; go on while some are left.

    What has come since ``asOf``, the moment at which whoever goes on has begun, stays. Where very much has, the answer has a ``next``: go on behind it.
    """

    queue: str = ""
    delayed: bool = False
    limit: Count = 1000
    as_of: EpochMs | None = None
    after: Name | None = None


class PromoteJobs(Command[r.PromoteReply], kw_only=True, tag="PromoteJobs", forbid_unknown_fields=True):
    """Make ``count`` delayed jobs of a queue ready now, those first whose time is next; go on while some are left.

    They queue behind those that are ready, in this order. What has come since ``asOf`` stays as it is; ``next`` as of ``Drain``.
    """

    queue: str = ""
    count: Count = 1000
    as_of: EpochMs | None = None
    after: Name | None = None


class Clean(Command[r.CleanReply], kw_only=True, tag="Clean", forbid_unknown_fields=True):
    """Remove jobs in one state that are older than ``grace`` ms, of ``limit`` at a time; go on behind ``after``.

    The age of an unfinished job counts from its push, that of a finished one from its end, until now or the moment ``asOf``: whoever goes on says the one
    at which they began, and takes nothing that came meanwhile. ``dryRun`` tells what would be removed, and
    about how many ``bytes`` these jobs take, and removes nothing.
    """

    queue: str = ""
    state: Name
    grace: YearMs = 0
    as_of: EpochMs | None = None
    limit: Count = 1000
    after: Name | None = None
    dry_run: bool = False


class Obliterate(Command[r.ObliterateReply], kw_only=True, tag="Obliterate", forbid_unknown_fields=True):
    """Remove all that is left of a queue, ``limit`` jobs at a time; active ones only by ``force``. Repeat it until it is done."""

    queue: str = ""
    force: bool = False
    limit: Count = 1000


NOT_CLEANABLE = Fault(400, "state must be waiting, delayed, waiting-children, completed or failed", "not-cleanable")
HAS_ACTIVE = Fault(409, "Queue has active jobs: force takes them from their workers", "has-active")

SPECS: tuple[Spec, ...] = (
    Spec(
        Drain, Does.CHANGES, Path("POST", "/queues/:queue/drain", optional_body=True), role=Role.ADMIN,
        refuses=(errors.INVALID_QUEUE, NOT_A_PLACE),
        acts="drain", sliced=True, example=Example({"delayed": True}, {"ok": True, "count": 1000, "left": 234, "next": None}),
    ),
    Spec(
        PromoteJobs, Does.CHANGES, Path("POST", "/queues/:queue/promote-jobs", optional_body=True), role=Role.ADMIN,
        refuses=(errors.INVALID_QUEUE, NOT_A_PLACE),
        acts="promote", sliced=True, example=Example({"count": 10}, {"ok": True, "count": 10, "left": 234, "next": None}),
    ),
    Spec(
        Clean, Does.CHANGES, Path("POST", "/queues/:queue/clean"), role=Role.ADMIN,
        refuses=(errors.INVALID_QUEUE, NOT_A_PLACE, NOT_CLEANABLE),
        acts="clean", sliced=True, example=Example(
            {"state": "completed", "grace": 86400000},
            {"ok": True, "count": 1, "ids": [EXAMPLE_ID], "scanned": 40, "bytes": 412, "next": None},
        ),
    ),
    Spec(
        Obliterate, Does.CHANGES, Path("POST", "/queues/:queue/obliterate", optional_body=True), role=Role.ADMIN,
        refuses=(HAS_ACTIVE,), acts="obliterate", sliced=True, example=Example({"force": True}, {"ok": True, "count": 1000, "done": False}),
    ),
)  # fmt: skip
