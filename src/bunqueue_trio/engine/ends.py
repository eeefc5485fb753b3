"""How a job has ended, for whoever waits for it; and the answer about a job, ended or not."""

from typing import NamedTuple

from msgspec import Raw

from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r


class End(NamedTuple):
    """Where a job stands, once it has ended: whatever is kept of it."""

    id: str
    state: State
    result: bytes | None
    error: str | None
    epoch: int
    """The batch that commits it."""


def end_of(job: Job, state: State, epoch: int) -> End:
    """Return how ``job`` ended, or where it stands. The error of an attempt that was not the last is left out."""
    note = job.note
    return End(
        job.id, state, note.result if note else None, note.error if note and state is State.FAILED else None, epoch
    )


def answer(command: "c.WaitJob | c.GetResult", end: End) -> r.ResultReply | r.WaitReply:
    """Return what is answered about a job that stands so."""
    state, result = end.state, r.NULL if end.result is None else Raw(end.result)
    if isinstance(command, c.GetResult) and not command.timeout:
        # As it ever was.
        return r.ResultReply(id=end.id, result=result)
    if isinstance(command, c.GetResult):
        return r.ResultReply(id=end.id, state=state.value, result=result, error=end.error)
    return r.WaitReply(id=end.id, state=state.value, result=result, error=end.error, completed=state is State.COMPLETED)
