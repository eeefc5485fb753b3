"""A client that hides nothing: one command, one answer, refusals included, over HTTP, WebSocket or an event stream.

Every command is the JSON object that WebSocket takes; over HTTP the same is sent as the request that means it. Nothing is
repeated and nothing is reconnected: an answer that does not come is `Cut`, and nobody can tell what became of the command.
It speaks to real servers only, and so not while a `Bunqueue` lives in the process.
"""

import http
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlencode, urlsplit

import h11
import httpx
import trio
import trio_websocket

from bunqueue_trio.protocol.catalog import COMMANDS
from bunqueue_trio.protocol.request import path_of, query_of, target_of
from bunqueue_trio.protocol.standin import STAND_INS

Body: TypeAlias = "dict[str, Any]"

# Longer than any command waits; a server that is silent for this long is a finding.
ANSWER_WITHIN_S = 30.0


# For plain addresses: else each client loads all certificates of the machine.
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Cut(Exception):
    """The connection ended before the answer."""


class Peer(Protocol):
    """Something connected to the server."""

    async def call(self, cmd: str, **fields: Any) -> Body:
        """Send a command and return its answer, refusals included.

        Raises:
            Cut: there was none.
        """
        ...


def http_request(cmd: str, fields: Body) -> tuple[str, str, bytes]:
    """Return method, target and body of the HTTP request that means a command.

    Raises:
        KeyError: there is no such request, or no field for its path.
    """
    http, rest = path_of(COMMANDS[cmd]), dict(fields)
    if http is None:
        raise KeyError(cmd)
    target = target_of(http.path, rest)
    if http.method != "GET":
        return http.method, target, json.dumps(rest).encode()
    return http.method, f"{target}?{urlencode(query_of(rest), doseq=True)}" if rest else target, b""


class HttpPeer:
    """Keep-alive connections to one server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        """Send over this client."""
        self._client = client

    async def call(self, cmd: str, **fields: Any) -> Body:
        """Send a command; see `Peer`."""
        method, target, body = http_request(cmd, fields)
        try:
            response = await self._client.request(method, target, content=body)
        except httpx.TransportError as error:
            raise Cut(str(error)) from None
        answer: Body = response.json()
        return answer | {"status": response.status_code}


class WsPeer:
    """One WebSocket, on which any number of tasks have commands under way."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        """Send over this socket; `read` must run."""
        self._socket = socket
        self._answers: dict[int, trio.MemorySendChannel[Body]] = {}
        self._number = 0

    async def call(self, cmd: str, **fields: Any) -> Body:
        """Send a command; see `Peer`."""
        self._number += 1
        number = self._number
        send, receive = trio.open_memory_channel[Body](1)
        self._answers[number] = send
        try:
            await self._socket.send_message(json.dumps({"cmd": cmd, "reqId": number, **fields}))
            with trio.fail_after(ANSWER_WITHIN_S):
                return await receive.receive()
        except (trio_websocket.ConnectionClosed, trio.EndOfChannel) as error:
            raise Cut(repr(error)) from None
        finally:
            self._answers.pop(number, None)

    async def read(self) -> None:
        """Give each answer to whoever waits for it, until the connection ends."""
        try:
            while True:
                message = json.loads(await self._socket.get_message())
                if (waiting := self._answers.get(message.get("reqId"))) is not None:
                    waiting.send_nowait(message)
        except trio_websocket.ConnectionClosed:
            # Each call that waits gets the error.
            pass
        finally:
            for waiting in self._answers.values():
                waiting.close()


@asynccontextmanager
async def http_peer(url: str) -> AsyncIterator[HttpPeer]:
    """Connect over HTTP for the time of the block."""
    STAND_INS.refuse_real(url)
    async with httpx.AsyncClient(
        base_url=url, trust_env=False, verify=_TRUSTS_NOBODY, timeout=ANSWER_WITHIN_S
    ) as client:
        yield HttpPeer(client)


@asynccontextmanager
async def ws_peer(url: str) -> AsyncIterator[WsPeer]:
    """Connect over WebSocket for the time of the block; no events are sent.

    Raises:
        Cut: nobody listens there, or who does speaks no WebSocket.
    """
    STAND_INS.refuse_real(url)
    place = urlsplit(url)
    try:
        # The stream is closed here: after a reset the library leaves it open.
        async with (
            await trio.open_tcp_stream(place.hostname or "", place.port or 80) as stream,
            trio.open_nursery() as nursery,
        ):
            with trio.fail_after(ANSWER_WITHIN_S):
                socket = await trio_websocket.wrap_client_stream(nursery, stream, place.netloc, "/ws")
            peer = WsPeer(socket)
            nursery.start_soon(peer.read)
            await peer.call("Subscribe", events=[])
            yield peer
            nursery.cancel_scope.cancel()
    except (trio_websocket.HandshakeError, trio.TooSlowError, OSError) as error:
        raise Cut(repr(error)) from None


class EventStream:
    """All events of a server, the greeting first."""

    def __init__(self, stream: trio.SocketStream, connection: h11.Connection) -> None:
        """Read what follows the request that was sent."""
        self._stream = stream
        self._connection = connection
        # The last one is not whole.
        self._lines: deque[bytes] = deque([b""])

    async def next(self) -> tuple[int, str]:
        """Return the next event as (id, text).

        Raises:
            Cut: the stream has ended, or says nothing.
        """
        event_id = 0
        while True:
            while len(self._lines) < 2:
                *whole, rest = (self._lines.pop() + await self._more()).split(b"\n")
                self._lines.extend((*whole, rest))
            name, _, value = self._lines.popleft().partition(b":")
            if name == b"id":
                event_id = int(value)
            elif name == b"data":
                return event_id, value.decode().strip()

    async def _more(self) -> bytes:
        """Return the next bytes of the body."""
        try:
            with trio.fail_after(ANSWER_WITHIN_S):
                while (event := self._connection.next_event()) is h11.NEED_DATA or isinstance(event, h11.Response):
                    if isinstance(event, h11.Response) and event.status_code != http.HTTPStatus.OK:
                        raise Cut(f"there is no stream of events: {event!r}")
                    if event is h11.NEED_DATA:
                        self._connection.receive_data(await self._stream.receive_some())
        except (trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError) as error:
            raise Cut(repr(error)) from None
        if not isinstance(event, h11.Data):
            raise Cut("the stream of events ended")
        return bytes(event.data)


@asynccontextmanager
async def event_stream(url: str, after: int | None = None, types: Iterable[str] = ()) -> AsyncIterator[EventStream]:
    """Read events for the time of the block: of these types, else of those that nobody has to name; from `after` on when it is given, else new ones.

    Raises:
        OSError: nobody listens there.
    """
    STAND_INS.refuse_real(url)
    place = urlsplit(url)
    headers = [("Host", place.netloc), *([] if after is None else [("Last-Event-ID", str(after))])]
    target = "/events" + (f"?{urlencode({'types': ','.join(types)})}" if types else "")
    connection = h11.Connection(h11.CLIENT)
    request = connection.send(h11.Request(method="GET", target=target, headers=headers))
    assert request is not None, "a request has bytes"
    async with await trio.open_tcp_stream(place.hostname or "", place.port or 80) as stream:
        await stream.send_all(request)
        connection.send(h11.EndOfMessage())
        yield EventStream(stream, connection)
