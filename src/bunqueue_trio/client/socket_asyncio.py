"""The client's WebSocket on asyncio: the package websockets."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from websockets.asyncio import client
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bunqueue_trio.client.connection import (
    CONNECT_S,
    END_S,
    KEEPALIVE_S,
    READ_AHEAD,
    RECEIVED_MAX,
    TOO_BIG,
    Address,
    Closed,
    Connection,
    broken,
    goodbye_s,
    rejected,
    untrusted,
)  # fmt: skip


@asynccontextmanager
async def connect(address: Address, queue: str | None) -> AsyncIterator[Connection]:
    """Connect to a server; see ``Connect``."""
    socket = await _open(address, queue)
    try:
        yield _WebSocket(socket)
    finally:
        await _close(socket)  # noqa: ASYNC102 - it has a limit; a cancelled one just cuts


class _WebSocket:
    keepalive_s: float | None = KEEPALIVE_S

    def __init__(self, socket: client.ClientConnection) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        try:
            await self._socket.send(message, text=True)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            raise _closed(error) from None


class _Connection(client.ClientConnection):
    """One that ends soon after either side has said goodbye, or spoken nonsense, though the other does not hang up."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.close_expected():
            self.loop.call_later(END_S, self.transport.abort)


class _Connect(client.connect):
    """One that sends no token to where an answer points."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _closed(error: ConnectionClosed) -> Closed:
    return Closed(too_big=error.rcvd is not None and error.rcvd.code == TOO_BIG)


async def _open(address: Address, queue: str | None) -> client.ClientConnection:
    place: dict[str, Any] = {"ssl": address.tls}
    if address.path is not None:
        place = {"unix": True, "path": address.path}
    headers = {} if address.token is None else {"Authorization": f"Bearer {address.token}"}
    scheme = "ws" if address.tls is None else "wss"
    try:
        return await _Connect(
            f"{scheme}://{address.netloc}{address.resource(queue)}", additional_headers=headers, compression=None,
            proxy=None, open_timeout=CONNECT_S, ping_interval=None, close_timeout=None, max_size=RECEIVED_MAX,
            max_queue=READ_AHEAD, create_connection=_Connection, **place,
        )  # fmt: skip
    except InvalidStatus as error:
        raise rejected(address.given, error.response.status_code, error.response.body) from None
    except ssl.SSLCertVerificationError as error:
        raise untrusted(address.given, error) from None
    except ssl.SSLError as error:
        raise ConnectionError(f"{address.given}: TLS failed: {error}") from None
    except TimeoutError:
        raise ConnectionError(f"{address.given}: no answer to the handshake") from None
    except OSError as error:
        raise ConnectionError(f"{address.given}: {str(error) or 'no answer'}") from None
    except Exception as error:  # of the library, for whatever was answered
        raise broken(address.given, error) from None


async def _close(socket: client.ClientConnection) -> None:
    """Say goodbye, after what was begun, and leave nothing of the connection."""
    with anyio.move_on_after(goodbye_s(unsent=socket.transport.get_write_buffer_size() > 0), shield=True):
        await socket.close()
    socket.transport.abort()
    with anyio.move_on_after(END_S, shield=True):
        await socket.wait_closed()
