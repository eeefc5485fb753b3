"""The client's WebSocket on Trio: trio-websocket, on a socket that switches no task without need."""

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio_websocket as ws

from bunqueue_trio.client.connection import (
    CONNECT_S,
    FINISH_S,
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
from bunqueue_trio.errors import leaves
from bunqueue_trio.protocol.request import MESSAGE_MAX_HEADER

_BUFFER = 64 * 1024


@asynccontextmanager
async def connect(address: Address, queue: str | None) -> AsyncIterator[Connection]:
    """Connect to a server; see ``Connect``."""
    headers = [] if address.token is None else [(b"Authorization", b"Bearer " + address.token.encode())]
    refusal: Exception | None = None
    shaken = False
    stream = await _open(address)
    try:
        async with trio.open_nursery() as nursery:
            limit = trio.CancelScope(relative_deadline=CONNECT_S)
            nursery.start_soon(_give_up_at_end, stream, limit)
            with limit:
                socket = await ws.wrap_client_stream(
                    nursery, stream, address.netloc, address.resource(queue), extra_headers=headers,
                    message_queue_size=READ_AHEAD, max_message_size=RECEIVED_MAX, receive_buffer_size=_BUFFER,
                )  # fmt: skip
            if limit.cancelled_caught:
                what = "the connection was closed in" if stream.ended.is_set() else "no answer to"
                refusal = ConnectionError(f"{address.given}: {what} the handshake")
            else:
                shaken = True
                try:
                    yield _WebSocket(socket)
                finally:
                    await _close(socket)  # noqa: ASYNC102 - it has a limit; a cancelled one just cuts
            nursery.cancel_scope.cancel()
    except Exception as error:
        # Of the library, of the one below it, of the socket; alone or in groups.
        if shaken:
            raise
        refusal = _refusal(address, leaves(error)[0])
    finally:
        await trio.aclose_forcefully(stream)
    # Out here, so that it is not in a group.
    if refusal is not None:
        raise refusal


class _WebSocket:
    keepalive_s: float | None = KEEPALIVE_S

    def __init__(self, socket: ws.WebSocketConnection) -> None:
        self._socket = socket
        said = {name.lower(): value for name, value in socket.handshake_headers}
        self.message_max: int = message_max_of(said.get(MESSAGE_MAX_HEADER.lower().encode()))

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


class _Wire(trio.abc.Stream):
    """A socket on which a write that the kernel takes whole switches no task, and a read waits before it looks.

    Trio's own stream lets others run after each of them. Here a question waits for its answer in any case. A message
    that has begun is sent to its end also when that is cancelled: what comes after half of one, a goodbye above all,
    could not be read.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._socket = stream.socket
        self.ended = trio.Event()
        """The other side has closed it, or it broke."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = self._write(memoryview(data))
        try:
            while rest:
                await trio.lowlevel.wait_writable(self._socket)
                rest = self._write(rest)
        except trio.Cancelled:
            with trio.move_on_after(FINISH_S, shield=True):
                while len(data) > len(rest) > 0:
                    await trio.lowlevel.wait_writable(self._socket)
                    rest = self._write(rest)
            raise

    def _write(self, data: memoryview) -> memoryview:
        """Return what the kernel does not take now."""
        try:
            return data[os.write(self._socket.fileno(), data) :]
        except BlockingIOError:
            return data
        except OSError as error:
            raise trio.BrokenResourceError(f"cannot write: {error}") from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError
        try:
            await trio.lowlevel.wait_readable(self._socket)
            data: bytes | bytearray = os.read(self._socket.fileno(), max_bytes or _BUFFER)
        except BlockingIOError:
            # Woken for nothing.
            data = await self._stream.receive_some(max_bytes)
        except OSError as error:
            self.ended.set()
            raise trio.BrokenResourceError(f"cannot read: {error}") from error
        if not data:
            self.ended.set()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Secured(trio.abc.Stream):
    """The same of TLS, which only needs to tell its end."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self.ended = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self.ended.set()
            raise
        if not data:
            self.ended.set()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


def _closed(error: ws.ConnectionClosed) -> Closed:
    return Closed(too_big=error.reason is not None and error.reason.code == TOO_BIG)


async def _give_up_at_end(stream: _Wire | _Secured, limit: trio.CancelScope) -> None:
    await stream.ended.wait()
    limit.cancel()


# A stream; the type that is asked for is narrower.
async def _open(address: Address) -> Any:
    try:
        with trio.fail_after(CONNECT_S):
            if address.path is not None:
                return _Wire(await trio.open_unix_socket(address.path))
            assert address.host is not None
            if address.tls is None:
                return _Wire(await trio.open_tcp_stream(address.host, address.port))
            stream = await trio.open_ssl_over_tcp_stream(
                address.host, address.port, https_compatible=True, ssl_context=address.tls
            )
            try:
                await stream.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return _Secured(stream)
    except (OSError, trio.TooSlowError) as error:
        raise ConnectionError(f"{address.given}: {str(error) or 'no answer'}") from None
    except trio.BrokenResourceError as error:
        # That is how the stream tells any trouble of TLS.
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise untrusted(address.given, error.__cause__) from None
        raise ConnectionError(
            f"{address.given}: TLS failed: {error.__cause__ or 'the connection was closed'}"
        ) from None


async def _close(socket: ws.WebSocketConnection) -> None:
    with trio.move_on_after(goodbye_s(), shield=True):
        await socket.aclose()


def _refusal(address: Address, error: BaseException) -> Exception:
    if isinstance(error, ws.ConnectionRejected):
        return rejected(address.given, error.status_code, error.body)
    return broken(address.given, error)
