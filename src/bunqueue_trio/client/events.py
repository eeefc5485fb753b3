"""Events of a client: who wants which, and streams that know when they have missed some."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

import anyio
import anyio.lowlevel

from bunqueue_trio.client.backend import Signal
from bunqueue_trio.protocol.events import ALL_TYPES, EVENT_TYPES, Event

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
        self._events: deque[Event | None] = deque()
        self._signal = Signal()
        self._ended = False

    def offer(self, event: Event | None) -> None:
        """Give it an event, or None where some may be missing."""
        if len(self._events) < BUFFER:
            self._events.append(event)
            self._signal.ring()
        else:
            self.missed += 1

    async def next_or_gap(self) -> Event | None:
        """Return the next event, or None where some may be missing.

        Raises:
            anyio.EndOfStream: it was closed.
        """
        if self.missed and not self._events:
            self.missed = 0
            return None
        return await self._next()

    def waiting(self) -> "Noted | None":
        """Return what :meth:`next_or_gap` would return at once; None when it would wait."""
        if self._events:
            return Noted(self._events.popleft())
        if self.missed:
            self.missed = 0
            return Noted(None)
        return None

    def close(self) -> None:
        """End it; whoever reads it sees its end."""
        self._on_close(self)
        self._ended = True
        self._signal.ring()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            try:
                event = await self._next()
            except anyio.EndOfStream:
                raise StopAsyncIteration from None
            if event is not None:
                return event
            self.missed += 1

    async def _next(self) -> Event | None:
        # However much is there: others want to run.
        await anyio.lowlevel.checkpoint()
        while not self._events:
            if self._ended:
                raise anyio.EndOfStream
            await self._signal.wait()
        return self._events.popleft()


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
        if unknown := wanted - ALL_TYPES:
            raise ValueError(f"{min(unknown)!r} is no event type; there are {', '.join(sorted(ALL_TYPES))}")
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
