"""The frames that nearly every message is: a short text, whole, masked and alone. All others are for the parser of ``websockets``.

A parser is always somewhere in a stream. So who reads a frame beside it has to know that it is between two: see
:class:`Place`.
"""

from collections.abc import Callable, Generator, Iterable, Iterator

from websockets.exceptions import ProtocolError

# The faster of the two functions that it has.
from websockets.frames import Frame, apply_mask  # type: ignore[attr-defined]

SHORT_BYTES = 65535
"""Of a text that is read here."""

ReadExact = Callable[[int], Generator[None, None, bytes | bytearray]]

# Done, going away, no reason given, restart, our overload.
_GOODBYES = frozenset({1000, 1001, 1005, 1012, 1013})
# Of libraries and applications, which have their reasons.
_OWN_CODES = range(3000, 5000)

_BEGINS, _ENDS = 0x01, 0x80
"""Of the first byte of a frame: it is the first one of a text, and the last."""
_WHOLE_TEXT = _BEGINS | _ENDS
_MASKED = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127
_LEAST_64 = 1 << 16


def read_text(data: bytes, at: int, most: int = SHORT_BYTES) -> tuple[bytes, int] | int:
    """Return the text of at most ``most`` bytes whose frame begins ``at``, and where that ends; or how many bytes are missing; 0: it is no such frame."""
    left = len(data) - at
    if left < 2:
        return 2 - left if data[at] == _WHOLE_TEXT else 0
    size, start = data[at + 1] - _MASKED, at + 6
    if data[at] != _WHOLE_TEXT or size < 0 or size == _LENGTH_64:
        return 0
    if size == _LENGTH_16:
        if left < 4:
            return 4 - left
        size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 8
        if size < _LENGTH_16:
            # Longer than it need be: the parser refuses it.
            return 0
    if size > most:
        return 0
    end = start + size
    if end > len(data):
        return end - len(data)
    # No tuple with names: to make one costs as much as all the rest.
    return apply_mask(data[start:end], data[start - 4 : start]), end


def minimal(read_exact: ReadExact) -> ReadExact:
    """Return what the parser of ``websockets`` reads frames with, and refuses a length in more bytes than it needs.

    RFC 6455 forbids that (5.2), and the parser takes it. It reads a head, what is left of a length, a mask and a payload.
    """
    at, least = "head", 0

    def read(size: int) -> Generator[None, None, bytes | bytearray]:
        nonlocal at, least
        data = yield from read_exact(size)
        if at == "head":
            least = {_LENGTH_16: _LENGTH_16, _LENGTH_64: _LEAST_64}.get(data[1] & 0x7F, 0)
            at = "length" if least else "mask"
        elif at == "length":
            if int.from_bytes(data, "big") < least:
                raise ProtocolError("a length is written in more bytes than it needs")
            at = "mask"
        else:
            at = "payload" if at == "mask" else "head"
        return data

    return read


def text_frame(message: bytes) -> bytes:
    """Return the frame of a text that a server sends."""
    size = len(message)
    return b"\x81%c%b" % (size, message) if size < _LENGTH_16 else _head(_WHOLE_TEXT, size) + message


def _head(first: int, size: int) -> bytes:
    """Return what stands before the payload of a server's frame, whose first byte is ``first``."""
    if size < _LENGTH_16:
        return b"%c%c" % (first, size)
    if size < _LEAST_64:
        return b"%c\x7e%b" % (first, size.to_bytes(2, "big"))
    return b"%c\x7f%b" % (first, size.to_bytes(8, "big"))


def text_frames(message: bytes, most: int) -> Iterator[bytes]:
    """Yield the frames of a text, each with at most ``most`` bytes of it; others may be sent between them, but no other text."""
    for start in range(0, len(message) or 1, most):
        part = message[start : start + most]
        first = (_BEGINS if not start else 0) | (_ENDS if start + most >= len(message) else 0)
        yield _head(first, len(part)) + part


def framed(messages: Iterable[bytes]) -> list[bytes]:
    """Return the frames of some texts: many short ones in one piece, long ones as they are, which copies none of them."""
    pieces: list[bytes] = []
    short: list[bytes] = []
    for message in messages:
        if len(message) <= SHORT_BYTES:
            short.append(text_frame(message))
            continue
        pieces += [b"".join([*short, _head(_WHOLE_TEXT, len(message))]), message]
        short.clear()
    return [*pieces, b"".join(short)] if short else pieces


def is_goodbye(code: int) -> bool:
    """Return whether a close frame with ``code`` (1005: without one) ends a WebSocket in order.

    A code that reports an error does not: a client that cannot read a job says goodbye with one, again and again.
    """
    return code in _GOODBYES or code in _OWN_CODES


class Place:
    """Whether a parser stands between two frames: when all that it was fed has come out of it.

    A length that is written longer than it need be ends the connection, see :func:`minimal`: so the size of a frame is known.
    """

    __slots__ = ("_owed",)

    def __init__(self) -> None:
        self._owed = 0

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self._owed

    def fed(self, size: int) -> None:
        """Note that the parser was fed ``size`` bytes."""
        self._owed += size

    def came(self, frame: Frame) -> None:
        """Note that a frame of a client has come out of it."""
        size = len(frame.data)
        self._owed -= size + (6 if size < _LENGTH_16 else 8 if size < _LEAST_64 else 14)
