"""The heads of responses: status, header fields, length and date, the same bytes that Hypercorn would send.

They come again and again, so what is the same in them is kept, a bounded number of times.
"""

import math
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, Protocol

from bunqueue_trio.runtime.clock import Clock

Headers = tuple[tuple[str, str], ...]

_NO_CONTENT = b" %d " % HTTPStatus.NO_CONTENT
# Origins are echoed: a client could invent many.
_KEPT = 1000


class Headed(Protocol):
    """A response, as far as its head says it."""

    @property
    def status(self) -> int:
        """Its status code."""
        ...

    @property
    def headers(self) -> Headers:
        """Its header fields, but for those of its connection."""
        ...


class Shape(NamedTuple):
    """What is the same in the heads of many responses: the status line, and header fields."""

    start: bytes
    fields: bytes
    has_length: bool

    @classmethod
    def of(cls, start: bytes, fields: bytes) -> "Shape":
        """Return the shape of responses that begin with this line."""
        return cls(start, fields, _NO_CONTENT not in start[:13])


class ResponseHeads:
    """Makes the heads of responses."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[int, Headers], Shape] = {}
        self._around: dict[tuple[int, Headers], tuple[bytes, bytes]] = {}
        """What stands before and behind the length in a head of this second, of a connection that goes on."""
        self._date = b""
        self._next_second = -math.inf
        """By Trio's clock."""

    def shape(self, response: Headed) -> Shape:
        """Return what the head of ``response`` has in common with others."""
        key = (response.status, response.headers)
        known = self._known.get(key)
        if known is None:
            if len(self._known) > _KEPT:
                self._known.clear()
            lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in response.headers)
            start = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
            self._known[key] = known = Shape.of(start.encode("latin-1"), lines.encode("latin-1"))
        return known

    def fill(self, shape: Shape, length: int, *, keep: bool) -> bytes:
        """Return status line, header fields and the empty line of a response of this shape, whose body has ``length`` bytes."""
        if self._clock.time() >= self._next_second:
            second = self._clock.now() // 1000
            self._next_second = self._clock.trio_time((second + 1) * 1000)
            self._around.clear()
            self._date = f"date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        size = b"content-length: %d\r\n" % length if shape.has_length else b""
        end = b"\r\n" if keep else b"Connection: close\r\n\r\n"
        return b"".join((shape.start, size, shape.fields, self._date, end))

    def render(self, response: Headed, length: int, *, keep: bool) -> bytes:
        """Return the whole head of ``response``."""
        if not keep:
            return self.fill(self.shape(response), length, keep=False)
        key = (response.status, response.headers)
        around = self._around.get(key) if self._clock.time() < self._next_second else None
        if around is not None:
            return b"%b%d%b" % (around[0], length, around[1])
        shape = self.shape(response)
        head = self.fill(shape, length, keep=True)
        if shape.has_length:
            if len(self._around) > _KEPT:
                self._around.clear()
            self._around[key] = (shape.start + b"content-length: ", b"\r\n%b%b\r\n" % (shape.fields, self._date))
        return head
