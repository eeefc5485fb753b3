"""A change that takes several steps, and is to be in one commit all the same."""

import trio

from bunqueue_trio.engine.commands.push import Bulk
from bunqueue_trio.engine.commands.report import FAILURE_ACKS, Acks, Failures, Heartbeats
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol import commands as c

Bulky = Bulk | Acks | Failures | Heartbeats
"""What does the work of a bulk command, some jobs in a step."""

BULKS = frozenset({c.PushBatch, c.AckBatch, c.FailBatch, c.HeartbeatBatch})


def work_of(command: c.Command) -> int:
    """Return how many pushes or acks the work of a bulk command is."""
    match command:
        case c.PushBatch():
            return len(command.jobs)
        case c.FailBatch():
            return FAILURE_ACKS * len(command.failures)
        case c.AckBatch() | c.HeartbeatBatch():
            return len(command.ids)
        case _:
            raise AssertionError(command)


def is_durable(command: c.Command) -> bool:
    """Return whether what a command changes is to be on the disk before it is answered."""
    if isinstance(command, c.Push):
        return command.durable
    return isinstance(command, c.PushBatch) and any(job.durable for job in command.jobs)


def begin_bulk(engine: Engine, command: c.Command, owner: str | None) -> Bulky:
    """Find out whether a bulk command is possible; nothing is changed yet.

    Raises:
        Refused: it is not.
    """
    match command:
        case c.PushBatch():
            return Bulk(engine, command)
        case c.FailBatch():
            return Failures(engine, command)
        case c.AckBatch():
            return Acks(engine, command)
        case c.HeartbeatBatch():
            return Heartbeats(engine, command, owner)
        case _:
            raise AssertionError(command)


class Half:
    """Whether such a change is half in; one at a time, since else they could hold up the commits for ever.

    No batch is taken meanwhile. Nothing is waited for but the next step.
    """

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over: trio.Event | None = None
        """Set when it is whole; None: no change is half in."""

    @property
    def is_there(self) -> bool:
        """Whether a change is half in."""
        return self.over is not None

    def begin(self) -> None:
        """Take no batch before :meth:`end`."""
        assert self.over is None
        self.over = trio.Event()

    def end(self) -> None:
        """Take batches again."""
        assert self.over is not None
        self.over.set()
        self.over = None

    async def wait(self) -> None:
        """Wait until no change is half in."""
        while self.over is not None:
            await self.over.wait()
