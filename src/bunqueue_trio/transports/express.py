"""The express lane: HTTP/1.1 requests served on the Trio stream itself, without a framework.

A connection starts here, as a task. Requests in plain form (a Host, a body with Content-Length or none) are answered
through the same :class:`Gateway` as everywhere else: what is there whole and waits for nothing by the hot loop
(``hot.py``), where the task parks between two requests, and everything else by the task itself. Whatever is not plain
is handed, with the bytes read so far, to Hypercorn, for the rest of that connection.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count

import trio

from bunqueue_trio import errors
from bunqueue_trio.api.call import Call, Delivery, Owed, Response, sender
from bunqueue_trio.api.costs import makes_page
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import (
    BODY_TIMEOUT_S,
    COMMANDS_A_ROUND,
    ENDS_A_TURN,
    HEADER_BYTES_MAX,
    HEADER_TIMEOUT_S,
    OWN_REQUESTS,
    PAGES_A_ROUND,
    RECEIVE_BYTES,
    WRITE_TIMEOUT_S,
)
from bunqueue_trio.errors import Fault, Refused
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.transports.heads import Handover, RequestHeads, Upgrade
from bunqueue_trio.transports.hot import HotLoop
from bunqueue_trio.transports.poller import Epoll, Poller
from bunqueue_trio.transports.response_heads import ResponseHeads
from bunqueue_trio.transports.rounds import Rounds
from bunqueue_trio.transports.websocket import WebSocket
from bunqueue_trio.transports.wire import Wire, make_buffer

FOREVER = float("inf")
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Gone(Exception):
    """The client has hung up."""


class _Handed(Exception):
    """The job for a waiting pull was sent in the step of its commit, but for ``rest``, which the pull's task sends."""

    def __init__(self, rest: bytes, delivery: Owed | None) -> None:
        super().__init__("handed")
        self.rest = rest
        self.delivery = delivery


class _Watching:
    """The watching of a client while it waits for a job."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended = trio.Event()


class ExpressShared:
    """What the connections of the lane share: the time, the heads that come again and again, and the hot loop."""

    def __init__(
        self, server: Server, gateway: Gateway, watchers: trio.Nursery, make_poller: Callable[[], Poller] = Epoll
    ) -> None:
        self.server = server
        self.gateway = gateway
        self.watchers: trio.Nursery = watchers
        """For what looks whether a client that waits hangs up, where the hot loop cannot. A job handed to it goes out at once: the end of a
        nursery of its own would take two switches of tasks first, a quarter of the whole hand-over."""
        self.heads: ResponseHeads = ResponseHeads(server.clock)
        self.requests: RequestHeads = RequestHeads(server, gateway)
        self.now: float = trio.current_time()
        """The time of the keeper's last round: exact enough for time limits of clients."""
        self.buffer: memoryview = make_buffer()
        self.keep_alive_s: float = server.settings.keep_alive_ms / 1000
        self.numbers: Iterator[int] = count()
        """Of the connections."""
        self.commands: Rounds = Rounds(watchers, COMMANDS_A_ROUND)
        """What the tasks of connections begin in a round of all tasks; the hot loop's turn is beside it."""
        self.pages: Rounds = Rounds(watchers, PAGES_A_ROUND)
        self.ends: Rounds = Rounds(watchers, ENDS_A_TURN)
        """The ends of connections: thousands of clients may go at once."""
        self.poller: Poller = make_poller()
        self.hot: HotLoop = HotLoop(self, self.poller)

    def refusal(self, fault: Fault) -> bytes:
        """Return the whole response that says ``fault`` to a client whose connection is closed then."""
        response = self.gateway.error(fault.refuse(), {})
        assert isinstance(response.body, bytes)
        return self.heads.render(response, len(response.body), keep=False) + response.body


class ExpressConnection:
    """One client connection. ``deadline`` (Trio time) is for its keeper: past it, the client is late."""

    def __init__(self, shared: ExpressShared, stream: trio.abc.Stream, address: str) -> None:
        self.stream = stream
        self.number: int = next(shared.numbers)
        self.address = address
        self._shared = shared
        self._server = shared.server
        self._wire = Wire(stream, shared.buffer)
        self._unread = b""
        self._own = 0
        """How many requests it serves by itself before it parks again."""
        self._hold = shared.server.buffers.hold()
        """The bytes of its present request and response in the byte budget."""
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
            while await self._serve_some():
                if self._hold.size:
                    self._hold.release()
        except (_Gone, trio.BrokenResourceError, trio.ClosedResourceError):
            # The client is gone; the jobs that it would have got have been returned.
            pass
        finally:
            if self._watching is not None:
                self._watching.scope.cancel()
            self._hold.release()

    async def _serve_some(self) -> bool:
        """Serve a request, or let the loop serve some; return whether the connection goes on."""
        if self._own:
            self._own -= 1
        elif not self._unread and self._shared.hot.wants(self):
            self.idle, self.deadline = True, self._shared.now + self._shared.keep_alive_s
            go_on = await self._shared.hot.serve(self)
            return await go_on()
        end = await self._read_head()
        return await self._serve(end) if end else False

    async def serve_next(self) -> bool:
        """Read a request and serve it; return whether the connection goes on, as all that the loop leaves to the task."""
        end = await self._read_head()
        return await self._serve(end) if end else False

    async def go_on(self, data: bytes) -> bool:
        """Serve the requests that begin with ``data``, which the loop has read; without any the stream has ended."""
        self._unread, self._own = data, OWN_REQUESTS
        if not data:
            return False
        end = self._head_end()
        return await self._serve(end) if end else await self.serve_next()

    async def finish(self, call: Call, begun: Begun) -> bool:
        """Answer a command that the loop has begun and that waits for more than its commit."""
        try:
            response = await self._shared.gateway.finish(call, begun, partial(self._wait, call))
        except _Handed as handed:
            return await self._send_last(handed)
        return await self.answer(response)

    async def finish_nowait(self, call: Call, begun: Begun) -> bool:
        """Answer a command that the loop has begun and that is committed or given up."""
        return await self.answer(self._shared.gateway.finish_nowait(call, begun))

    async def send_rest(self, data: bytes, delivery: Owed | None) -> bool:
        """Send what the kernel has not taken of a response, with the jobs of ``delivery`` in it."""
        self.deadline = self._shared.now + WRITE_TIMEOUT_S
        try:
            await self._wire.send(data)
            if delivery is not None:
                delivery.sent()
        finally:
            self.deadline = FOREVER
            if delivery is not None:
                delivery.end()
        return not self._server.stop.is_set()

    async def _serve(self, end: int) -> bool:
        """Serve the request whose head ends at this place of the unread bytes."""
        request = self._shared.requests.parse(self._unread, end)
        if isinstance(request, Upgrade):
            await self._shared.pages.begin()
            return await self._upgrade(request, end)
        await (self._shared.pages if makes_page(request.call) else self._shared.commands).begin()
        call, length, keep, is_head, waits, _, _ = request
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

        # Nobody will read it to its end.
        too_large = length > self._server.settings.body_max_bytes
        body = None if too_large or waits else self._take_whole(length)
        # Else the answer is to say that it is the last one.
        waiting = partial(self._wait, call if keep and body is not None else None)
        try:
            response = await self._shared.gateway.respond(
                call, read_body if body is None else body, waiting, self.address, self._wire.is_broken
            )
        except _Handed as handed:
            return await self._send_last(handed)
        # A client that was not asked for its body may send it or the next request: nobody can know which.
        # Reading a large body only to keep the connection is not worth it, and it would be held for a client that may have no token.
        self.lingers = self.lingers or too_large or (body is None and (waits or length > RECEIVE_BYTES))
        keep = await self.answer(response, is_head=is_head, keep=keep and not self.lingers)
        # Refused before it was read: the next request comes after it.
        if keep and body is None:
            try:
                await read_body(length)
            except Refused:
                return False
        return keep

    async def _read_head(self) -> int:
        """Return where the head of the next request ends in the unread bytes; 0 when there is no whole head."""
        self.idle = True
        end = self._head_end()
        if end:
            self.idle = False
            # Many requests in one packet must not shut everybody else out.
            await trio.lowlevel.checkpoint()
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
        if not unread:
            return 0
        end = unread.find(b"\r\n\r\n", 0, HEADER_BYTES_MAX)
        if end >= 0:
            return end + 4
        # No HTTP begins so.
        if unread.startswith(b"\0"):
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

    async def _wait(self, call: Call | None, finish: Callable[[Begun], Awaitable[Reply]], begun: Begun) -> Reply:
        """Wait for what has begun. A client that says no more meanwhile gets no job; all else is answered as long as it may arrive.

        Raises:
            _Handed: the answer to ``call`` went out in the step of the commit.
        """
        # Over TLS there is no half of an end.
        if not begun.is_pull and isinstance(self.stream, trio.abc.HalfCloseableStream):
            begun.is_gone = self._wire.is_broken
            with self._shared.hot.until_broken(self.stream, begun.patience_s):
                return await finish(begun)
        rest: bytes | None = None

        def hand(reply: Reply) -> bool:
            nonlocal rest
            assert call is not None
            rest = self._hand(call, reply)
            return rest == b""

        hot, watching = self._shared.hot, None
        with trio.CancelScope() as polling:
            # A task that looks would be a sixth of the cost of a job that a waiting pull gets.
            descriptor = hot.watch_end(self.stream, polling.cancel)
            if descriptor < 0:
                watching = self._watching = _Watching()
                self._shared.watchers.start_soon(self._watch, watching, polling)
            begun.is_gone, begun.hand = self._wire.has_ended, hand if call is not None else None
            try:
                reply = await finish(begun)
            finally:
                if watching is None:
                    hot.ignore_end(descriptor)
                else:
                    watching.scope.cancel()
            if rest is not None:
                raise _Handed(rest, Delivery(self._server.core, reply) if rest else None)
            if not self._wire.has_ended():
                return reply
            self._server.core.give_back(reply)
        raise _Gone

    def _hand(self, call: Call, reply: Reply) -> bytes | None:
        """Send a job in this very step; return what the kernel has not taken of it, None where its task is to do it all."""
        if self._wire.has_ended() or self._server.stop.is_set():
            return None
        try:
            response = self._shared.gateway.say(call, reply, None)
            body = response.body
            assert isinstance(body, bytes)
            if len(body) > RECEIVE_BYTES:
                return None
            data = self._shared.heads.render(response, len(body), keep=True) + body
        except (Refused, MemoryError):
            # It happens to the task, too.
            return None
        sent = self._wire.send_nowait(data)
        return data[sent:] if sent else None

    async def _send_last(self, handed: _Handed) -> bool:
        """Send what is left of an answer; return whether the connection goes on."""
        keep = not self._server.stop.is_set()
        if handed.rest:
            keep = await self.send_rest(handed.rest, handed.delivery)
        await self._end_watching()
        return keep

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

    async def answer(self, response: Response, *, is_head: bool = False, keep: bool = True) -> bool:
        """Send a response, the last one unless ``keep`` and the server goes on; return whether the connection does."""
        keep = keep and not self._server.stop.is_set()
        body = response.body
        # Event streams were handed over.
        assert isinstance(body, bytes)
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
        if self._watching is not None:
            await self._end_watching()
        return keep

    async def _end_watching(self) -> None:
        """Wait until the watcher has ended; it was asked to end before the answer was made."""
        if self._watching is not None:
            await self._watching.ended.wait()
            self._watching = None

    async def _upgrade(self, request: Upgrade, end: int) -> bool:
        gateway = self._shared.gateway
        head_bytes = self._take(end)
        try:
            queue, grant = gateway.admit_websocket(request.call)
            if request.headers.get("content-length", "0").strip("0"):
                raise errors.HANDSHAKE_WITH_BODY.refuse()
            websocket = WebSocket(self._shared, head_bytes, self._receive, self._wire)
        except Refused as refused:
            self.lingers = True
            return await self.answer(gateway.error(refused, request.headers), keep=False)
        await websocket.accept()
        address = sender(request.call, self.address).address
        with Session(self._server, gateway, queue, vouched=True, grant=grant, address=address) as session:
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
