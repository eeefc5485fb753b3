"""What requests and answers of a frame have in common, at the leader's end: heads that have numbers there, as the door says those of requests, and a body alone."""

from collections.abc import Callable
from typing import NoReturn

from bunqueue_trio.api.call import Response
from bunqueue_trio.config import HEADS_KEPT, RECEIVE_BYTES
from bunqueue_trio.doors.frames import BrokenFrames
from bunqueue_trio.protocol.catalog import TAKES
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.replies import payload_size
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.transports.express import ExpressShared
from bunqueue_trio.transports.heads import Handover, Plain
from bunqueue_trio.transports.response_heads import Headers


def body_of(begun: Begun) -> bytes | None:
    """Return the body of the response to a command that is committed, if that is small and all that there is to it; None: :meth:`Gateway.finish_nowait` says it."""
    reply = begun.reply
    if begun.refused is not None or type(begun.command) in TAKES or payload_size(reply) > RECEIVE_BYTES:
        return None
    body = encode(reply)
    return body if len(body) <= RECEIVE_BYTES else None


class RequestsByNumber(dict[int, Plain | None]):
    """The heads of requests: what is asked by each number, None if that cannot be answered here."""

    def __init__(self, shared: ExpressShared) -> None:
        super().__init__()
        self._shared = shared

    def __missing__(self, number: int) -> NoReturn:
        """Say that nobody has said it."""
        raise BrokenFrames(f"a request of head {number}")

    def hear(self, number: int, head: bytes) -> None:
        """Note what is asked by this number from now on."""
        if number >= HEADS_KEPT:
            raise BrokenFrames(f"a head of number {number}")
        self[number] = self.parse(head, len(head))

    def parse(self, data: bytes, end: int) -> Plain | None:
        """Return the request whose head is ``data[:end]`` if it is one that can be answered here, but for the length of its body."""
        try:
            request = self._shared.requests.parse(data, end)
        except Handover:
            return None
        return request if isinstance(request, Plain) and request.at_once else None


class ShapesByNumber:
    """The heads of responses."""

    def __init__(self, shared: ExpressShared, tell: Callable[[int, bytes], None]) -> None:
        self._heads = shared.heads
        self._tell = tell
        self._known: dict[tuple[int, Headers], int] = {}
        self._last: tuple[int, Headers, int] = (0, (), 0)

    def number_of(self, response: Response) -> int:
        """Return the number of its head; one that the door does not know yet is said to it before."""
        status, headers = response.status, response.headers
        last_status, last_headers, last = self._last
        # Nearly all have the very same: to look them up by what they say takes longer.
        if headers is last_headers and status == last_status:
            return last
        number = self._known.get((status, headers))
        if number is None:
            if len(self._known) >= HEADS_KEPT:
                # They are said anew, by the same numbers.
                self._known.clear()
            number = self._known[status, headers] = len(self._known) + 1
            shape = self._heads.shape(response)
            self._tell(number, shape.start + shape.fields)
        self._last = status, headers, number
        return number
