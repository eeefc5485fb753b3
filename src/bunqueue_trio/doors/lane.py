"""The lane of a door: it reads whole requests, asks the leader in frames, and writes the answers.

A request is cut out of what comes by its head alone; what it means is for the leader to say, which reads it again. Whatever is not
cut out so simply, does not come at once, or is no request for frames, makes its connection one that is spliced, with all
bytes that were not answered, and for good.
"""

import re
from functools import partial

import trio

from bunqueue_trio.config import (
    HEADS_KEPT,
    KEEPER_S,
    KEPT_HEAD_BYTES,
    LINGER_S,
    PIECES_S,
    RECEIVE_BYTES,
    WRITE_TIMEOUT_S,
    Settings,
)
from bunqueue_trio.doors.asking import Asked, Asking
from bunqueue_trio.doors.door import Door
from bunqueue_trio.doors.frames import GONE
from bunqueue_trio.doors.link import FRAMES, Link
from bunqueue_trio.runtime.budget import Budget
from bunqueue_trio.transports.wire import Wire, address_of

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_ODD = re.compile(rb"\r\n(?:transfer-encoding|upgrade|expect)[ \t]*:", re.IGNORECASE)
_LOOKED_AT = 250  # connections, before others are served: 1 ms


class _Connection:
    """A client's connection that is not spliced."""

    __slots__ = ("asked", "idle", "number", "scope", "since", "wire")

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire = wire
        self.number = number
        self.scope = trio.CancelScope()
        self.idle = True
        """Nothing is under way; since then."""
        self.since = trio.current_time()
        self.asked: Asked | None = None


class FramingDoor(Door):
    """A door that asks in frames, unless there are to be none (``EXPRESS``); :meth:`run` has to run beside it."""

    def __init__(self, link: Link, settings: Settings) -> None:
        super().__init__(link, settings)
        self._buffers = Budget(max(settings.buffers_max_bytes, 2 * settings.body_max_bytes))
        self.asking: Asking = Asking(partial(link.open, FRAMES), self._buffer, self._buffers)
        self._frames = settings.express
        self._keep_alive_s = settings.keep_alive_ms / 1000
        self._framed: dict[_Connection, None] = {}
        self._lengths: dict[bytes, int] = {}
        self._stops = False

    async def run(self) -> None:
        """Ask the leader, and see to connections that are silent, until it cannot be reached."""
        if not self._frames:
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            await self.asking.run()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """End idle connections, and each other one with its answer."""
        self._stops = True
        for connection in self._framed:
            if connection.idle:
                connection.scope.cancel()

    async def serve_by_leader(self, stream: trio.abc.Stream, unread: bytes = b"") -> bool:
        """Ask the leader what comes on ``stream``, and splice it as soon as that is not possible."""
        if not self._frames:
            return await super().serve_by_leader(stream, unread)
        connection = _Connection(Wire(stream, self._buffer), self.asking.new_number())
        self._framed[connection] = None
        rest: bytes | None = None
        try:
            with connection.scope:
                rest = await self._talk(connection, address_of(stream).encode(), unread)
        finally:
            del self._framed[connection]
            asked = connection.asked
            if asked is not None and not asked.over.is_set():
                self.asking.forget(asked)
                self.asking.say(connection.number, GONE)
            elif asked is not None:
                self.asking.settle(asked, is_sent=False)
        return rest is None or await super().serve_by_leader(stream, rest)

    async def _talk(self, connection: _Connection, address: bytes, unread: bytes) -> bytes | None:
        """Ask and answer; return what the leader has to read itself, None if the connection is over."""
        wire = connection.wire
        while unread or not self._stops:
            if not unread:
                connection.idle, connection.since = True, trio.current_time()
                unread = await wire.receive()
                connection.idle = False
                if not unread:
                    return None
            length = self._length(unread)
            if not _fits(length, unread):
                unread = await self._more(wire, unread, length)
                length = self._length(unread)
                if not _fits(length, unread):
                    return unread
            request, unread = unread[:length], unread[length:]
            asked = connection.asked = self.asking.ask(connection.number, address, request)
            await asked.over.wait()
            if asked.spliced:
                return request + unread
            if not await self._answer(connection, asked):
                return None
        return None

    def _length(self, unread: bytes) -> int:
        """Return how long the first request is, with its body; -1: its head has not come yet; -2: it is none for frames."""
        end = unread.find(b"\r\n\r\n") + 4
        if end < 4:
            return -1
        head = unread[:end]
        length = self._lengths.get(head)
        if length is None:
            lengths = _LENGTH.findall(head)
            is_odd = len(lengths) != head.lower().count(b"content-length") or len(lengths) > 1 or _ODD.search(head)
            length = -2 if is_odd else end + int(lengths[0] if lengths else 0)
            if len(head) <= KEPT_HEAD_BYTES:
                if len(self._lengths) >= HEADS_KEPT:
                    self._lengths.clear()
                self._lengths[head] = length
        return length

    async def _more(self, wire: Wire, unread: bytes, length: int) -> bytes:
        """Return ``unread`` with what else comes soon, up to a whole request, if it may become one for frames."""
        with trio.move_on_after(PIECES_S):  # for all of it: a client that sends byte by byte is for the leader to end
            while -1 <= length <= RECEIVE_BYTES and not _fits(length, unread) and len(unread) <= RECEIVE_BYTES:
                more = await wire.receive()
                if not more:
                    break
                unread += more
                length = self._length(unread)
        return unread

    async def _answer(self, connection: _Connection, asked: Asked) -> bool:
        """Send an answer; return whether the connection goes on."""
        wire, is_sent = connection.wire, False
        try:
            if not asked.answer or (asked.waited and wire.has_ended()):
                return False
            await _send(wire, asked.answer)
            is_sent = True
        finally:
            self.asking.settle(asked, is_sent=is_sent)
        if asked.ends:
            await _close_politely(wire)
        return not asked.ends

    async def _keep(self) -> None:
        """End connections that were silent for too long, and tell the leader who has hung up."""
        while True:
            await trio.sleep(KEEPER_S)
            for n, connection in enumerate(list(self._framed)):
                if n % _LOOKED_AT == _LOOKED_AT - 1:
                    await trio.lowlevel.checkpoint()
                asked, now = connection.asked, trio.current_time()
                if connection.idle:
                    if now - connection.since > self._keep_alive_s:
                        connection.scope.cancel()
                elif asked is not None and asked.waits(now - KEEPER_S) and connection.wire.has_ended():
                    asked.is_told = True
                    self.asking.say(connection.number, GONE)


def _fits(length: int, unread: bytes) -> bool:
    """Return whether a request of ``length`` is there whole, and no longer than a frame takes: a longer one would end it for all."""
    return 0 <= length <= min(len(unread), RECEIVE_BYTES)


async def _send(wire: Wire, data: bytes) -> None:
    sent = wire.send_nowait(data)
    if sent < len(data):
        with trio.fail_after(WRITE_TIMEOUT_S):
            await wire.send(data[sent:])


async def _close_politely(wire: Wire) -> None:
    """Send the end, and read what is still coming: a reset would take the last answer with it."""
    with trio.move_on_after(LINGER_S):
        await wire.send_eof()
        while await wire.receive():
            pass
