"""What a door says by itself: that it can do nothing, now. One answer to a connection, which ends with it."""

from http import HTTPStatus

from bunqueue_trio.api.access import Access
from bunqueue_trio.config import Settings
from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.replies import error_reply

RETRY_AFTER_S = 2


class Refusals:
    """The refusals of one door: pages of other origins may read them as they may the leader's."""

    def __init__(self, settings: Settings) -> None:
        self._cors = "".join(f"{name}: {value}\r\n" for name, value in Access(settings).cors(None))

    def of(self, fault: Fault, *, is_head: bool = False) -> bytes:
        """Return the whole response that says ``fault``."""
        body = encode(error_reply(fault.refuse()))
        head = (
            f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}\r\nContent-Type: application/json\r\n{self._cors}"
            f"Content-Length: {len(body)}\r\nRetry-After: {RETRY_AFTER_S}\r\nConnection: close\r\n\r\n"
        )
        return head.encode("latin-1") + (b"" if is_head else body)
