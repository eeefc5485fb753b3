"""How the crash test and the soak speak to a server: one command, one answer, over HTTP, WebSocket or an event stream.

Every command is the JSON object that WebSocket takes; `HttpPeer` sends the same as the HTTP request that means it. An
answer that does not come is `Cut`: nobody can tell what became of the command.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol, TypeAlias, cast

import httpx
import trio
import trio_websocket

Body: TypeAlias = "dict[str, Any]"

ANSWER_WITHIN_S = 30.0  # longer than any command waits; a server that is silent for so long is a finding


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


ROUTES: dict[str, Callable[[Body], tuple[str, str]]] = {
    "PUSH": lambda f: ("POST", f"/queues/{f.pop('queue')}/jobs"),
    "PUSHB": lambda f: ("POST", f"/queues/{f.pop('queue')}/jobs/bulk"),
    "PULLB": lambda f: ("POST", f"/queues/{f.pop('queue')}/jobs/pull-batch"),
    "ACK": lambda f: ("POST", f"/jobs/{f.pop('id')}/ack"),
    "ACKB": lambda _: ("POST", "/jobs/ack-batch"),
    "FAIL": lambda f: ("POST", f"/jobs/{f.pop('id')}/fail"),
    "JobHeartbeat": lambda f: ("POST", f"/jobs/{f.pop('id')}/heartbeat"),
    "Progress": lambda f: ("POST", f"/jobs/{f.pop('id')}/progress"),
    "Cancel": lambda f: ("DELETE", f"/jobs/{f.pop('id')}"),
    "GetJob": lambda f: ("GET", f"/jobs/{f.pop('id')}"),
    "GetState": lambda f: ("GET", f"/jobs/{f.pop('id')}/state"),
    "GetResult": lambda f: ("GET", f"/jobs/{f.pop('id')}/result"),
}
"""The HTTP request of each command; what the path takes is taken out of the fields."""


class HttpPeer:
    """Keep-alive connections to one server."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """Send over this client."""
        self._http = http

    async def call(self, cmd: str, **fields: Any) -> Body:
        """Send a command; see `Peer`."""
        method, path = ROUTES[cmd](fields)
        try:
            response = await self._http.request(method, path, json=fields if method == "POST" else None)
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
            pass  # each call that waits is told
        finally:
            for waiting in self._answers.values():
                waiting.close()


@asynccontextmanager
async def http_peer(url: str) -> AsyncIterator[HttpPeer]:
    """Connect over HTTP for the time of the block."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=ANSWER_WITHIN_S) as http:
        yield HttpPeer(http)


@asynccontextmanager
async def ws_peer(url: str) -> AsyncIterator[WsPeer]:
    """Connect over WebSocket for the time of the block; no events are sent."""
    address = url.replace("http://", "ws://") + "/ws"
    try:
        async with (
            trio_websocket.open_websocket_url(address, connect_timeout=ANSWER_WITHIN_S) as socket,
            trio.open_nursery() as nursery,
        ):
            peer = WsPeer(socket)
            nursery.start_soon(peer.read)
            await peer.call("Subscribe", events=[])
            yield peer
            nursery.cancel_scope.cancel()
    except (trio_websocket.HandshakeError, OSError) as error:
        raise Cut(repr(error)) from None


class EventStream:
    """All events of a server, the greeting first."""

    def __init__(self, lines: "AsyncGenerator[str, None]") -> None:
        """Read them from these lines."""
        self._lines = lines

    async def next(self) -> tuple[int, str]:
        """Return the next event as (id, text).

        Raises:
            Cut: the stream has ended.
        """
        event_id = 0
        try:
            async for line in self._lines:
                if line.startswith("id:"):
                    event_id = int(line[3:])
                elif line.startswith("data:"):
                    return event_id, line[5:].strip()
        except httpx.TransportError as error:
            raise Cut(str(error)) from None
        raise Cut("the stream of events ended")


@asynccontextmanager
async def event_stream(url: str, after: int | None) -> AsyncIterator[EventStream]:
    """Read all events for the time of the block; from `after` on when it is given, else new ones."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False, verify=False, timeout=ANSWER_WITHIN_S) as http,
        http.stream("GET", "/events", headers=headers) as response,
        aclosing(cast("AsyncGenerator[str, None]", response.aiter_lines())) as lines,
    ):
        yield EventStream(lines)
