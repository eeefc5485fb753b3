"""Bulk commands, which take several steps; a push is to be in one commit all the same."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import trio

from bunqueue_trio.config import INLINE_ROWS_MAX, WRITTEN_S
from bunqueue_trio.engine.commands.push import Bulk, pushes_of
from bunqueue_trio.engine.commands.report import Acks, Failures, Heartbeats, most_acks_of
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol import commands as c

Bulky = Bulk | Acks | Failures | Heartbeats
"""What does the work of a bulk command, some jobs in a step."""


LOOKED_AT = 1000
"""Jobs of a bulk push, and dependencies, that are looked at, and the first of them added, in one step: 1 to 3 ms for the look, twice as long where most have ended and are read from the disk."""


class _Work(NamedTuple):
    """What is known of a bulk command."""

    begin: Callable[[Engine, Any, str | None], Bulky]
    size: Callable[[Any], int]
    """Returns how many pushes or acks its work is."""


_WORKS: dict[type[c.Command], _Work] = {
    c.PushBatch: _Work(lambda engine, command, _: Bulk(engine, command, LOOKED_AT), pushes_of),
    c.FailBatch: _Work(
        lambda engine, command, _: Failures(engine, command), lambda command: sum(map(most_acks_of, command.failures))
    ),
    c.AckBatch: _Work(lambda engine, command, _: Acks(engine, command), lambda command: len(command.ids)),
    c.HeartbeatBatch: _Work(Heartbeats, lambda command: len(command.ids)),
}

_DURABLE = attrgetter("durable")

BULKS = _WORKS.keys()
"""Commands that are done in steps where they are large."""


def work_of(command: c.Command) -> int:
    """Return how many pushes or acks the work of a bulk command is."""
    return _WORKS[type(command)].size(command)


def is_durable(command: c.Command) -> bool:
    """Return whether what a command changes is to be on the disk before it is answered."""
    if isinstance(command, c.Push):
        return command.durable
    return isinstance(command, c.PushBatch) and any(map(_DURABLE, command.jobs))


def begin_bulk(engine: Engine, command: c.Command, owner: str | None) -> Bulky:
    """Find out whether a bulk command is possible; nothing is changed yet.

    Raises:
        Refused: it is not.
    """
    return _WORKS[type(command)].begin(engine, command, owner)


def added_by(command: c.Command) -> int:
    """Return how many bytes of payloads a bulk command brings."""
    return sum(len(memoryview(spec.data)) for spec in command.jobs) if isinstance(command, c.PushBatch) else 0


def done_by(bulk: Bulky) -> set[str] | None:
    """Return the jobs whose attempt a bulk command ends; the set grows with each of its parts."""
    return bulk.done if isinstance(bulk, Acks | Failures) else None


class Half:
    """Whether a bulk push is half in; one at a time, since else they could hold up the commits for ever.

    No batch is taken meanwhile, and nothing is waited for but the next step. Acks, failures and heartbeats stand each for
    itself: what is done of them is committed with what others do, and many batches of them may be half done.

    It has the line of all large work, too: in a round of all tasks one step of it is done, and none while the rows of a large
    batch are written, some in each round. Who changes something small waits for that batch and for the next one.
    """

    __slots__ = ("_turn", "over", "written")

    def __init__(self) -> None:
        self.over: trio.Event | None = None
        """Set when it is whole; None: no push is half in."""
        self.written: trio.Event | None = None
        """Set when the last large batch is written, or nobody is to wait for it."""
        self._turn = trio.Lock()

    @property
    def is_there(self) -> bool:
        """Whether a push is half in."""
        return self.over is not None

    def admits(self, command: c.Command) -> bool:
        """Return whether a bulk command may be done in steps now."""
        return self.over is None or not isinstance(command, c.PushBatch)

    def begin(self, command: c.Command) -> None:
        """If ``command`` is a push, take no batch before :meth:`end`."""
        if isinstance(command, c.PushBatch):
            assert self.over is None
            self.over = trio.Event()

    def end(self, command: c.Command) -> None:
        """Take batches again, if ``command`` is the push."""
        if isinstance(command, c.PushBatch):
            assert self.over is not None
            self.over.set()
            self.over = None

    async def next_part(self, command: c.Command) -> None:
        """Wait until ``command`` may go on: a push in each round of all tasks, since no batch is taken before its end."""
        if isinstance(command, c.PushBatch):
            await trio.lowlevel.checkpoint()
        else:
            await self.turn()

    def note_written(self, done: trio.Event, jobs: int) -> None:
        """Note that a batch with this many jobs is about to be written; ``done`` is set when it is, or nobody is to wait for it."""
        if jobs > INLINE_ROWS_MAX:
            self.written = done

    async def turn(self) -> None:
        """Wait in line until the next step of large work may be done."""
        async with self._turn:
            if self.written is not None and not self.written.is_set():
                with trio.move_on_after(WRITTEN_S):
                    await self.written.wait()

    async def wait(self) -> None:
        """Wait until no push is half in."""
        while self.over is not None:
            await self.over.wait()
