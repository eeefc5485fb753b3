"""What a client reports of jobs, and need not hear as events."""

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.hub import Report, Subscription

_KINDS: dict[type[c.Command], str] = {
    c.Ack: "completed", c.AckBatch: "completed", c.Fail: "failed", c.FailBatch: "failed",
}  # fmt: skip


def note_reported(begun: Begun, subscription: Subscription) -> None:
    """Keep from the peer the events of its own report until it has the answer: the events would come first."""
    begun.report = report_of(begun, subscription.types)
    if begun.report is not None:
        subscription.reports[begun.report] = None


def withdraw_reported(begun: Begun | None, subscription: Subscription) -> None:
    """Let the peer have the events of its own report after all: the answer does not say that it happened."""
    if begun is not None and begun.report is not None:
        subscription.withdraw(begun.report)


def report_of(begun: Begun, types: frozenset[str]) -> Report | None:
    """Return what a command reports of jobs, from its first step on; None: no events of these ``types`` come of it."""
    if _KINDS.get(type(begun.command)) not in types:
        return None
    if begun.done is not None:
        return Report(begun.done)
    jobs = _jobs(begun) if begun.epoch else None
    return Report(jobs) if jobs else None


def _jobs(begun: Begun) -> set[str] | None:
    match begun.command, begun.reply:
        case ((c.Ack(id=job_id) | c.Fail(id=job_id)), _):
            return {job_id}
        case c.AckBatch(ids=ids), r.DataReply(data={"ignoredIds": [*ignored]}):
            return set(ids).difference(ignored)
        case c.AckBatch(ids=ids), _:
            return set(ids)
        case c.FailBatch(failures=failures), r.FailBatchReply(data=told):
            return {failure.id for failure in failures}.difference(told.ignored_ids or ())
        case _:
            return None
