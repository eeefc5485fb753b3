"""The slow lane: Hypercorn and the Quart application, for whatever is not plain enough for the express lane.

It is read when the server has begun to serve: a start must not import it.
"""

import logging
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import wrap_app

from bunqueue_trio import errors
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import (
    HALF_CLOSED_S,
    HEADER_BYTES_MAX,
    HEADER_TIMEOUT_S,
    RECEIVE_BYTES,
    SIP_BYTES,
    WRITE_TIMEOUT_S,
    Settings,
)
from bunqueue_trio.protocol.catalog import TAKES
from bunqueue_trio.runtime.budget import Hold
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.transports.http1 import Http1Connection
from bunqueue_trio.transports.quart_app import IS_BROKEN, LASTS, SPARES, make_app
from bunqueue_trio.transports.rounds import Rounds
from bunqueue_trio.transports.wire import Wire, make_buffer

_REFUSAL = re.compile(
    rb"HTTP/1\.1 (4\d\d|501) [A-Za-z -]*\r\ncontent-length: 0\r\nconnection: close\r\n", re.IGNORECASE
)
"""How Hypercorn's own refusals begin; those of the application have a body."""
_FAULTS = {431: errors.HEADERS_TOO_LARGE, 501: errors.UNKNOWN_TRANSFER_CODING}

Refuse = Callable[[errors.Fault], bytes]
"""Returns the response that says so."""


def fault_of(status: int) -> errors.Fault:
    """Return in our words what Hypercorn refuses with ``status``."""
    return _FAULTS.get(status, errors.MALFORMED_REQUEST)


class PassedStream(trio.abc.Stream):
    """A connection's stream as Hypercorn sees it: with bytes to read again, and late writes noticed."""

    def __init__(
        self, stream: Any, wire: Wire, unread: bytes, scope: trio.CancelScope, hold: Hold, refuse: Refuse, address: str, ends: Rounds,
    ) -> None:  # fmt: skip
        self.address = address
        """From where its client is, which Hypercorn would ask the socket, and that may be one to a door."""
        self._stream = stream
        self._wire = wire
        self._ends = ends
        self._refused = False
        self.hold: Hold = hold
        """Of a WebSocket's message that has not come to its end."""
        self._refuse = refuse
        self._scope = scope
        self._unread = unread
        # Hypercorn says the end while it may still be sending.
        self._sending = trio.Lock()
        self.deadline: float = float("inf")
        self.ended_at: float = float("inf")
        """When the client said that it will send nothing more, or was found gone."""
        self.sips: bool = False
        """Read little at a time: a WebSocket's many small frames must not shut everybody else out."""
        self.count_unfinished: Callable[[], int] = lambda: 0
        """Returns the bytes that Hypercorn keeps of messages that have not come to their end."""
        self.answering: trio.Event = trio.Event()
        """Of the request under way. Set when it is answered, or lasts: a waiting pull or a stream of events."""
        self.delivers: bool = False
        """The answer brings jobs, which return to their queue if it cannot be sent."""
        self.is_spare: bool = False
        """Nobody misses the rest of the answer."""
        self._half_closed = False
        self.is_broken: bool = False
        """Something could not be sent."""
        self._gone = False
        """Closed, as it turned out, not half."""
        self.is_whole: Callable[[], bool] = lambda: False
        """Returns whether all of the request under way has come."""

    def __getattr__(self, name: str) -> Any:
        # Hypercorn asks for the socket, and for TLS methods to find out whether there is TLS.
        return getattr(self._stream, name)

    def spare(self) -> None:
        """Let the answer under way end as soon as its place is wanted."""
        self.is_spare = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what is to be read again, then what comes."""
        if self._unread:
            unread, self._unread = self._unread, b""
            return unread
        data: bytes | bytearray = b""
        try:
            if not self.hold.fit(self.count_unfinished()):
                # No room for a message without an end: it ends here.
                return data
            data = await self._wire.receive(SIP_BYTES if self.sips else RECEIVE_BYTES)
            if not data:
                await self._ends.begin()
            if not data and self.is_whole():
                # Half a close: it may still read. Hypercorn would drop the answer at the end of what comes.
                self._half_closed = True
                with trio.move_on_after(HALF_CLOSED_S):
                    await self.answering.wait()
        finally:
            if not data:
                self.ended_at = trio.current_time()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``; the keeper sees how long it takes. A refusal of Hypercorn's gets the documented body."""
        if refusal := _REFUSAL.match(data):
            data = self._refuse(fault_of(int(refusal[1])))
            self._refused = True
            handled = sys.exc_info()[1]
            if isinstance(handled, h11.RemoteProtocolError):
                # See find_fault.
                handled.__traceback__ = None
        if self._gone:
            return
        async with self._sending:
            self.deadline = trio.current_time() + WRITE_TIMEOUT_S
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                self.is_broken = True
                if self._half_closed and not self.delivers:
                    self._gone = True
                    # Hypercorn hears of the end now, and drops the rest.
                    self.answering.set()
                    return
                # Hypercorn would go on to answer all that the client had asked before it left.
                self._scope.cancel()
                raise
            finally:
                self.deadline = float("inf")

    async def send_eof(self) -> None:
        """Say that nothing more will be sent."""
        async with self._sending:
            await self._stream.send_eof()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the stream itself does."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream itself."""
        await self._stream.aclose()
        if self._refused:
            # Hypercorn would stay until its keep-alive timer, or the keeper, ends it.
            self._scope.cancel()


class SlowLane:
    """Serves connections that were handed over."""

    def __init__(self, server: Server, gateway: Gateway, refuse: Refuse, ends: Rounds) -> None:
        self._refuse = refuse
        self._ends = ends
        self._gateway = gateway
        self._body_max = server.settings.body_max_bytes
        self._buffer = make_buffer()
        self._buffers = server.buffers
        self._config = _hypercorn_config(server.settings)
        self._context = WorkerContext(None)
        self._app = wrap_app(make_app(server, gateway), self._config.wsgi_max_body_size, "asgi")

    def stream(self, stream: trio.abc.Stream, unread: bytes, scope: trio.CancelScope, address: str) -> PassedStream:
        """Return ``stream``, from ``address``, as Hypercorn is to see it, with ``unread`` to be read first; ``scope`` ends it."""
        wire = Wire(stream, self._buffer)
        return PassedStream(stream, wire, unread, scope, self._buffers.hold(), self._refuse, address, self._ends)

    def find_fault(self, unread: bytes) -> errors.Fault | None:
        """Return why Hypercorn would refuse what begins with ``unread``, None if it would not: it has the same parser.

        A flood of garbage costs a tenth of what it would cost to let Hypercorn begin.
        """
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._config.h11_max_incomplete_size)
        parser.receive_data(unread)
        try:
            parser.next_event()
        except h11.RemoteProtocolError as error:
            # Its frames refer to it, and to all that came: for the garbage collector.
            error.__traceback__ = None
            return fault_of(error.error_status_hint)
        return None

    async def serve(self, stream: PassedStream, run: Callable[..., Awaitable[None]]) -> None:
        """Serve ``stream`` to its end; each request is run by calling ``run`` with the application and its arguments."""
        connection = Http1Connection(
            cast("AppWrapper", partial(self._answer, stream, run)),
            self._config,
            self._context,
            ConnectionState({}),
            stream,
            judge=partial(self._judge, stream),
        )
        stream.count_unfinished = partial(_count_unfinished, connection)
        stream.is_whole = partial(_is_whole, connection)
        try:
            await connection.run()
        except Exception as error:
            if not is_clients_doing(error):
                raise
        finally:
            stream.hold.release()
            # They know the connection, which knows the stream.
            stream.count_unfinished, stream.is_whole = int, bool
            _forget(connection)

    async def _answer(
        self, stream: PassedStream, run: Callable[..., Awaitable[None]], scope: dict[str, Any], *channels: Any
    ) -> None:
        answering = stream.answering
        scope[LASTS], scope[IS_BROKEN], scope[SPARES] = answering.set, lambda: stream.is_broken, stream.spare
        scope["client"] = (stream.address, 0)
        try:
            await run(self._app, scope, *channels)
        finally:
            stream.is_spare = False
            answering.set()

    def _judge(self, stream: PassedStream, method: str, target: str, headers: Mapping[str, str]) -> tuple[bool, bool]:
        call = self._gateway.resolve(method, target, headers)
        stream.answering, stream.delivers = trio.Event(), call.target in TAKES
        has_body = bool(headers.get("content-length", "0").strip("0")) or "transfer-encoding" in headers
        # It is refused as a request then.
        wants_websocket = call.target == "websocket" and not has_body
        length = headers.get("content-length", "0")
        reads_body = has_body and call.route is not None and (call.is_open or call.is_admitted)
        return wants_websocket, reads_body and (not length.isdigit() or int(length[:20]) <= self._body_max)

    async def stop(self) -> None:
        """End keep-alive: each connection is closed after its present request."""
        await self._context.terminated.set()


def is_clients_doing(error: Exception) -> bool:
    """Return whether all that went wrong in Hypercorn is that a client hung up, or sent what it must not.

    Hypercorn answers some broken requests when h11 takes the connection for broken already.
    """
    clients = trio.BrokenResourceError | trio.ClosedResourceError | h11.LocalProtocolError
    return all(isinstance(leaf, clients) for leaf in errors.leaves(error))


def _is_whole(connection: TCPServer) -> bool:
    protocol: Any = connection.protocol.protocol
    return protocol.connection.their_state in (h11.DONE, h11.MUST_CLOSE)


def _count_unfinished(connection: TCPServer) -> int:
    protocol: Any = connection.protocol.protocol
    stream = protocol.stream
    return stream.buffer.length if isinstance(stream, WSStream) else 0


def _forget(connection: TCPServer) -> None:
    """Take an ended connection apart: its parts refer to each other, and would stay until a rare full collection."""
    # None, if the client was gone before it was made.
    wrapper = vars(connection).get("protocol")
    protocol = getattr(wrapper, "protocol", None)
    stream = getattr(protocol, "stream", None)
    for part in (stream, protocol, wrapper, connection):
        if part is not None:
            vars(part).clear()


def _hypercorn_config(settings: Settings) -> Config:
    config = Config()
    config.accesslog = None
    # See logs.py.
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.keep_alive_timeout = settings.keep_alive_ms / 1000
    config.read_timeout = None
    config.ssl_handshake_timeout = HEADER_TIMEOUT_S
    config.h11_max_incomplete_size = HEADER_BYTES_MAX
    config.websocket_max_message_size = settings.body_max_bytes
    # Messages of a WebSocket, or pieces of a body, that wait outside of any budget.
    config.max_app_queue_size = 2
    config.websocket_ping_interval = 20
    return config
