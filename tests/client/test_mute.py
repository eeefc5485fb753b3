"""A server that takes what it is sent and says nothing: each command ends when its patience does, and says so."""

import json
import math
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import trio
import trio.testing

from bunqueue_trio.client import Client, ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.client.connection import Connection
from bunqueue_trio.commands import GetResult, WaitJob
from bunqueue_trio.sync import SyncClient
from tests.client.loops import on_both
from tests.client.proxy import Between
from tests.client.test_real_server import ws
from tests.client.test_strangers import COMMANDS, Answer, Stranger, yes
from tests.wire.server import Server

# Each waits until its patience ends.
pytestmark = pytest.mark.thorough


def deaf(message: bytes) -> list[bytes]:
    """Answer as a server that stops in the moment in which it is asked for anything."""
    return yes(message) if b"Subscribe" in message else []


class Place:
    """Where one lives that answers so; remembers what it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.heard: list[str] = []
        self._answer = answer

    def note(self, message: bytes) -> list[bytes] | None:
        self.heard.append(json.loads(message)["cmd"])
        return self._answer(message)

    @asynccontextmanager
    async def connect(self, _: str | None) -> AsyncIterator[Connection]:
        await trio.lowlevel.checkpoint()
        yield Stranger(self.note)


ASKED: dict[str, tuple[Callable[[Client], Awaitable[Any]], float, str]] = {
    "push": (COMMANDS["push"], 5, "PUSH was sent, and not answered within 5 s"),
    "push_many": (COMMANDS["push_many"], 5, "PUSHB was sent, and not answered within 5 s"),
    "ping": (COMMANDS["ping"], 5, "Ping was sent, and not answered within 5 s"),
    "ack": (COMMANDS["ack"], 5, "ACK was sent, and not answered within 5 s"),
    "ack without a token": (lambda client: client.ack("x"), 5, "ACK was sent"),
    "fail": (lambda client: client.fail("x", "bad", token="x:1:1"), 5, "FAIL was sent"),
    "events": (COMMANDS["events"], 5, "Ping was sent"),
    "wait": (COMMANDS["wait"], 5, "Ping was sent"),
    "state": (lambda client: client.state("x"), 5, "GetState was sent"),
    "pull": (lambda client: client.pull("q"), 5, "PULL was sent, and not answered within 5 s"),
    "waiting pull": (lambda client: client.pull("q", timeout=7), 12, "within 5 s beyond the 7 s that it asks for"),
    "waiting pulls": (lambda client: client.pull_many("q", 9, timeout=7), 12, "PULLB was sent"),
    "wait for a job": (lambda client: client.run(WaitJob(id="x")), 35, "within 5 s beyond the 30 s that it asks for"),
    "wait for a result": (lambda client: client.run(GetResult(id="x", timeout=2000)), 7, "GetResult was sent"),
    "megabytes": (lambda client: client.push("q", "x" * 3 * 2**20), 8, "PUSH was sent"),
}


@pytest.mark.parametrize("command", ASKED)
async def test_a_command_without_an_answer_ends_with_its_patience(autojump_clock: trio.testing.MockClock, command: str):
    """And with what it asks the server to wait; a long message has a second more for each MiB."""
    ask, seconds, text = ASKED[command]
    async with Client("ws://mute", patience=5, connect=Place(deaf).connect) as client:
        began = trio.current_time()
        with pytest.raises(ConnectionLost, match=text):
            await ask(client)
        assert trio.current_time() - began == pytest.approx(seconds, abs=0.1)


async def test_a_push_without_an_answer_says_which_job_to_look_for(autojump_clock: trio.testing.MockClock):
    async with Client("ws://deaf", patience=5, connect=Place(deaf).connect) as client:
        with pytest.raises(ConnectionLost) as one:
            await client.push("q")
        assert re.fullmatch(r"job_id='[0-9a-f-]{36}'", one.value.__notes__[0])
        with pytest.raises(ConnectionLost) as many:
            await client.push_many("q", [{"job_id": "a"}, {"job_id": "b"}])
        assert many.value.__notes__ == ["job_ids=['a', 'b']"]


async def test_a_wait_ends_with_its_own_time(autojump_clock: trio.testing.MockClock):
    async with Client("ws://mute", patience=50, connect=Place(deaf).connect) as client:
        began = trio.current_time()
        with pytest.raises(TimeoutError, match="no server answers"):
            await client.wait("x", 3)
        assert trio.current_time() - began == pytest.approx(3.5, abs=0.1)


async def test_many_commands_end_with_their_patience(autojump_clock: trio.testing.MockClock):
    """Those that wait for their turn, too, and they were not sent."""
    ended: list[tuple[float, type[Exception]]] = []
    place = Place(deaf)

    async def ask(client: Client) -> None:
        began = trio.current_time()
        try:
            await client.state("x")
        except (ConnectionLost, ServerUnavailable) as error:
            ended.append((round(trio.current_time() - began), type(error)))

    mute = Client("ws://mute", patience=5, in_flight=2, connect=place.connect)
    async with mute as client, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, client)
    assert {seconds for seconds, _ in ended} <= {5, 6}
    assert [kind for _, kind in ended].count(ConnectionLost) >= 2
    assert len(ended) == 5


async def test_who_is_not_patient_hears_a_server_that_is_there(autojump_clock: trio.testing.MockClock):
    class Slow(Stranger):
        async def receive(self) -> bytes:
            message = await super().receive()
            await trio.sleep(0.4)
            return message

    @asynccontextmanager
    async def connect(_: str | None) -> AsyncIterator[Connection]:
        await trio.lowlevel.checkpoint()
        yield Slow(yes)

    async with Client("ws://slow", patience=0.1, connect=connect) as client:
        # Its connection may take longer than that.
        with suppress(ServerUnavailable):
            await client.ping()
        await trio.sleep(1)
        await client.ping()


async def test_what_was_never_sent_changes_nothing_and_is_not_sent_later(autojump_clock: trio.testing.MockClock):
    """The connection takes no more bytes."""
    place, may = Place(yes), trio.Event()

    class Full(Stranger):
        async def send(self, message: bytes) -> None:
            if b"first" in message:
                await may.wait()
            await super().send(message)

    @asynccontextmanager
    async def connect(_: str | None) -> AsyncIterator[Connection]:
        await trio.lowlevel.checkpoint()
        yield Full(place.note)

    async with Client("ws://full", patience=5, connect=connect) as client, trio.open_nursery() as nursery:
        await client.ping()

        async def begin() -> None:
            with pytest.raises(ConnectionLost):
                await client.push("first")

        nursery.start_soon(begin)
        await trio.sleep(1)
        with pytest.raises(ServerUnavailable, match="PUSH was not sent within 5 s: the server reads nothing"):
            await client.push("second")
        may.set()
        await client.ping()
    assert place.heard.count("PUSH") == 1


# --- a server that hangs, and goes on -------------------------------------------------------------


@pytest.mark.parametrize("others", ["none", "refused", "when it goes on", "as well"])
async def test_a_silent_connection_is_left_for_another_one_only(autojump_clock: trio.testing.MockClock, others: str):
    """A server that was frozen goes on with what it has; to leave would give back all that is held over it."""
    made: list[float] = []
    is_frozen, thawed = False, trio.Event()

    def answer(message: bytes) -> list[bytes] | None:
        return [] if is_frozen else yes(message)

    @asynccontextmanager
    async def connect(_: str | None) -> AsyncIterator[Connection]:
        made.append(trio.current_time())
        if is_frozen and others in {"none", "when it goes on"}:
            with trio.move_on_after(10):
                await thawed.wait()
            if is_frozen or others == "none":
                raise ConnectionError("no answer to the handshake")
        if is_frozen and others == "refused":
            raise Refused(401, "Unauthorized")
        await trio.lowlevel.checkpoint()
        yield Stranger(answer)

    async with Client("ws://frozen", patience=math.inf, connect=connect) as client, trio.open_nursery() as nursery:
        await client.ping()
        is_frozen = True
        if others == "refused":
            with pytest.raises(Refused):
                await client.ping()
            assert client.connections == 1
        else:
            old = client._upkeep.link
            assert old is not None
            nursery.start_soon(client.ping)
            await trio.sleep(300)
            assert 3 < len(made) < 20
            # In the middle of a try.
            while trio.current_time() - made[-1] > 9:  # noqa: ASYNC110 - of virtual time
                await trio.sleep(1)
            is_frozen = False
            thawed.set()
            await trio.sleep(1)
            # What was asked meanwhile is answered now.
            link = client._upkeep.link
            assert link is not None
            for number in list(link._questions):
                link._connection._send.send_nowait(json.dumps({"ok": True, "reqId": number}).encode())  # type: ignore[attr-defined]
            await client.ping()
            await trio.sleep(100)
            assert (client._upkeep.link is old) is (others != "as well")


# --- over real sockets ----------------------------------------------------------------------------

HANDSHAKE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
BEGUN: dict[str, bytes] = {
    "nothing": b"",
    "half a handshake": HANDSHAKE,
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
}


class Mute(Between):
    """Says the beginning of something to whoever connects, and no more."""

    def __init__(self, begin: bytes) -> None:
        super().__init__()
        self._begin = begin

    async def serve(self, client: trio.SocketStream) -> None:
        await client.receive_some()
        if self._begin:
            await client.send_all(self._begin)
        await trio.sleep_forever()


@pytest.mark.parametrize("begun", BEGUN)
@on_both
async def test_who_shakes_no_hands_is_no_server(begun: str):
    with Mute(BEGUN[begun]) as mute, anyio.fail_after(60):
        async with Client(mute.url, patience=0.2) as client:
            with pytest.raises(ServerUnavailable, match=r"no connection for 0.2 s"):
                await client.push("q")


DRIPPING: dict[str, bytes] = {
    "a head": b"HTTP/1.1 200 OK\r\nX: ",
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{",
    "a stream": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: ",
}


class Dripping(Between):
    """Begins an answer, and goes on with it byte by byte, without an end."""

    def __init__(self, begin: bytes) -> None:
        super().__init__()
        self._begin = begin

    async def serve(self, client: trio.SocketStream) -> None:
        await client.receive_some()
        await client.send_all(self._begin)
        while True:
            await trio.sleep(0.05)
            await client.send_all(b"x")


@pytest.mark.parametrize("begun", DRIPPING)
def test_a_command_without_a_loop_ends_with_its_time_however_the_answer_drips(begun: str):
    with Dripping(DRIPPING[begun]) as dripping, SyncClient(dripping.url, timeout=0.3) as client:
        with pytest.raises(ConnectionLost, match=r"POST /queues/q/jobs was sent, and not answered within 0.3 s"):
            client.push("q")
        with pytest.raises(ConnectionLost, match=r"not answered within 0.5 s"):
            client.pull("q", timeout=0.2)
        with pytest.raises(ConnectionLost):
            client.wait("x", timeout=0.1)


@pytest.mark.parametrize("begun", BEGUN)
def test_a_command_without_a_loop_ends_with_its_time(begun: str):
    with Mute(BEGUN[begun]) as mute, SyncClient(mute.url, timeout=0.2) as client:
        with pytest.raises(ConnectionLost, match="was sent"):
            client.push("q")
        with pytest.raises(ConnectionLost, match="was sent"):
            client.ping()


@pytest.mark.parametrize("begun", BEGUN)
def test_a_wait_without_a_loop_ends_with_its_own_time(begun: str):
    """Not with that of the client, which is for one command."""
    late = pytest.raises(TimeoutError, match=r"job x is not known to be done after 0.1 s")
    with Mute(BEGUN[begun]) as mute, SyncClient(mute.url, timeout=600) as client, late:
        client.wait("x", timeout=0.1)


@pytest.mark.parametrize("begun", DRIPPING)
def test_a_wait_without_a_loop_ends_with_its_own_time_however_the_answer_drips(begun: str):
    late = pytest.raises(TimeoutError, match=r"job x is not known to be done after 0.1 s")
    with Dripping(DRIPPING[begun]) as dripping, SyncClient(dripping.url, timeout=600) as client, late:
        client.wait("x", timeout=0.1)


def events_of(message: str, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    return head + message.encode() + more


ACTIVE = msgspec.json.encode({
    "ok": True, "id": "x", "queue": "q", "state": "active", "stalls": 0, "dependsOn": [], "waitingOn": [], "repeat": None,
    **dict.fromkeys(["error", "message", "ttl", "timeout", "uniqueKey", "groupId", "leaseUntil"]),
})  # fmt: skip


class Leaving(Between):
    """A server at which a job ends without a record, and that says nothing of what has happened before: it drips, is mute, or hangs up again and again."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how
        self._looks = 0

    async def serve(self, client: trio.SocketStream) -> None:
        asked = await client.receive_some()
        if b"/events" not in asked:
            self._looks += 1
            status, body = b"200 OK", ACTIVE
            if self._looks > 1:
                status, body = b"404 Not Found", b'{"ok":false,"error":"Job not found","code":"job-not-found"}'
            length = b"\r\nContent-Length: %d\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" % len(
                body
            )
            await client.send_all(b"HTTP/1.1 " + status + length + body)
        elif b"last-event-id" in asked.lower():
            await client.send_all(events_of(""))
            while self._how != "hangs up":
                await trio.sleep(0.05)
                if self._how == "drips":
                    await client.send_all(b":\n\n")
        else:
            await client.send_all(events_of(f'id: {7 + self._looks}\ndata: {{"connected":true}}\n\n'))


@pytest.mark.parametrize("how", ["is mute", "drips", "hangs up"])
def test_a_wait_for_a_job_that_leaves_no_record_ends_with_its_own_time(how: str):
    # Who hangs up is asked again, and just before the end that is not worth while any more.
    kind = (TimeoutError, ServerUnavailable) if how == "hangs up" else TimeoutError
    late = pytest.raises(kind, match=r"no events: ")
    with Leaving(how) as leaving, SyncClient(leaving.url, timeout=600) as client, late:
        client.wait("x", timeout=0.1)


@pytest.mark.parametrize("begun", [*BEGUN, "a stream"])
def test_a_stream_without_a_loop_begins_in_time_or_not_at_all(begun: str, monkeypatch: pytest.MonkeyPatch):
    """The silence that is usual between events is not waited for."""
    monkeypatch.setattr("bunqueue_trio.sync.client.SILENCE_S", 600)
    with Mute(BEGUN.get(begun, events_of(""))) as mute, SyncClient(mute.url, timeout=0.2) as client:
        stream = client.events()
        with pytest.raises(ConnectionLost):
            stream.__enter__()


def test_a_command_without_a_loop_says_how_long_it_has_waited():
    with Mute(b"") as mute, SyncClient(mute.url, timeout=0.2) as client:
        with pytest.raises(ConnectionLost, match=r"GET /ping was sent, and not answered within 0.2 s"):
            client.ping()
        with pytest.raises(ConnectionLost, match=r"not answered within 0.3 s"):
            client.pull("q", timeout=0.1)


@pytest.fixture
def freezing(tmp_path: Path, doors: int) -> Iterator[Server]:
    """A server that may be frozen, while its doors are not."""
    with Server(tmp_path / "q.db", {"DOORS": str(doors)} if doors else {}) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("doors", [0, 2])
@on_both
async def test_a_frozen_server_ends_commands_and_works_on_when_it_thaws(freezing: Server):
    """A pull that it never answered takes no job."""
    async with Client(ws(freezing), patience=1) as client, Client(ws(freezing)) as other:
        await client.ping()
        await other.ping()
        with anyio.fail_after(60):
            os.kill(freezing.process.pid, signal.SIGSTOP)
            try:
                for asked in (client.push("q"), client.state("x"), client.pull("q"), client.pull("q", timeout=0.1)):
                    with pytest.raises(ConnectionLost, match="not answered within 1 s"):
                        await asked
                with SyncClient(freezing.url, timeout=0.2) as sync, pytest.raises(ConnectionLost, match="not answered"):
                    sync.push("q")
            finally:
                os.kill(freezing.process.pid, signal.SIGCONT)
            while True:
                with suppress(ConnectionLost):
                    await client.ping()
                    break
            # The pushes have come, and were taken by nobody for good.
            assert {(await other.pull("q", timeout=30)).attempt for _ in range(2)} == {1}  # type: ignore[union-attr]
            assert await other.pull("q") is None
