"""Events of a client: who wants which, and streams that know when they have missed some."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

import trio

from bunqueue_trio.protocol.events import EVENT_TYPES, Event

BUFFER = 10_000
"""Events that a reader may lag behind; the server's own bound for a connection."""


class Noted(NamedTuple):
    """An event, or None where some may be missing."""

    event: Event | None


class EventStream:
    """Events as they come; ``missed`` grows when some did not: the connection was cut, or the reader too slow."""

    def __init__(self, types: frozenset[str], job_id: str | None, on_close: Callable[["EventStream"], None]) -> None:
        self.types = types
        self.job_id = job_id
        self.missed: int = 0
        self._on_close = on_close
        self._send, self._received = trio.open_memory_channel[Event | None](BUFFER)

    def offer(self, event: Event | None) -> None:
        """Give it an event, or None where some may be missing."""
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self.missed += 1
        except trio.BrokenResourceError:
            pass  # its reader has just left

    async def next_or_gap(self) -> Event | None:
        """Return the next event, or None where some may be missing."""
        if self.missed and not self._received.statistics().current_buffer_used:
            self.missed = 0
            return None
        return await self._received.receive()

    def waiting(self) -> "Noted | None":
        """Return what :meth:`next_or_gap` would return at once; None when it would wait."""
        if self.missed and not self._received.statistics().current_buffer_used:
            self.missed = 0
            return Noted(None)
        try:
            return Noted(self._received.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return None

    def close(self) -> None:
        """End it; whoever reads it sees its end."""
        self._on_close(self)
        self._send.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            try:
                event = await self._received.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
            if event is not None:
                return event
            self.missed += 1


class Streams:
    """All streams of one client."""

    def __init__(self) -> None:
        self._general: dict[EventStream, None] = {}
        self._by_job: dict[str, dict[EventStream, None]] = {}

    def open(self, types: Iterable[str], job_id: str | None = None) -> EventStream:
        """Return a new stream of events of these types; of one job only, if it is named.

        Raises:
            ValueError: there is no such type.
        """
        wanted = frozenset(types) or EVENT_TYPES
        if unknown := wanted - EVENT_TYPES:
            raise ValueError(f"{min(unknown)!r} is no event type; there are {', '.join(sorted(EVENT_TYPES))}")
        stream = EventStream(wanted, job_id, self._close)
        if job_id is None:
            self._general[stream] = None
        else:
            self._by_job.setdefault(job_id, {})[stream] = None
        return stream

    @property
    def wanted(self) -> list[str]:
        """The types that any stream wants."""
        types: set[str] = set()
        for stream in self._all():
            types |= stream.types
        return sorted(types)

    def publish(self, event: Event) -> None:
        """Give an event to everybody who wants it."""
        for streams in (self._general, self._by_job.get(event.job_id, {})):
            for stream in streams:
                if event.event_type in stream.types:
                    stream.offer(event)

    def gap(self) -> None:
        """Tell everybody that events may be missing here."""
        for stream in self._all():
            stream.offer(None)

    def close(self) -> None:
        """End all of them."""
        for stream in self._all():
            stream.close()

    def _all(self) -> list[EventStream]:
        return [*self._general, *(stream for streams in self._by_job.values() for stream in streams)]

    def _close(self, stream: EventStream) -> None:
        if stream.job_id is None:
            self._general.pop(stream, None)
            return
        streams = self._by_job.get(stream.job_id, {})
        streams.pop(stream, None)
        if not streams:
            self._by_job.pop(stream.job_id, None)
