"""What a door says by itself: that it can do nothing, now. One answer to a connection, which ends with it."""

from http import HTTPStatus

from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.replies import error_reply

RETRY_AFTER_S = 2


def refusal(fault: Fault, *, is_head: bool = False) -> bytes:
    """Return the whole response that says ``fault``."""
    body = encode(error_reply(fault.refuse(), coded=True))
    head = (
        f"HTTP/1.1 {fault.status} {HTTPStatus(fault.status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: {RETRY_AFTER_S}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (b"" if is_head else body)
