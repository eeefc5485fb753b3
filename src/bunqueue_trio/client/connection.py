"""How messages get to a server and back: the interface that a client needs, and WebSocket behind it."""

import math
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import msgspec
import trio
import trio_websocket as ws

from bunqueue_trio.errors import INVALID_QUEUE, UNAUTHORIZED, Refused, leaves
from bunqueue_trio.protocol.address import http_url
from bunqueue_trio.protocol.faults import fault_of

MESSAGE_MAX = 10 * 1024 * 1024  # the server's default for one message; larger ones would end the connection
RECEIVED_MAX = 256 * 1024 * 1024  # a batch of large jobs is larger than any one of them
CONNECT_S = 10.0  # to be connected, and also for an orderly end
FINISH_S = 1.0  # for the rest of a message that has begun, when everything is cancelled
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
        except BlockingIOError:  # woken for nothing
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
    return Closed(too_big=error.reason is not None and error.reason.code == _TOO_BIG)


def websocket(url: str, token: str | None = None, tls: ssl.SSLContext | None = None) -> Connect:
    """Return what connects to the server at ``url``: ``host:port``, ``ws(s)://host:port``, ``http(s)://host:port`` or ``unix:/path``."""
    headers = [] if token is None else [(b"Authorization", b"Bearer " + token.encode())]

    @asynccontextmanager
    async def connect(queue: str | None) -> AsyncIterator[Connection]:
        resource = "/ws" if queue is None else f"/ws/queues/{quote(queue, safe='')}"
        rejected: Exception | None = None
        shaken = False
        stream = await _open(url, tls)
        try:
            async with trio.open_nursery() as nursery:
                limit = trio.CancelScope(relative_deadline=CONNECT_S)
                nursery.start_soon(_give_up_at_end, stream, limit)
                with limit:
                    socket = await ws.wrap_client_stream(
                        nursery, stream, urlsplit(http_url(url)).netloc or "localhost", resource, extra_headers=list(headers),
                        message_queue_size=_QUEUE, max_message_size=RECEIVED_MAX, receive_buffer_size=_BUFFER,
                    )  # fmt: skip
                if limit.cancelled_caught:
                    what = "the connection was closed in" if stream.ended.is_set() else "no answer to"
                    rejected = ConnectionError(f"{url}: {what} the handshake")
                else:
                    shaken = True
                    try:
                        yield _WebSocket(socket)
                    finally:
                        await _close(socket)  # noqa: ASYNC102 - it has a limit; a cancelled one just cuts
                nursery.cancel_scope.cancel()
        except Exception as error:  # of the library, of the one below it, of the socket; alone or in groups
            if shaken:
                raise
            rejected = _rejected(url, leaves(error)[0])
        finally:
            await trio.aclose_forcefully(stream)
        if rejected is not None:  # out here, so that it is not in a group
            raise rejected

    return connect


async def _give_up_at_end(stream: _Wire | _Secured, limit: trio.CancelScope) -> None:
    await stream.ended.wait()
    limit.cancel()


async def _open(url: str, tls: ssl.SSLContext | None) -> Any:  # a stream; the type that is asked for is narrower
    parts = urlsplit(http_url(url))
    try:
        with trio.fail_after(CONNECT_S):
            if parts.scheme == "unix":
                return _Wire(await trio.open_unix_socket(parts.path))
            if parts.hostname is None or parts.scheme not in ("ws", "wss", "http", "https"):
                raise Refused(400, f"{url!r} is not host:port, ws(s)://host:port, http(s)://host:port or unix:/path")
            if parts.scheme in ("ws", "http"):
                return _Wire(await trio.open_tcp_stream(parts.hostname, parts.port or 80))
            stream = await trio.open_ssl_over_tcp_stream(
                parts.hostname, parts.port or 443, https_compatible=True, ssl_context=tls
            )
            try:
                await stream.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return _Secured(stream)
    except (OSError, trio.TooSlowError) as error:
        raise ConnectionError(f"{url}: {str(error) or 'no answer'}") from None
    except trio.BrokenResourceError as broken:  # that is how the stream tells any trouble of TLS
        if isinstance(broken.__cause__, ssl.SSLCertVerificationError):
            raise Refused(400, f"{url}: {broken.__cause__.verify_message}: its certificate is not trusted") from None
        raise ConnectionError(f"{url}: TLS failed: {broken.__cause__ or 'the connection was closed'}") from None


async def _close(socket: ws.WebSocketConnection) -> None:
    """Say goodbye; when we are cancelled already, without waiting for the answer."""
    cancelled = trio.current_effective_deadline() == -math.inf
    with trio.move_on_after(0.05 if cancelled else 1, shield=True):
        await socket.aclose()


def _rejected(address: str, error: BaseException) -> Exception:
    """Return what a handshake that failed means. Nearly all of it passes: a deploy, a proxy that lacks its server."""
    if not isinstance(error, ws.ConnectionRejected):
        return ConnectionError(f"{address}: the handshake broke: {type(error).__name__}: {error}")
    said = _refusal_of(error.body)
    if error.status_code == 401:
        return Refused(401, f"{address}: {UNAUTHORIZED.message}", UNAUTHORIZED.code)
    if said is None:
        return ConnectionError(f"{address}: answered {error.status_code}: not as a bunqueue server does")
    if fault_of(said.error, said.code) is INVALID_QUEUE:
        return Refused(error.status_code, said.error, INVALID_QUEUE.code)
    return ConnectionError(f"{address}: answered {error.status_code}: {said.error}")


def _refusal_of(body: bytes | None) -> "_Refusal | None":
    """Return what a server of ours refused; None for any other answer."""
    try:
        reply = msgspec.json.decode(body or b"", type=_Refusal)
    except msgspec.DecodeError:
        return None
    return None if reply.ok else reply


class _Refusal(msgspec.Struct):
    ok: bool
    error: str
    code: str | None = None
