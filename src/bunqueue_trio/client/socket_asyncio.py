"""The client's WebSocket on asyncio: the package websockets."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohappyeyeballs import start_connection
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
    message_max_of,
    rejected,
    untrusted,
)
from bunqueue_trio.protocol.request import MESSAGE_MAX_HEADER

# Trio's: how long an address of a host may be silent before the next one is tried beside it.
NEXT_ADDRESS_S = 0.25


@asynccontextmanager
async def connect(address: Address, queue: str | None) -> AsyncIterator[Connection]:
    """Connect to a server; see ``Connect``."""
    connection = await _open(address, queue)
    try:
        yield _WebSocket(connection)
    finally:
        await _close(connection)  # noqa: ASYNC102 - it has a limit; a cancelled one just cuts


class _WebSocket:
    keepalive_s: float | None = KEEPALIVE_S

    def __init__(self, socket: client.ClientConnection) -> None:
        self._socket = socket
        headers = {} if socket.response is None else socket.response.headers
        self.message_max: int = message_max_of(headers.get(MESSAGE_MAX_HEADER))

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
    try:
        with anyio.fail_after(CONNECT_S):
            if address.path is not None:
                return await _shake_hands(address, queue, {"unix": True, "path": address.path})
            tcp = await _connected(address)
            try:
                return await _shake_hands(address, queue, {"sock": tcp, "ssl": address.tls})
            except BaseException:
                tcp.close()
                raise
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
    except Exception as error:
        # Of the library, for whatever was answered.
        raise broken(address.given, error) from None


async def _connected(address: Address) -> socket.socket:
    """Return a connection to the first address of the host that answers.

    Not by the loop's own ``create_connection``: cancelled between an answer and its notice, that leaves the socket open.
    """
    addresses = await anyio.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)


async def _shake_hands(address: Address, queue: str | None, place: dict[str, Any]) -> client.ClientConnection:
    headers = {} if address.token is None else {"Authorization": f"Bearer {address.token}"}
    scheme = "ws" if address.tls is None else "wss"
    return await _Connect(
        f"{scheme}://{address.netloc}{address.resource(queue)}", additional_headers=headers, compression=None, proxy=None,
        open_timeout=None, ping_interval=None, close_timeout=None, max_size=RECEIVED_MAX, max_queue=READ_AHEAD,
        create_connection=_Connection, **place,
    )  # fmt: skip


async def _close(connection: client.ClientConnection) -> None:
    """Say goodbye, after what was begun, and leave nothing of the connection."""
    with anyio.move_on_after(goodbye_s(unsent=connection.transport.get_write_buffer_size() > 0), shield=True):
        await connection.close()
    connection.transport.abort()
    with anyio.move_on_after(END_S, shield=True):
        await connection.wait_closed()
