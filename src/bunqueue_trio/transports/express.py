"""The express lane: HTTP/1.1 requests served on the Trio stream itself, without a framework.

A connection starts here. Requests in plain form (a Host, a body with Content-Length or none) are parsed
by httptools and answered through the same :class:`Gateway` as everywhere else. Whatever is not plain
(chunked bodies, HTTP/1.0, oversized or broken heads, event streams) is handed, with the
bytes read so far, to Hypercorn, for the rest of that connection.
"""

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

import httptools
import trio

from bunqueue_trio import errors
from bunqueue_trio.api.gateway import Call, Gateway, Response
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import (
    BODY_TIMEOUT_S,
    HEADER_BYTES_MAX,
    HEADER_TIMEOUT_S,
    HEADS_KEPT,
    KEPT_HEAD_BYTES,
    RECEIVE_BYTES,
    WRITE_TIMEOUT_S,
)
from bunqueue_trio.errors import Fault, Refused
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.protocol.routes import Match
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.core import Begun
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.transports.websocket import WebSocket
from bunqueue_trio.transports.wire import Wire, make_buffer

FOREVER = float("inf")
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class Handover(Exception):
    """This connection goes on at Hypercorn; ``unread`` is what it has to read first."""

    def __init__(self, unread: bytes) -> None:
        super().__init__("handover")
        self.unread = unread


class _Gone(Exception):
    """The client has hung up."""


class _Head:
    """The head of a request, as httptools reports it."""

    __slots__ = ("headers", "target")

    def __init__(self) -> None:
        self.target = ""
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text


class _Watching:
    """The watching of a client while it waits for a job."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended = trio.Event()


class _Plain(NamedTuple):
    """A request in plain form, but for its body."""

    call: Call
    length: int
    """Of its body, in bytes."""
    keep: bool
    """The client goes on with this connection."""
    is_head: bool
    waits: bool
    """The client sends its body when it is told to go on."""


class _Upgrade(NamedTuple):
    """A request for a WebSocket where there is one."""

    call: Call
    headers: dict[str, str]


class ResponseHeads:
    """Makes the heads of responses: the same bytes that Hypercorn would send."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[int, tuple[tuple[str, str], ...]], tuple[bytes, bytes]] = {}
        self._second = 0
        self._date = b""

    def render(self, response: Response, length: int, *, keep: bool) -> bytes:
        """Return status line, headers and the empty line."""
        key = (response.status, response.headers)
        known = self._known.get(key)
        if known is None:
            if len(self._known) > 1000:  # origins are echoed: a client could invent many
                self._known.clear()
            lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in response.headers)
            start = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
            self._known[key] = known = (start.encode("latin-1"), lines.encode("latin-1"))
        second = self._clock.now() // 1000
        if second != self._second:
            self._second = second
            self._date = f"date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        size = b"" if response.status == HTTPStatus.NO_CONTENT else b"content-length: %d\r\n" % length
        end = b"\r\n" if keep else b"Connection: close\r\n\r\n"
        return b"".join((known[0], size, known[1], self._date, end))


class ExpressShared:
    """What the connections of the lane share: the time, and the heads of requests that come again and again."""

    def __init__(self, server: Server, gateway: Gateway, watchers: trio.Nursery) -> None:
        self.server = server
        self.gateway = gateway
        self.watchers: trio.Nursery = watchers
        """For what looks whether a client that waits hangs up. A job handed to it goes out at once: the end of a
        nursery of its own would take two switches of tasks first, a quarter of the whole hand-over."""
        self.heads: ResponseHeads = ResponseHeads(server.clock)
        self.now: float = trio.current_time()
        """As of the keeper's last round, which is exact enough for patience."""
        self.buffer: memoryview = make_buffer()
        self.keep_alive_s: float = server.settings.keep_alive_ms / 1000
        self._known: dict[bytes, _Plain] = {}

    def refusal(self, fault: Fault) -> bytes:
        """Return the whole response that says ``fault`` to a client whose connection is closed then."""
        response = self.gateway.error(fault.refuse(), {})
        assert isinstance(response.body, bytes)
        return self.heads.render(response, len(response.body), keep=False) + response.body

    def parse(self, unread: bytes, end: int) -> _Plain | _Upgrade:
        """Return the request whose head is ``unread[:end]``.

        Raises:
            Handover: it is not in plain form.
        """
        head_bytes = unread[:end]
        plain: _Plain | _Upgrade | None = self._known.get(head_bytes)
        if plain is None:
            plain = self._parse(head_bytes, unread)
            if isinstance(plain, _Upgrade):
                return plain
            match = plain.call.match
            # Ids make heads that do not come again; what leads nowhere may have been made up.
            if len(head_bytes) <= KEPT_HEAD_BYTES and isinstance(match, Match) and "id" not in match.values:
                if len(self._known) >= HEADS_KEPT:
                    self._known.clear()
                self._known[head_bytes] = plain
        return plain

    def _parse(self, head_bytes: bytes, unread: bytes) -> _Plain | _Upgrade:
        head = _Head()
        parser = httptools.HttpRequestParser(head)
        try:
            parser.feed_data(head_bytes)
        except httptools.HttpParserUpgrade:
            pass  # the parser stops here; what it has read is whole
        except httptools.HttpParserError:
            raise Handover(unread) from None
        headers = head.headers
        if not _is_plain(headers, parser.get_http_version()):
            raise Handover(unread)
        method = parser.get_method().decode("latin-1")
        call = self.gateway.resolve(method, head.target, headers)
        if call.target == "events":  # it is not counted against the rate limit yet
            raise Handover(unread)
        length = int(headers.get("content-length", "0"))
        # Any other protocol, and a WebSocket elsewhere, is not wanted: the request itself is served (RFC 9110, 7.8).
        if call.target == "websocket" and parser.should_upgrade() and headers["upgrade"].lower() == "websocket":
            return _Upgrade(call, headers)
        waits = headers.get("expect", "").lower() == "100-continue"
        return _Plain(call, length, _wants_more(headers), method == "HEAD", waits)


class ExpressConnection:
    """One client connection. ``deadline`` (Trio time) is for its keeper: past it, the client is late."""

    def __init__(self, shared: ExpressShared, stream: trio.abc.Stream) -> None:
        self._shared = shared
        self._server = shared.server
        self._wire = Wire(stream, shared.buffer)
        self._unread = b""
        self._hold = shared.server.buffers.hold()
        """Of the bodies of its present request and response."""
        self.deadline: float = FOREVER
        self.idle: bool = True
        """No request is under way: may be closed without anybody missing anything."""
        self.lingers: bool = False
        """The client may still be sending what nobody will read."""
        self.websocket: WebSocket | None = None
        self._watching: _Watching | None = None

    async def run(self) -> None:
        """Serve requests until the client or the server ends it.

        Raises:
            Handover: the next request is not for this lane.
        """
        try:
            while await self._serve_one():
                if self._hold.size:
                    self._hold.release()
        except (_Gone, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone; what it was to get has been returned
        finally:
            if self._watching is not None:
                self._watching.scope.cancel()
            self._hold.release()

    async def _serve_one(self) -> bool:
        """Serve one request; return whether the connection goes on."""
        end = await self._read_head()
        if not end:
            return False
        request = self._shared.parse(self._unread, end)
        if isinstance(request, _Upgrade):
            return await self._upgrade(request, end)
        call, length, keep, is_head, waits = request
        self._unread = self._unread[end:]
        body: bytes | None = None

        async def read_body(limit: int) -> bytes:
            nonlocal body
            if length > limit:
                raise errors.BODY_TOO_LARGE.refuse()
            if body is None:
                if waits:
                    await self._wire.send(_GO_ON)
                body = await self._read_body(length)
            return body

        too_large = length > self._server.settings.body_max_bytes  # nobody will read it to its end
        body = None if too_large or waits else self._take_whole(length)
        response = await self._shared.gateway.respond(call, read_body if body is None else body, self._wait)
        # Who was not told to send a body may send it, or the next request: nobody can tell.
        # A large one is not worth keeping the connection, and would be held for somebody who may have no token.
        self.lingers = self.lingers or too_large or (body is None and (waits or length > RECEIVE_BYTES))
        keep = keep and not self.lingers and not self._server.stop.is_set()
        await self._send(response, is_head=is_head, keep=keep)
        if self._watching is not None:
            await self._watching.ended.wait()  # it was told to end before the answer was made
            self._watching = None
        if keep and body is None:  # refused before it was read: the next request comes after it
            try:
                await read_body(length)
            except Refused:
                return False
        return keep

    async def _read_head(self) -> int:
        """Return where the next request's head ends in what is unread; 0 when there is none any more."""
        self.idle = True
        end = self._head_end()
        if end:
            self.idle = False
            await trio.lowlevel.checkpoint()  # many requests in one packet must not shut everybody else out
            return end
        self.deadline = self._shared.now + (HEADER_TIMEOUT_S if self._unread else self._shared.keep_alive_s)
        while True:
            data = await self._wire.receive()
            if not data:
                return 0
            if not self._unread:
                self.deadline = self._shared.now + HEADER_TIMEOUT_S
            self._unread += data
            end = self._head_end()
            if end:
                self.idle = False
                self.deadline = FOREVER
                return end

    def _head_end(self) -> int:
        """Return where the head ends in what is unread, 0 if that is not there yet.

        Raises:
            Handover: there is no such thing in it, or it is too long.
        """
        unread = self._unread
        end = unread.find(b"\r\n\r\n")
        if end >= 0:
            return end + 4
        if unread.startswith(b"\0"):  # no HTTP begins so
            raise Handover(unread)
        if len(unread) > HEADER_BYTES_MAX or b"\n\n" in unread or unread.startswith(b"\r\n"):
            raise Handover(unread)
        return 0

    async def _read_body(self, length: int) -> bytes:
        missing = length - len(self._unread)
        if missing > 0:
            self.deadline = self._shared.now + BODY_TIMEOUT_S
            chunks, data = [], self._unread
            while True:
                if length > RECEIVE_BYTES:
                    try:
                        self._hold.grow(len(data))
                    except Refused:
                        self._unread, self.deadline, self.lingers = b"", FOREVER, True
                        raise
                chunks.append(data)
                if missing <= 0:
                    break
                data = await self._wire.receive()
                if not data:
                    raise _Gone
                missing -= len(data)
            self._unread = b"".join(chunks)
            self.deadline = FOREVER
        return self._take(length)

    def _take_whole(self, length: int) -> bytes | None:
        return self._take(length) if length <= len(self._unread) else None

    def _take(self, length: int) -> bytes:
        body, self._unread = self._unread[:length], self._unread[length:]
        return body

    async def _wait(self, finish: Callable[[Begun], Awaitable[Reply]], begun: Begun) -> Reply:
        """Wait for a long poll; a client that hangs up meanwhile gets no job."""
        watching = self._watching = _Watching()
        with trio.CancelScope() as polling:
            self._shared.watchers.start_soon(self._watch, watching, polling)
            try:
                return await finish(begun)
            finally:
                watching.scope.cancel()
        raise _Gone

    async def _watch(self, watching: "_Watching", polling: trio.CancelScope) -> None:
        """Cancel ``polling`` when the client hangs up; what it sends early is kept, a little of it."""
        with watching.scope:
            while len(self._unread) < HEADER_BYTES_MAX:
                try:
                    data = await self._wire.receive()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    data = b""
                if not data:
                    polling.cancel()
                    break
                self._unread += data
        watching.ended.set()

    async def _send(self, response: Response, *, is_head: bool, keep: bool) -> None:
        body = response.body
        assert isinstance(body, bytes)  # event streams were handed over
        is_large = len(body) > RECEIVE_BYTES and not is_head
        if is_large:
            response = self._shared.gateway.count(response, self._hold)
            body = response.body
            assert isinstance(body, bytes)
            is_large = len(body) > RECEIVE_BYTES
        delivery = response.delivery
        try:
            data = self._shared.heads.render(response, len(body), keep=keep)
            if not is_head and not is_large:
                data += body
            self.deadline = self._shared.now + WRITE_TIMEOUT_S
            await self._wire.send(data)
            if is_large:
                await self._wire.send(body)
            if delivery is not None:
                delivery.sent()
        finally:
            self.deadline = FOREVER
            if delivery is not None:
                delivery.end()

    async def _upgrade(self, request: _Upgrade, end: int) -> bool:
        gateway = self._shared.gateway
        head_bytes = self._take(end)
        try:
            queue = gateway.admit_websocket(request.call)
            if request.headers.get("content-length", "0").strip("0"):
                raise errors.HANDSHAKE_WITH_BODY.refuse()
            websocket = WebSocket(self._server, head_bytes, self._receive, self._wire)
        except Refused as refused:
            self.lingers = True
            await self._send(gateway.error(refused, request.headers), is_head=False, keep=False)
            return False
        await websocket.accept()
        with Session(self._server, gateway, queue, vouched=True) as session:
            self.websocket = websocket
            await websocket.run(session)
        return False

    async def _receive(self) -> bytes:
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        try:
            return await self._wire.receive()
        except trio.BrokenResourceError:
            return b""


def _is_plain(headers: dict[str, str], version: str) -> bool:
    length = headers.get("content-length", "0")
    return (
        version == "1.1"
        and "," not in headers.get("host", ",")  # none, or more than one
        and "transfer-encoding" not in headers
        and headers.get("expect", "100-continue").lower() == "100-continue"
        and length.isdigit()
        and len(length) <= 20  # more digits than any length has
    )


def _wants_more(headers: dict[str, str]) -> bool:
    """Return whether the client keeps the connection. (httptools knows only until a request is complete.)"""
    return "close" not in (token.strip().lower() for token in headers.get("connection", "").split(","))
