"""The lane of a door: it reads whole requests, asks the leader in frames, and writes the answers.

A request is cut out of what comes by its head alone; what it means is for the leader to say, which reads it again. Whatever is not
cut out so simply, does not come at once, or is no request for frames, makes its connection one that is spliced, with all
bytes that were not answered, and for good.
"""

import re
from collections.abc import Callable
from functools import partial

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import (
    DRAIN_S,
    HEADER_BYTES_MAX,
    HEADS_KEPT,
    KEEPER_S,
    KEPT_HEAD_BYTES,
    PIECES_S,
    RECEIVE_BYTES,
    ROOM_IDLE_S,
    WRITE_TIMEOUT_S,
    Settings,
)
from bunqueue_trio.doors.asking import Asked, Asking
from bunqueue_trio.doors.door import Client, Door
from bunqueue_trio.doors.frames import BROKEN, GONE
from bunqueue_trio.doors.link import FRAMES, Link
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.again import Again
from bunqueue_trio.runtime.budget import Budget
from bunqueue_trio.transports.wire import Wire, address_of

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_ODD = re.compile(rb"\r\n(?:transfer-encoding|upgrade|expect)[ \t]*:", re.IGNORECASE)
# Connections, before others are served: 1 ms.
_LOOKED_AT = 250
# For what is missing, such as a descriptor, to be there again.
_AGAIN_S = 0.1


class FramingDoor(Door):
    """A door that asks in frames, unless there are to be none (``EXPRESS``); :meth:`run` has to run beside it."""

    def __init__(self, link: Link, settings: Settings, repeatable: Callable[[bytes], Again] | None = None) -> None:
        super().__init__(link, settings)
        self._buffers = Budget(max(settings.buffers_max_bytes, 2 * settings.body_max_bytes))
        self.asking: Asking = Asking(partial(link.open, FRAMES), self._buffer, self._buffers, self.refusals, repeatable)
        self._frames = settings.express
        self._lengths: dict[bytes, int] = {}

    async def run(self) -> None:
        """Ask the leader, and see to connections that are silent; where it cannot be reached, say so to who asks, and try again."""
        while True:
            await self.ask_leader()
            self.asking.give_up(self.refusals.of(errors.OVERLOADED))
            await trio.sleep(_AGAIN_S)

    async def ask_leader(self) -> None:
        """Do so until it cannot be reached."""
        if not self._frames:
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            await self.asking.run()
            nursery.cancel_scope.cancel()

    async def end(self, hurry: trio.Event) -> None:
        """End each connection with its next answer, or when it has been idle for a while; in a ``hurry`` all that are idle."""
        while self._clients:
            since = trio.current_time() - (0 if hurry.is_set() else ROOM_IDLE_S)
            for n, client in enumerate(list(self._clients)):
                if n % _LOOKED_AT == _LOOKED_AT - 1:
                    await trio.lowlevel.checkpoint()
                # Who has sent something cannot know: it is answered.
                if client.idle and client.since <= since and not client.wire.is_readable():
                    client.scope.cancel()
            await trio.sleep(DRAIN_S if hurry.is_set() else KEEPER_S)

    async def serve_by_leader(self, client: Client, unread: bytes = b"") -> bool:
        """Ask the leader what comes from ``client``, and splice that as soon as this is not possible."""
        if not self._frames:
            return await super().serve_by_leader(client, unread)
        client.number = self.asking.new_number()
        try:
            rest = await self._talk(client, address_of(client.stream), unread)
        finally:
            asked, client.asked = client.asked, None
            if asked is not None and not asked.over.is_set():
                self.asking.forget(asked)
                self.asking.say(client.number, GONE, BROKEN)
            elif asked is not None:
                self.asking.settle(asked, is_sent=False)
        return rest is None or await super().serve_by_leader(client, rest)

    def own_answer(self, request: bytes) -> bytes:
        """Return what a door answers by itself, to a connection that ends with it; nothing for other requests."""
        return b""

    async def _talk(self, client: Client, address: str, unread: bytes) -> bytes | None:
        """Ask and answer; return what the leader has to read itself, None if the connection is over."""
        wire = client.wire
        while True:
            if not unread:
                client.idle, client.since = True, trio.current_time()
                unread = await wire.receive()
            client.idle = False
            if not unread:
                return None
            length, head_end = self._length(unread)
            if not _fits(length, unread):
                unread = await self._more(wire, unread, length)
                length, head_end = self._length(unread)
                if not _fits(length, unread):
                    return unread
            request, unread = unread[:length], unread[length:]
            if own := self.own_answer(request):
                await self._goodbyes.refuse(client.stream, own, WRITE_TIMEOUT_S)
                return None
            asked = client.asked = self.asking.ask(client.number, address, request, head_end)
            await asked.over.wait()
            if asked.lasts:
                request = b""
                unread += await self._watch(client, asked)
            if asked.spliced:
                return (request or asked.request) + unread
            if not await self._answer(client, asked):
                return None

    def _length(self, unread: bytes) -> tuple[int, int]:
        """Return how long the first request is, with its body; -1: its head has not come yet; -2: frames cannot carry it.

        With it, where its head ends, if that is known from before; else 0.
        """
        end = unread.find(b"\r\n\r\n") + 4
        if end < 4:
            return -1, 0
        head = unread[:end]
        length, known = self._lengths.get(head), end
        if length is None:
            known = 0
            lengths = _LENGTH.findall(head)
            is_odd = len(lengths) != head.lower().count(b"content-length") or len(lengths) > 1 or _ODD.search(head)
            length = -2 if is_odd else end + int(lengths[0] if lengths else 0)
            if len(head) <= KEPT_HEAD_BYTES:
                if len(self._lengths) >= HEADS_KEPT:
                    self._lengths.clear()
                self._lengths[head] = length
        return length, known

    async def _more(self, wire: Wire, unread: bytes, length: int) -> bytes:
        """Return ``unread`` with what else comes soon, up to a whole request, if it may become one for frames."""
        # For all of it: a client that sends byte by byte is for the leader to end.
        with self._buffers.hold() as hold, trio.move_on_after(PIECES_S):
            while -1 <= length <= RECEIVE_BYTES and not _fits(length, unread) and len(unread) <= RECEIVE_BYTES:
                more = await wire.receive()
                if not more:
                    break
                unread += more
                length, _ = self._length(unread)
                try:
                    hold.grow(len(more))
                except Refused:
                    # Many do: the leader has the rest.
                    break
        return unread

    async def _watch(self, client: Client, asked: Asked) -> bytes:
        """Wait for an answer, and tell the leader when the client says no more meanwhile, or is gone; return what it sends early, a little of it."""
        early = b""

        async def read() -> None:
            nonlocal early
            while len(early) < HEADER_BYTES_MAX:
                extra = 0
                try:
                    data = await client.wire.receive()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    data, extra = b"", BROKEN
                if not data:
                    asked.has_left = True
                    self.asking.say(client.number, GONE, extra)
                    break
                early += data

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await asked.over.wait()
            nursery.cancel_scope.cancel()
        return early

    async def _answer(self, client: Client, asked: Asked) -> bool:
        """Send an answer; return whether the connection goes on."""
        wire, is_sent = client.wire, False
        has_waited = asked.waited or (asked.brings and (client.has_waited or asked.again is not None))
        client.has_waited = False
        try:
            if not asked.answer or (has_waited and (asked.has_left or wire.has_ended())):
                return False
            await _send(wire, asked.answer)
            for part in asked.body:
                await _send(wire, part)
            is_sent = True
        finally:
            self.asking.settle(asked, is_sent=is_sent)
        if asked.ends:
            await self._goodbyes.end(client.stream)
        return not asked.ends

    async def _keep(self) -> None:
        """End connections that were silent for too long, and tell the leader who has hung up."""
        while True:
            await trio.sleep(KEEPER_S)
            for n, client in enumerate(list(self._clients)):
                if n % _LOOKED_AT == _LOOKED_AT - 1:
                    await trio.lowlevel.checkpoint()
                asked, now = client.asked, trio.current_time()
                if client.idle:
                    if now > client.patience_ends:
                        client.scope.cancel()
                elif asked is not None and asked.waits(now - KEEPER_S) and client.wire.has_ended():
                    asked.has_left = True
                    self.asking.say(client.number, GONE, BROKEN * client.wire.is_broken())


def _fits(length: int, unread: bytes) -> bool:
    """Return whether a request of ``length`` is there whole, and no longer than a frame takes: a longer one would end it for all."""
    return 0 <= length <= min(len(unread), RECEIVE_BYTES)


async def _send(wire: Wire, data: bytes) -> None:
    sent = wire.send_nowait(data)
    if sent < len(data):
        with trio.fail_after(WRITE_TIMEOUT_S):
            await wire.send(memoryview(data)[sent:])
