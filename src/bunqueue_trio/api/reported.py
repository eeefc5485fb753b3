"""What a client reports of jobs, and need not hear as events."""

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.hub import Reporting


def reported(begun: Begun) -> tuple[str, set[str]]:
    """Return the type of event that a command brings which reports how jobs went, and which jobs those are."""
    match begun.command, begun.reply:
        case c.Ack(id=job_id), _:
            return "completed", {job_id}
        case c.Fail(id=job_id), _:
            return "failed", {job_id}
        case c.AckBatch(ids=ids), r.DataReply(data={"ignoredIds": [*ignored]}):
            return "completed", set(ids).difference(ignored)
        case c.AckBatch(ids=ids), _:
            return "completed", set(ids)
        case c.FailBatch(failures=failures), r.FailBatchReply(data=told):
            return "failed", {failure.id for failure in failures}.difference(told.ignored_ids or ())
        case _:
            return "", set()


def reporting(begun: Begun) -> Reporting | None:
    """Return what a command reports that takes several steps, from its first step on."""
    return None if begun.done is None else Reporting(begun.done)
