"""Large bulk pushes, read in parts before they begin; see ``protocol/parts.py``."""

from collections.abc import Callable
from typing import NamedTuple

import trio

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.parts import read_in_parts
from bunqueue_trio.runtime.journal import Journal


class ReadBulk(NamedTuple):
    """A bulk push that has been read, and how large it was."""

    command: c.PushBatch
    size: int


class BulkReader:
    """Reads one after the other, for all connections of a server."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._line = trio.Lock()

    async def read(self, text: bytes, read: Callable[[bytes], c.Command]) -> ReadBulk | None:
        """Read a large bulk push in parts, between which others are served; None: it is to be read whole.

        ``read`` reads what is left of it without the jobs. Nothing is waited for between the return and its begin.
        """
        async with self._line:
            command = None
            for command in read_in_parts(text, read):  # noqa: B007 - the last one counts
                await trio.lowlevel.checkpoint()
        if self._journal.half.is_there:
            await self._journal.wait_turn()
        return None if command is None else ReadBulk(command, len(text))
