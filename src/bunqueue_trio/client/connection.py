"""How messages get to a server and back: the interface that a client needs, and WebSocket behind it."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio
import trio_websocket as ws

from bunqueue_trio.errors import Refused

MESSAGE_MAX = 10 * 1024 * 1024  # the server's default for one message; larger ones would end the connection
RECEIVED_MAX = 256 * 1024 * 1024  # a batch of large jobs is larger than any one of them
CONNECT_S = 10.0  # to be connected, and also for an orderly end
_QUEUE = 256  # messages read ahead: what a busy worker gets in a few ms
_BUFFER = 64 * 1024
_TOO_BIG = 1009


class Closed(Exception):
    """The connection is over; ``too_big``: because the server does not take messages of that size."""

    def __init__(self, *, too_big: bool = False) -> None:
        super().__init__("the connection is closed")
        self.too_big = too_big


class Connection(Protocol):
    """One connection; a single task sends and a single task receives."""

    keepalive_s: float | None
    """How long the other side may be silent before it is asked whether it is there; None: its end is always noticed."""

    async def send(self, message: bytes) -> None:
        """Send one message.

        Raises:
            Closed: it is over.
        """
        ...

    async def receive(self) -> bytes:
        """Return the next message.

        Raises:
            Closed: it is over.
        """
        ...


Connect = Callable[[str | None], AbstractAsyncContextManager[Connection]]
"""Connects; given a queue, only events of that queue come. Entering it raises ``OSError`` when there is no
server, or ``Refused`` when it will never let us in."""


class _WebSocket:
    keepalive_s: float | None = 20.0  # as often as the server looks after us

    def __init__(self, socket: ws.WebSocketConnection) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        try:
            await self._socket.send_message(message.decode())
        except ws.ConnectionClosed as error:
            raise _closed(error) from None

    async def receive(self) -> bytes:
        try:
            message = await self._socket.get_message()
        except ws.ConnectionClosed as error:
            raise _closed(error) from None
        return message.encode() if isinstance(message, str) else message


def _closed(error: ws.ConnectionClosed) -> Closed:
    return Closed(too_big=error.reason is not None and error.reason.code == _TOO_BIG)


def websocket(url: str, token: str | None = None, tls: ssl.SSLContext | None = None) -> Connect:
    """Return what connects to the server at ``url``, ``ws://host:port`` or ``wss://``."""
    headers = [] if token is None else [(b"Authorization", b"Bearer " + token.encode())]

    @asynccontextmanager
    async def connect(queue: str | None) -> AsyncIterator[Connection]:
        address = url.rstrip("/") + ("/ws" if queue is None else f"/ws/queues/{queue}")
        trouble: Exception | None = None
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT_S):
                    socket = await ws.connect_websocket_url(
                        nursery, address, tls, extra_headers=list(headers), message_queue_size=_QUEUE,
                        max_message_size=RECEIVED_MAX, receive_buffer_size=_BUFFER,
                    )  # fmt: skip
            except ws.ConnectionRejected as error:
                trouble = _rejected(address, error.status_code)
            except (ws.HandshakeError, trio.TooSlowError, OSError) as error:
                trouble = ConnectionError(f"{address}: {error.__cause__ or str(error) or 'no answer'}")
            else:
                try:
                    yield _WebSocket(socket)
                finally:
                    with trio.move_on_after(1, shield=True):
                        await socket.aclose()
            nursery.cancel_scope.cancel()
        if trouble is not None:  # out here, so that it is not in a group
            raise trouble

    return connect


def _rejected(address: str, status: int) -> Exception:
    if status == 401:
        return Refused(status, f"{address}: Unauthorized")
    if 400 <= status < 500 and status != 429:
        return Refused(status, f"{address}: is no bunqueue server ({status})")
    return ConnectionError(f"{address}: answered {status}")
