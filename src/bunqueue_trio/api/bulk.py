"""Large commands, read in parts before they begin; see ``protocol/parts.py``."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import LARGE_BODY_BYTES
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.codec import BadMessage, NeedsParts, decode_message
from bunqueue_trio.protocol.parts import PARTS_FROM, read_in_parts
from bunqueue_trio.runtime.journal import Journal

_REST_S = 0.003
"""How long it rests after a step in whose round others have changed something: about as long as the step took. Who sends large
commands all the time, of whatever they are, leaves half of the processor to the others."""


class ReadCommand(NamedTuple):
    """A command that has been read, and how large it was."""

    command: c.Command
    size: int


class LargeReader:
    """Reads one after the other, for all connections of a server."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._line = trio.Lock()

    async def read_message(self, message: bytes, *, fills: bool) -> c.Command | BadMessage:
        """Read a large message of a WebSocket, or what is wrong with it: whole where that is quick, in parts otherwise."""
        try:
            if len(message) <= PARTS_FROM:
                with suppress(NeedsParts):
                    return decode_message(message, LARGE_BODY_BYTES)
            return (await self.read(None, message, decode_message, errors.INVALID_JSON, fills=fills)).command
        except BadMessage as bad:
            return bad

    async def read(
        self, kind: type[c.Command] | None, text: bytes, read: Callable[[bytes], c.Command], malformed: errors.Fault,
        *, fills: bool,
    ) -> ReadCommand:  # fmt: skip
        """Read a large command in parts, between which others are served.

        The arguments are those of :func:`read_in_parts`, and whether it ``fills`` the queues: that has come to its turn at the
        disk, and would lose it if it rested while a batch is written, as all others do. Nothing is waited for between the return and its begin.

        Raises:
            BadMessage: what is wrong with it.
        """
        command: c.Command | None = None
        async with self._line:
            steps = read_in_parts(kind, text, read, malformed)
            while command is None:
                committed = self._journal.committed
                try:
                    next(steps)
                except StopIteration as done:
                    command = done.value
                if fills:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._journal.half.turn()
                if self._journal.committed != committed and command is None:
                    await trio.sleep(_REST_S)
        if fills and self._journal.half.is_there:
            await self._journal.wait_turn()
        return ReadCommand(command, len(text))
