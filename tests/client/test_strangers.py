"""Something else answers in the place of a server: each command ends when its patience does, and a worker asks ever less often."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
import trio
import trio.testing
import trio_websocket

from bunqueue_trio.client import Client, ConnectionLost, ServerUnavailable, Worker
from bunqueue_trio.client.connection import Closed, Connection
from bunqueue_trio.sync import SyncClient
from tests.client.loops import on_both
from tests.client.proxy import Between

# Every way of being no server, by every call.
pytestmark = pytest.mark.thorough


async def events(client: Client) -> None:
    async with client.events():
        pass


COMMANDS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "push": lambda client: client.push("q", 1),
    "push_many": lambda client: client.push_many("q", [{"data": 1}]),
    "ping": lambda client: client.ping(),
    "pull": lambda client: client.pull("q", timeout=1),
    "ack": lambda client: client.ack("x", token="x:1:1"),
    "wait": lambda client: client.wait("x"),
    "events": events,
}

Answer = Callable[[bytes], list[bytes] | None]
"""Returns what is said to a message; None: it hangs up."""


def yes(message: bytes) -> list[bytes]:
    return [json.dumps({"ok": True, "reqId": json.loads(message)["reqId"]}).encode()]


def says(text: bytes) -> Answer:
    return lambda _: [text, b""]


STRANGERS: dict[str, Answer] = {
    "hello": says(b"hello"),
    "list": says(b"[1]"),
    "object": says(b'{"type":"connection_ack"}'),
    "an event that nobody knows": says(b'{"eventType":"connection_ack"}'),
    "a refusal of nothing": says(b'{"ok":false,"error":"Unauthorized"}'),
    "an answer to nobody": says(b'{"ok":true,"reqId":99}'),
    "an id that is a text": says(b'{"ok":true,"reqId":"1"}'),
    "no message": lambda _: None,
    "echo": lambda message: [message],
    "silence": lambda _: [],
    "only greets": lambda _: [b'{"now":1}'],
    "knows nothing but subscriptions": lambda message: yes(message) if b"Subscribe" in message else None,
}


class Stranger:
    """One connection to it; an empty text of its answers is where it hangs up."""

    keepalive_s: float | None = 20
    message_max = 10_000_000

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._send, self._receive = trio.open_memory_channel[bytes](1000)

    async def send(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        answers = self._answer(message)
        with suppress(trio.ClosedResourceError):
            for answer in [b""] if answers is None else answers:
                self._send.send_nowait(answer)

    async def receive(self) -> bytes:
        message = await self._receive.receive()
        # As over a wire: what is said in the very moment might seem to have been said later.
        await trio.sleep(0.01)
        if not message:
            raise Closed
        return message


class Place:
    """Where a stranger lives; counts who comes."""

    def __init__(self, answer: Answer) -> None:
        self.connections: list[float] = []
        self._answer = answer

    @asynccontextmanager
    async def connect(self, _: str | None) -> AsyncIterator[Connection]:
        self.connections.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        yield Stranger(self._answer)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("stranger", STRANGERS)
async def test_a_command_ends_with_its_patience(autojump_clock: trio.testing.MockClock, stranger: str, command: str):
    place = Place(STRANGERS[stranger])
    with trio.fail_after(200):
        async with Client("ws://stranger", patience=5, connect=place.connect) as client:
            with pytest.raises((ServerUnavailable, ConnectionLost)):
                await COMMANDS[command](client)


@pytest.mark.parametrize("lost", ["PUSH", "PUSHB", "Ping"])
async def test_a_server_that_falls_over_what_it_is_asked_is_asked_for_as_long_as_the_patience_lasts(
    autojump_clock: trio.testing.MockClock, lost: str
):
    """It answers all else."""

    def answer(message: bytes) -> list[bytes] | None:
        asked = json.loads(message)
        if asked["cmd"] == "GetState":
            return [json.dumps({"ok": False, "error": "Job not found", "reqId": asked["reqId"]}).encode()]
        return None if asked["cmd"] == lost else yes(message)

    command = {"PUSH": "push", "PUSHB": "push_many", "Ping": "ping"}[lost]
    place = Place(answer)
    with trio.fail_after(200):
        async with Client("ws://stranger", patience=5, connect=place.connect) as client:
            with pytest.raises((ServerUnavailable, ConnectionLost)):
                await COMMANDS[command](client)
    assert len(place.connections) > 3


async def test_a_wait_that_was_cut_while_it_worked_has_its_patience_again(autojump_clock: trio.testing.MockClock):
    """What is spent is what nobody answered in: a pull may wait longer than anybody is patient."""
    cuts = 0

    def answer(message: bytes) -> list[bytes] | None:
        return yes(message) if b"PULL" not in message or cuts == 3 else []

    pipes: list[Stranger] = []

    @asynccontextmanager
    async def connect(_: str | None) -> AsyncIterator[Connection]:
        await trio.lowlevel.checkpoint()
        pipes.append(Stranger(answer))
        yield pipes[-1]

    async with Client("ws://server", patience=5, connect=connect) as client, trio.open_nursery() as nursery:

        async def cut() -> None:
            nonlocal cuts
            while cuts < 3:
                await trio.sleep(15)
                cuts += 1
                pipes[-1]._send.send_nowait(b"")

        nursery.start_soon(cut)
        assert await client.pull("q", timeout=60) is None


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_a_worker_asks_ever_less_often(autojump_clock: trio.testing.MockClock, stranger: str):
    place = Place(STRANGERS[stranger])
    worker = Worker("q", "ws://stranger", connect=place.connect)
    worker.handler(lambda job: None)
    with trio.move_on_after(300):
        await worker.run()
    late = [at for at in place.connections if at > place.connections[0] + 100]
    assert late
    if "subscriptions" not in stranger:
        assert len(late) < 100


class Greeter(Between):
    """Shakes hands, says hello, and hangs up."""

    async def serve(self, client: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            with suppress(trio_websocket.ConnectionClosed, trio_websocket.HandshakeError):
                socket = await (await trio_websocket.wrap_server_stream(nursery, client)).accept()
                await socket.send_message("hello")
                await socket.aclose()
            nursery.cancel_scope.cancel()


class Page(Between):
    """Answers any request so."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__()
        self._answers = list(answers)

    async def serve(self, client: trio.SocketStream) -> None:
        await client.receive_some()
        await client.send_all(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
        await client.aclose()


@on_both
async def test_a_real_connection_to_a_stranger_ends_a_command_too():
    with Greeter() as greeter, anyio.fail_after(60):
        async with Client(greeter.url, patience=0.3) as client:
            with pytest.raises((ServerUnavailable, ConnectionLost), match="before anything was answered"):
                await client.ping()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
BEGINS = HEAD + b'id: 5\ndata: {"connected":true}\n\n'


@pytest.mark.parametrize("then", [HEAD, HEAD + b"id: x\n\n", HEAD + b"data: [1]\n\n", HEAD + b"data: nonsense\n\n"])
def test_a_stream_over_http_that_ends_at_once_again_and_again_ends_with_the_patience(then: bytes):
    with (
        Page(BEGINS, then) as page,
        SyncClient(page.url.replace("ws:", "http:"), timeout=0.3) as client,
        client.events() as stream,
        pytest.raises(ServerUnavailable, match=r"no events for 0.3 s"),
    ):
        next(stream)


@pytest.mark.parametrize("answer", [HEAD, HEAD + b"id: x\n\n", HEAD + b"data: nonsense\n\n"])
def test_a_stream_over_http_that_does_not_begin_is_lost(answer: bytes):
    with (
        Page(answer) as page,
        SyncClient(page.url.replace("ws:", "http:"), timeout=0.3) as client,
        pytest.raises(ConnectionLost),
        client.events(),
    ):
        pass
