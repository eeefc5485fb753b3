"""Server-sent events: a subscription as the bytes of a ``text/event-stream``.

Every message carries an ``id:``; a reader that comes back with ``Last-Event-ID`` gets what it missed
from the store first, or learns how much is gone. A reader too slow for its buffer is ended: it will
come back and be replayed. What has been made for a reader and not been sent yet counts in the byte
budget; a stream for which there is no room is ended too. Of the past that lies on a damaged page of the file
the reader learns that it is missing, and goes on behind it: to come back would bring it there again.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import parse_qs

import structlog
import trio

from bunqueue_trio import errors
from bunqueue_trio.config import RECEIVE_BYTES, REPLAY_EVENTS, SSE_COMMENT_S
from bunqueue_trio.errors import StoreDamaged, StoreError
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.events import EVENT_TYPES, chosen
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.hub import Published, Subscription
from bunqueue_trio.runtime.server import Server

_log = structlog.get_logger()


class EventFeed(AsyncIterator[bytes]):
    """The stream of one reader. ``aclose`` it, wherever it was left."""

    def __init__(
        self, server: Server, queue: str | None, last_event_id: int | None, types: frozenset[str] = EVENT_TYPES,
        since: int | None = None,
    ) -> None:  # fmt: skip
        """Begin behind the event of that id; or with those of ``since``, epoch ms; or with what happens from now on."""
        self._server = server
        self._hub = server.hub
        self._queue = queue
        self._types = types
        self._bell = Bell()
        self._subscription: Subscription | None = None
        self._replayed = last_event_id
        """Up to which event the past has been sent; None when nobody asked for it."""
        self._since = since if last_event_id is None else None
        self._replay_until = 0
        self._hold = server.buffers.hold()
        """Of the chunk that is being sent."""

    async def __anext__(self) -> bytes:
        # Whoever asks for more has sent what it got.
        self._hold.release()
        try:
            chunk = await self._next()
        except StoreError as error:
            # The reader comes back, and is replayed what it has missed.
            _log.error("read failed", error=str(error))
            raise StopAsyncIteration from None
        if not self._hold.fit(len(chunk)):
            raise StopAsyncIteration
        return chunk

    async def _next(self) -> bytes:
        subscription = self._subscription
        if subscription is None:
            return await self._hello()
        while not self._hub.closed:
            if self._replayed is not None:
                if chunk := await self._next_of_the_past():
                    return chunk
                # Much of the past may be of no interest here.
                await trio.lowlevel.checkpoint()
                continue
            if subscription.missed:
                # Whatever is left in the buffer will be replayed, without a gap.
                break
            events, _ = subscription.take(RECEIVE_BYTES)
            if events:
                return b"".join(map(_message, events))
            with trio.move_on_after(SSE_COMMENT_S) as patience:
                await self._bell.wait()
            if patience.cancelled_caught:
                return b": keep-alive\n\n"
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the subscription."""
        self._hold.release()
        if self._subscription is not None:
            self._hub.unsubscribe(self._subscription)
            self._subscription = None
            self._server.connections.sse -= 1

    async def _hello(self) -> bytes:
        """Subscribe, and return the connection message and the notice of a gap, if there is one."""
        self._server.connections.sse += 1
        self._subscription = self._hub.subscribe(self._queue, self._bell)
        self._subscription.types = self._types
        self._replay_until = newest = self._hub.last_event_id
        hello = {"connected": True, "clientId": self._server.new_id()}
        if self._since is not None:
            self._replayed = await self._place_of(self._since)
        if self._replayed is None:
            return _message(Published(newest, encode(hello)))
        after, oldest = self._replayed, await self._first_kept_id()
        chunk = _message(Published(min(after, newest), encode(hello)))
        if oldest - 1 <= after <= newest:
            return chunk
        # Too old, or from another life of the store.
        return chunk + self._gap(after, oldest)

    async def _place_of(self, since: int) -> int:
        try:
            return await self._hub.place_of(since)
        except StoreDamaged:
            # All that can be read is looked through.
            return await self._first_kept_id() - 1

    async def _first_kept_id(self) -> int:
        try:
            return await self._hub.first_kept_id()
        except StoreDamaged:
            # That it cannot be read is said where it would come.
            return 1

    def _gap(self, after: int, oldest: int, **why: bool) -> bytes:
        """Go on at ``oldest``, and return the message that says so: first the gap, then what there is."""
        self._replayed = oldest - 1
        gap = {"gap": True, "after": after, "oldest": oldest, "newest": self._replay_until, **why}
        return _message(Published(oldest - 1, encode(gap)))

    async def _next_of_the_past(self) -> bytes:
        assert self._replayed is not None
        if self._replayed >= self._replay_until:
            self._replayed = None
            return b""
        oldest = min(await self._first_kept_id(), self._replay_until + 1)
        # Retention was faster than this reader.
        if self._replayed < oldest - 1:
            return self._gap(self._replayed, oldest)
        try:
            events, self._replayed = await self._replay(self._replayed)
        except StoreDamaged:
            sound = await self._before_damage(self._replayed)
            if sound is None:
                return self._gap(self._replayed, await self._behind_damage(self._replayed) + 1, damaged=True)
            events, self._replayed = sound
        return b"".join(map(_message, events))

    async def _before_damage(self, place: int) -> tuple[list[Published], int] | None:
        """Return some of what is sound right behind ``place``, which is read together with what is damaged; None: nothing is."""
        most = REPLAY_EVENTS
        while most > 1:
            most = max(1, most // 4)
            await trio.lowlevel.checkpoint()
            with suppress(StoreDamaged):
                return await self._replay(place, most)
        return None

    async def _behind_damage(self, place: int) -> int:
        """Return behind which event the past can be read again: as far as it could not be, and up to as much more."""
        step = 1
        while place + step < self._replay_until:
            await trio.lowlevel.checkpoint()
            with suppress(StoreDamaged):
                await self._replay(place + step)
                return place + step
            step *= 2
        return self._replay_until

    async def _replay(self, after: int, most: int | None = None) -> tuple[list[Published], int]:
        return await self._hub.replay(
            after=after,
            until=self._replay_until,
            queue=self._queue,
            types=self._types,
            since=self._since or 0,
            most=most,
        )


def parse_event_id(text: str | None) -> int | None:
    """Return the number in a ``Last-Event-ID`` header; None when there is none or it is not ours."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def parse_types(query: str) -> frozenset[str]:
    """Return the types of events that a query asks for: ``types=a,b``, or one after the other.

    Raises:
        Refused: one of them does not exist.
    """
    names = [name for value in parse_qs(query).get("types", []) for name in value.split(",") if name]
    return types_named(names, "types") if names else EVENT_TYPES


def types_named(names: list[str] | str, field: str) -> frozenset[str]:
    """Return the event types that a client named in this ``field``.

    Raises:
        Refused: one of them does not exist.
    """
    try:
        return chosen(names)
    except ValueError as unknown:
        raise errors.INVALID_FIELD.refuse(field, unknown) from None


def parse_since(query: str, now: int) -> int | None:
    """Return from when on a query asks for events, by ``since=`` as ms ago; None: it does not say.

    Raises:
        Refused: that is no time.
    """
    said = parse_qs(query, keep_blank_values=True).get("since")
    if said is None:
        return None
    ago = parse_event_id(said[-1])
    if ago is None:
        raise errors.INVALID_FIELD.refuse("since", "must be how many ms ago")
    return max(0, now - ago)


_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""A payload comes as it was sent, line breaks between its tokens included; they would cut the message."""


def _message(event: Published) -> bytes:
    body = event.body
    if b"\n" in body or b"\r" in body:
        body = body.translate(_ONE_LINE)
    return b"id: %d\ndata: %s\n\n" % (event.id, body)
