"""Events over HTTP (server-sent events), for code that blocks: connected again by itself, and told what was missed meanwhile."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import NamedTuple, Self

import httpx
import msgspec

from bunqueue_trio.errors import ConnectionLost, ServerUnavailable
from bunqueue_trio.protocol.events import ALL_TYPES, EVENT_TYPES, Event
from bunqueue_trio.protocol.surrogates import marked, read
from bunqueue_trio.sync.limits import Limit

# An idle stream says something every 15 s.
SILENCE_S = 40.0
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 5.0

Open = Callable[[dict[str, str]], AbstractContextManager[httpx.Response]]
"""Asks for the stream, with these headers; raises as any command does."""


class _Head(msgspec.Struct, rename="camel"):
    event_type: str | None = None
    connected: bool = False
    gap: bool = False


class Message(NamedTuple):
    """What a stream says; neither an event nor a gap: how far it is."""

    id: int
    event: Event | None = None
    gap: bool = False


class SyncEventStream:
    """Events as they come, without an end; ``missed`` grows where some are not kept any more, or cannot be read.

    It begins within ``patience_s``, and connects again for as long, but no longer than ``limit`` allows.
    """

    def __init__(
        self, open_: Open, types: frozenset[str], limit: Limit, patience_s: float, after: int | None = None
    ) -> None:
        self._open = open_
        self._types = types
        self._limit = limit
        self._patience_s = patience_s
        self._after = after
        self._stack = ExitStack()
        self._messages: Iterator[Message] = iter(())
        # Since the last message: when the patience ends, and how long the next pause is.
        self._until: float | None = None
        self._pause = 0.0
        self.missed: int = 0

    def __enter__(self) -> Self:
        """Hear what happens from now on."""
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while True:
            message = self.next_message()
            if message.gap:
                self.missed += 1
            elif message.event is not None and message.event.event_type in self._types:
                return message.event

    @property
    def after(self) -> int:
        """The id of the newest event that was sent; only inside the block."""
        assert self._after is not None
        return self._after

    def next_message(self) -> Message:
        """Return what comes next; connect again where the stream ends, for as long as the patience lasts."""
        while True:
            try:
                message = next(self._messages, None)
            except (httpx.TransportError, ValueError, RecursionError):
                # The last ones: no server of ours speaks like that.
                message = None
            if message is not None:
                self._after, self._until = message.id, None
                return message
            self._connect_again()

    def _connect(self) -> None:
        self._stack.close()
        # Where a stream stands its server says at once.
        with self._limit.within(self._patience_s):
            self._begin()

    def _begin(self) -> None:
        headers = {} if self._after is None else {"Last-Event-ID": str(self._after)}
        response = self._stack.enter_context(self._open(headers))
        self._messages = _messages(response)
        # The first message says where the stream stands; what comes later is ours.
        if self._after is None:
            try:
                first = next(self._messages, None)
            except (httpx.TransportError, ValueError, RecursionError) as error:
                said = str(error) or type(error).__name__
                raise ConnectionLost(f"the stream of events cannot be read: {said}") from None
            if first is None:
                raise ConnectionLost("the stream of events ended at once")
            self._after = first.id

    def _connect_again(self) -> None:
        trouble = "the stream ends again and again"
        if self._until is None:
            # Only a message shows that there is a server: then all begins anew.
            self._until, self._pause = min(time.monotonic() + self._patience_s, self._limit.ends), 0.0
        while True:
            if self._pause and time.monotonic() + self._pause > self._until:
                is_cut = self._until == self._limit.ends
                raise ServerUnavailable(
                    f"no events{'' if is_cut else f' for {self._patience_s:g} s'}: {trouble}"
                ) from None
            time.sleep(self._pause)
            self._pause = min(max(self._pause * 2, PAUSE_MIN_S), PAUSE_MAX_S)
            try:
                self._connect()
            except (ServerUnavailable, ConnectionLost, httpx.TransportError) as error:
                trouble = str(error)
            else:
                return


def wanted(types: tuple[str, ...]) -> frozenset[str]:
    """Return the types of the events to send; all when none is named.

    Raises:
        ValueError: there is no such type.
    """
    if unknown := set(types) - ALL_TYPES:
        raise ValueError(f"{min(unknown)!r} is no event type; there are {', '.join(sorted(ALL_TYPES))}")
    return frozenset(types) or EVENT_TYPES


def _messages(response: httpx.Response) -> Iterator[Message]:
    event_id = 0
    for line in _lines(response):
        name, _, value = line.partition(b": ")
        if name == b"id":
            event_id = int(value)
        elif name == b"data":
            yield _message(event_id, value)


def _message(event_id: int, data: bytes) -> Message:
    try:
        head = msgspec.json.decode(data, type=_Head)
    except ValueError:
        head = msgspec.json.decode(marked(data), type=_Head)
    if head.event_type in ALL_TYPES:
        return Message(event_id, read(data, Event))
    # A gap, or an event of a newer server.
    return Message(event_id, gap=not head.connected)


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """Split at line feeds only: a payload may have other separators of Unicode."""
    rest = bytearray()
    for chunk in response.iter_bytes():
        rest += chunk
        *lines, last = rest.split(b"\n")
        rest = last
        yield from map(bytes, lines)
