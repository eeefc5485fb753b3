"""What a server answers while another one leads its store: that it lives, is not ready, and can do nothing yet.

One answer to a connection, which ends with it: whoever asks is a probe, or a client that is better off elsewhere.
"""

from functools import partial

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import RECEIVE_BYTES, WAITING_ROOM_ASKING, WAITING_ROOM_S, Settings
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.replies import error_reply
from bunqueue_trio.transports.sockets import open_listeners

_HEAD_BYTES = 16 * 1024  # as of any request
_ALIVE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"


async def waiting_room(settings: Settings, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Answer on the addresses of the settings until cancelled.

    Raises:
        StartupError: an address cannot be listened on.
    """
    listeners, _ = await open_listeners(settings)
    async with trio.open_nursery() as connections:
        asking = trio.CapacityLimiter(WAITING_ROOM_ASKING)
        serve = partial(trio.serve_listeners, partial(_serve, asking), listeners, handler_nursery=connections)
        await connections.start(serve)
        task_status.started()


async def _serve(asking: trio.CapacityLimiter, stream: trio.abc.Stream) -> None:
    """Answer one request, if there is one soon."""
    try:
        with trio.move_on_after(WAITING_ROOM_S):
            async with asking:
                head = await _head(stream)
                if head:
                    await stream.send_all(_answer(head))
                    await _hear_out(stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # whoever asked has gone
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


async def _head(stream: trio.abc.Stream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
        more = await stream.receive_some(RECEIVE_BYTES)
        if not more:
            return b""
        head += more
    return head


async def _hear_out(stream: trio.abc.Stream) -> None:
    """Read what else comes: an end before that could take the answer along."""
    if isinstance(stream, trio.SocketStream):
        await stream.send_eof()
    left = _HEAD_BYTES
    while left > 0 and (more := await stream.receive_some(RECEIVE_BYTES)):
        left -= len(more)


def _answer(head: bytes) -> bytes:
    method, _, rest = head.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    if target in (b"/healthz", b"/live") and method in (b"GET", b"HEAD"):
        return _ALIVE + (b"OK" if method == b"GET" else b"")
    body = encode(error_reply(errors.STANDBY.refuse(), coded=True))
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Retry-After: 2\r\nConnection: close\r\n\r\n" % len(body)
    ) + (b"" if method == b"HEAD" else body)
