"""How the requests of many connections, and their answers, share one stream between a door and the leader.

A message is the number of a connection, what is said about it, and bytes. What has gathered since the last send goes out together:
that is all of a frame, there is no timer. Neither side waits for an answer before it says the next thing, about another connection.

Three versions are spoken. In the first one each message has a head of its own, and brings whole requests and responses. In the second one
all that goes out together is one message, which is read in one go; and the heads of requests and responses, which come again and again, are said
once, and are a number then. A door says with its first word, in the extra of HERE, how much it understands, and a leader that does, too, says so in
that of LOOK: who is older looks at neither, and goes on as it always did. In the third one a large answer comes in parts.
"""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

import msgspec

from bunqueue_trio.config import RECEIVE_BYTES

_HEAD = Struct(">IBBI")

ASK = 1
"""Door: a whole request, behind the address of its client, whose length is the extra."""
GONE = 2
"""Door: the client says no more: a pull of its waits no longer, and all else is answered; BROKEN in the extra: nothing of its is."""
SENT = 3
"""Door: the client was sent the jobs in its answer."""
UNSENT = 4
"""Door: it was not; they are to return to their queue."""
ANSWER = 5
"""Leader: the response, whole, or nothing; the extra says how it goes on."""
SPLICE = 6
"""Leader: this is no request for here, and nothing was done: let the connection itself be passed on."""
STOPS = 7
"""Door: it is about to end; each connection ends with its next answer, which is to say so. Leader: the same of itself; what is
asked from now on is for the next one."""
WAITS = 8
"""Leader: the answer is not there until something happens; the door is to say when the client hangs up meanwhile."""
LOOK = 9
"""Leader: whoever hears this is to say HERE; about no connection."""
HERE = 10
"""Door: it does something."""

LAST = 11
"""Door: nothing more will be asked of a leader that stops."""

MANY = 12
"""Both, from the second version on, as all that follow: messages, one after the other."""
HEAD = 13
"""Door: the head of requests that are asked by this number from now on."""
CALL = 14
"""Door: a request, by the number of its head, which is the extra; the rest of it is its body."""
SHAPE = 15
"""Leader: the head of responses that are answered by this number from now on, without length and date."""
PART = 16
"""Leader, from the third version on: of a large answer what comes before the body of the ANSWER: no step of either side is as long as all of it."""

VERSION = 3
"""Which is spoken where both sides can."""

ENDS, BRINGS, WAITED = 1, 2, 4
"""In the extra of an answer: the connection ends with it; jobs are in it, and whether they were sent is to be said; it was
waited for, so who has hung up meanwhile is to get nothing."""
SHAPE_BITS = 3
"""Above these bits of that extra is the number of the SHAPE of the response, of which the body is said; 0: it is whole."""

BROKEN = 1
"""In the extra of GONE: the connection is over, and no answer arrives."""

ASK_MAX = 255 + RECEIVE_BYTES
"""A door asks for nothing that it has not read at once."""
WORD_BYTES = 32
"""What a message takes beside its bytes and its address: of thousands of short ones that is all there is."""
ASKS_MAX = 4 * RECEIVE_BYTES
"""What goes out together: one more as soon as there is room, and what says so."""


class BrokenFrames(Exception):
    """The other side says what cannot be."""


class Message(NamedTuple):
    """What is said about a connection."""

    number: int
    kind: int
    extra: int
    data: bytes
    address: str = ""
    """Of the client, with a CALL."""


Said = tuple[int, int, int, bytes | memoryview, str]
"""A message, as the second version has it; what was read has bytes."""
Read = tuple[int, int, int, bytes, str]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Read]).decode


def pack_all(messages: Sequence[Said], version: int) -> bytes:
    """Return the bytes of messages that go out together."""
    if version > 1:
        return pack(0, MANY, 0, _encode(messages))
    return b"".join([pack(number, kind, extra, data) for number, kind, extra, data, _ in messages])


def parts_of(body: bytes, version: int) -> Sequence[bytes | memoryview]:
    """Return the parts in which the body of an answer is said: the last one with the ANSWER, those before each as a PART."""
    if version < 3 or len(body) <= RECEIVE_BYTES:
        return (body,)
    whole = memoryview(body)
    return [whole[start : start + RECEIVE_BYTES] for start in range(0, len(body), RECEIVE_BYTES)]


def pack(number: int, kind: int, extra: int = 0, *parts: bytes | memoryview) -> bytes:
    """Return the bytes of a message."""
    return b"".join((_HEAD.pack(number, kind, extra, sum(map(len, parts))), *parts))


class Unpacker:
    """Makes messages of what comes; ``limit`` bounds the bytes of one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._wanted = _HEAD.size
        """Bytes from which on there is something to do."""

    def feed(self, data: bytes) -> Sequence[Read]:
        """Return the messages that are whole now.

        Raises:
            BrokenFrames: one is too long, or not what it says.
        """
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        data = b"".join(self._chunks)
        messages: list[Read] = []
        at = 0
        self._wanted = _HEAD.size
        while len(data) - at >= _HEAD.size:
            number, kind, extra, length = _HEAD.unpack_from(data, at)
            if length > self._limit:
                raise BrokenFrames(f"a message of {length} bytes")
            end = at + _HEAD.size + length
            if end > len(data):
                self._wanted = end - at
                break
            if kind == MANY:
                messages += _read(data[at + _HEAD.size : end])
            else:
                messages.append(Message(number, kind, extra, data[at + _HEAD.size : end]))
            at = end
        self._chunks = [data[at:]]
        self._size = len(data) - at
        return messages


def _read(data: bytes) -> list[Read]:
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        raise BrokenFrames(str(error)) from None
