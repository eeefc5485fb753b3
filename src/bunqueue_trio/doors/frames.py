"""How the requests of many connections, and their answers, share one stream between a door and the leader.

A message is the number of a connection, what is said about it, and bytes. What has gathered since the last send goes out together:
that is all of a frame, there is no timer. Neither side waits for an answer before it says the next thing, about another connection.
"""

from struct import Struct
from typing import NamedTuple

from bunqueue_trio.config import RECEIVE_BYTES

_HEAD = Struct(">IBBI")

ASK = 1
"""Door: a whole request, behind the address of its client, whose length is the extra."""
GONE = 2
"""Door: the client says no more; if its request waits for something to happen, it waits no longer."""
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

ENDS, BRINGS, WAITED = 1, 2, 4
"""In the extra of an answer: the connection ends with it; jobs are in it, and whether they were sent is to be said; it was
waited for, so who has hung up meanwhile is to get nothing."""

ASK_MAX = 255 + RECEIVE_BYTES
"""A door asks for nothing that it has not read at once."""


class BrokenFrames(Exception):
    """The other side says what cannot be."""


class Message(NamedTuple):
    """What is said about a connection."""

    number: int
    kind: int
    extra: int
    data: bytes


def pack(number: int, kind: int, extra: int = 0, *parts: bytes) -> bytes:
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

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are whole now.

        Raises:
            BrokenFrames: one is too long.
        """
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        data = b"".join(self._chunks)
        messages, at = [], 0
        self._wanted = _HEAD.size
        while len(data) - at >= _HEAD.size:
            number, kind, extra, length = _HEAD.unpack_from(data, at)
            if length > self._limit:
                raise BrokenFrames(f"a message of {length} bytes")
            end = at + _HEAD.size + length
            if end > len(data):
                self._wanted = end - at
                break
            messages.append(Message(number, kind, extra, data[at + _HEAD.size : end]))
            at = end
        self._chunks = [data[at:]]
        self._size = len(data) - at
        return messages
