"""Large commands, read in parts before they begin; see ``protocol/parts.py``."""

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import NamedTuple

import trio
from msgspec import Raw

from bunqueue_trio import errors
from bunqueue_trio.config import LARGE_BODY_BYTES, MIB, TURN_S
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.codec import BadMessage, NeedsParts, decode_message
from bunqueue_trio.protocol.parts import PARTS_FROM, read_in_parts
from bunqueue_trio.runtime.journal import Journal

_REST_S = 0.003
"""How long it rests after a step in whose round others have changed something: about as long as the step took. Who sends large
commands all the time, of whatever they are, leaves half of the processor to the others."""

IsGone = Callable[[], bool]
"""Whether the client has hung up, where a carrier can find that out."""


class ReadCommand(NamedTuple):
    """A command that has been read, and how large it was."""

    command: c.Command
    size: int


class LargeReader:
    """Reads large commands, for all connections of a server: those of a size one after the other, and one step at a time.

    There are three lines, which take turns: what most clients send stands behind nothing that takes a hundred times as long.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lines = [(PARTS_FROM, trio.Lock()), (MIB, trio.Lock()), (math.inf, trio.Lock())]
        """Up to how many bytes a command has that stands in a line, and the line."""
        self._turn = trio.Lock()

    async def read_message(self, message: bytes, is_gone: IsGone | None, *, fills: bool) -> c.Command | BadMessage:
        """Read a large message of a WebSocket, or what is wrong with it: whole where that is quick, in parts otherwise.

        Nothing else is read of its connection meanwhile, so it waits in line for as long as that takes: what is refused
        unread has no `reqId` by which its sender would know it.
        """
        try:
            if len(message) <= PARTS_FROM:
                with suppress(NeedsParts):
                    return decode_message(message, LARGE_BODY_BYTES)
            in_line = self._in_line(len(message), math.inf, is_gone)
            return await self._read(None, message, decode_message, errors.INVALID_JSON, in_line, fills=fills)
        except BadMessage as bad:
            return bad
        except Refused as refused:
            return BadMessage(refused, Raw(b""))

    async def read(
        self, kind: type[c.Command], text: bytes, read: Callable[[bytes], c.Command], is_gone: IsGone | None, *, fills: bool
    ) -> ReadCommand:  # fmt: skip
        """Read the large body of a request in parts, between which others are served.

        ``kind`` and ``read`` are those of :func:`read_in_parts`. It ``fills`` the queues: that has come to its turn at the
        disk, and would lose it if it rested while a batch is written, as all others do. Nothing is waited for between the return and its begin.

        Raises:
            BadMessage: what is wrong with it.
            Refused: it has waited in line for TURN_S, or its client is gone.
        """
        in_line = self._in_line(len(text), TURN_S, is_gone)
        command = await self._read(kind, text, read, errors.INVALID_JSON_BODY, in_line, fills=fills)
        return ReadCommand(command, len(text))

    @asynccontextmanager
    async def _in_line(self, size: int, patience_s: float, is_gone: IsGone | None) -> AsyncGenerator[None]:
        line = next(line for most, line in self._lines if size <= most)
        has_waited = line.locked()
        with trio.move_on_after(patience_s) as waiting:
            await line.acquire()
        if waiting.cancelled_caught:
            raise errors.BUFFERS_FULL.refuse(retry_after=1)
        try:
            if has_waited and is_gone is not None and is_gone():
                raise errors.BUFFERS_FULL.refuse(retry_after=1)
            yield
        finally:
            line.release()

    async def _read(
        self, kind: type[c.Command] | None, text: bytes, read: Callable[[bytes], c.Command], malformed: errors.Fault,
        in_line: AbstractAsyncContextManager[None], *, fills: bool,
    ) -> c.Command:  # fmt: skip
        command: c.Command | None = None
        steps = read_in_parts(kind, text, read, malformed)
        async with in_line:
            committed = self._journal.committed
            while command is None:
                if not fills:
                    await self._journal.half.turn()
                async with self._turn:
                    if self._journal.committed != committed:
                        await trio.sleep(_REST_S)
                    committed = self._journal.committed
                    try:
                        next(steps)
                    except StopIteration as done:
                        command = done.value
            if fills:
                await trio.lowlevel.checkpoint()
            else:
                await self._journal.half.turn()
        if fills and self._journal.half.is_there:
            await self._journal.wait_turn()
        return command
