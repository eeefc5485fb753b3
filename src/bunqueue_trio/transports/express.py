"""The express lane: HTTP/1.1 requests served on the Trio stream itself, without a framework.

A connection starts here. Requests in plain form (a Host, a body with Content-Length or none) are parsed
by httptools and answered through the same :class:`Gateway` as everywhere else. Whatever is not plain
(chunked bodies, Expect, HTTP/1.0 and 2, oversized or broken heads, event streams) is handed, with the
bytes read so far, to Hypercorn, for the rest of that connection.
"""

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus

import httptools
import trio

from bunqueue_trio import errors
from bunqueue_trio.config import (
    BODY_TIMEOUT_S,
    HEADER_BYTES_MAX,
    HEADER_TIMEOUT_S,
    KEEP_ALIVE_S,
    RECEIVE_BYTES,
    WRITE_TIMEOUT_S,
)
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.core import Begun
from bunqueue_trio.runtime.tree import Server
from bunqueue_trio.transports.gateway import Gateway, Request, Response
from bunqueue_trio.transports.session import Session
from bunqueue_trio.transports.sse import EventStream
from bunqueue_trio.transports.websocket import WebSocket

FOREVER = float("inf")


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
            start = f"HTTP/1.1 {response.status} \r\n"
            self._known[key] = known = (start.encode("latin-1"), lines.encode("latin-1"))
        second = self._clock.now() // 1000
        if second != self._second:
            self._second = second
            self._date = f"date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        size = b"" if response.status == HTTPStatus.NO_CONTENT else b"content-length: %d\r\n" % length
        end = b"\r\n" if keep else b"Connection: close\r\n\r\n"
        return b"".join((known[0], size, known[1], self._date, end))


class ExpressConnection:
    """One client connection. ``deadline`` (Trio time) is for its keeper: past it, the client is late."""

    def __init__(self, server: Server, gateway: Gateway, heads: ResponseHeads, stream: trio.abc.Stream) -> None:
        self._server = server
        self._gateway = gateway
        self._heads = heads
        self._stream = stream
        self._unread = b""
        self.deadline = FOREVER
        self.idle = True
        """No request is under way: may be closed without anybody missing anything."""
        self.lingers = False
        """The client may still be sending what nobody will read."""
        self.websocket: WebSocket | None = None

    async def run(self) -> None:
        """Serve requests until the client or the server ends it.

        Raises:
            Handover: the next request is not for this lane.
        """
        try:
            while await self._serve_one():
                pass
        except (_Gone, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone; what was to be given back has been

    async def _serve_one(self) -> bool:
        """Serve one request; return whether the connection goes on."""
        head_bytes = await self._read_head()
        if not head_bytes:
            return False
        head = _Head()
        parser = httptools.HttpRequestParser(head)
        try:
            parser.feed_data(head_bytes)
        except httptools.HttpParserUpgrade:
            return await self._upgrade(head, head_bytes)
        except httptools.HttpParserError:
            raise Handover(self._unread) from None
        headers = head.headers
        if not _is_plain(headers, parser.get_http_version()):
            raise Handover(self._unread)
        if head.target.startswith("/events"):
            raise Handover(self._unread)  # before it is counted against the rate limit
        length = int(headers.get("content-length", "0"))
        self._unread = self._unread[len(head_bytes) :]
        body: bytes | None = None

        async def read_body(limit: int) -> bytes:
            nonlocal body
            if length > limit:
                raise errors.BODY_TOO_LARGE.refuse()
            if body is None:
                body = await self._read_body(length)
            return body

        method = parser.get_method().decode("latin-1")
        request = Request(method, head.target, headers, read_body, self._wait)
        response = await self._gateway.respond(request)
        too_large = length > self._server.settings.body_max_bytes  # nobody will read it to its end
        keep = _wants_more(headers) and not too_large and not self._server.stop.is_set()
        self.lingers = too_large
        await self._send(response, is_head=method == "HEAD", keep=keep)
        if keep and body is None and length:
            await read_body(length)  # refused before it was read: the next request comes after it
        return keep

    async def _read_head(self) -> bytes:
        """Return the bytes of the next request's head, which stay unread; b"" at the end."""
        self.idle = True
        self.deadline = trio.current_time() + (HEADER_TIMEOUT_S if self._unread else KEEP_ALIVE_S)
        while True:
            unread = self._unread
            end = unread.find(b"\r\n\r\n")
            if end >= 0:
                self.idle = False
                self.deadline = FOREVER
                return unread[: end + 4]
            if len(unread) > HEADER_BYTES_MAX or b"\n\n" in unread or unread.startswith(b"\r\n"):
                raise Handover(unread)
            data = bytes(await self._stream.receive_some(RECEIVE_BYTES))
            if not data:
                return b""
            if not unread:
                self.deadline = trio.current_time() + HEADER_TIMEOUT_S
            self._unread = unread + data if unread else data

    async def _read_body(self, length: int) -> bytes:
        missing = length - len(self._unread)
        if missing > 0:
            self.deadline = trio.current_time() + BODY_TIMEOUT_S
            chunks = [self._unread]
            while missing > 0:
                data = bytes(await self._stream.receive_some(RECEIVE_BYTES))
                if not data:
                    raise _Gone
                chunks.append(data)
                missing -= len(data)
            self._unread = b"".join(chunks)
            self.deadline = FOREVER
        body, self._unread = self._unread[:length], self._unread[length:]
        return body

    async def _wait(self, finish: Callable[[Begun], Awaitable[Reply]], begun: Begun) -> Reply:
        """Wait for a long poll; a client that hangs up meanwhile gets no job."""
        outcome: Reply | Refused = errors.SHUTTING_DOWN.refuse()
        gone = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            try:
                outcome = await finish(begun)
            except Refused as refused:
                outcome = refused
            gone = False
            nursery.cancel_scope.cancel()
        if gone:
            raise _Gone
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Cancel ``scope`` when the client hangs up; what it sends early is kept, a little of it."""
        while len(self._unread) < HEADER_BYTES_MAX:
            try:
                data = bytes(await self._stream.receive_some(RECEIVE_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                scope.cancel()
                return
            self._unread += data

    async def _send(self, response: Response, *, is_head: bool, keep: bool) -> None:
        body = response.body
        assert not isinstance(body, EventStream)  # those were handed over
        data = self._heads.render(response, len(body), keep=keep)
        self.deadline = trio.current_time() + WRITE_TIMEOUT_S
        sent = False
        try:
            await self._stream.send_all(data if is_head else data + body)
            sent = True
        finally:
            self.deadline = FOREVER
            if not sent and response.delivery is not None:
                self._server.core.give_back(response.delivery)

    async def _upgrade(self, head: _Head, head_bytes: bytes) -> bool:
        if head.headers.get("upgrade", "").lower() != "websocket":
            raise Handover(self._unread)
        try:
            queue = self._gateway.admit_websocket(head.target, head.headers)
        except Refused as refused:
            await self._send(self._gateway.error(refused, head.headers), is_head=False, keep=False)
            return False
        self._unread = self._unread[len(head_bytes) :]
        websocket = WebSocket(self._server, head_bytes, self._receive, self._stream.send_all, self._send_eof)
        if await websocket.accept():
            with Session(self._server, self._gateway, queue, vouched=True) as session:
                self.websocket = websocket
                await websocket.run(session)
        return False

    async def _send_eof(self) -> None:
        """Say that nothing more will be sent; over TLS, which has no half of an end, end it."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            await self._stream.aclose()

    async def _receive(self) -> bytes:
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except trio.BrokenResourceError:
            return b""


def _is_plain(headers: dict[str, str], version: str) -> bool:
    length = headers.get("content-length", "0")
    return (
        version == "1.1"
        and "," not in headers.get("host", ",")  # none, or more than one
        and "transfer-encoding" not in headers
        and "expect" not in headers
        and length.isdigit()
        and len(length) <= 20  # more digits than any length has
    )


def _wants_more(headers: dict[str, str]) -> bool:
    """Return whether the client keeps the connection. (httptools knows only until a request is complete.)"""
    return "close" not in (token.strip().lower() for token in headers.get("connection", "").split(","))
