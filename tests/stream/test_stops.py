"""How long a stop takes, in virtual time: what it waits for, and for how long at most."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import pytest
import trio
import trio.testing
from msgspec import Raw
from structlog.testing import capture_logs

from bunqueue_trio.config import CLOSE_S, DRAIN_S, WRITE_TIMEOUT_S, Settings
from bunqueue_trio.errors import NOT_COMMITTED, Refused
from bunqueue_trio.protocol.commands import Push
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Store
from bunqueue_trio.transports import (
    listener,
    slow_lane,  # noqa: F401 - else a thread reads it, which virtual time does not wait for
)
from bunqueue_trio.transports.listener import Doors, Http
from tests.sim.wire import Connection, End, Listener, Pace, Poller
from tests.storage.faulty import Fault, FaultyStore
from tests.stream.hot_world import START_MS, put
from tests.stream.ws import CLOSE, HANDSHAKE, TEXT, frame

GRACE_S = 20
OPEN = HANDSHAKE.format(path="/ws").encode()
UNSUBSCRIBE = frame(TEXT, b'{"cmd":"Unsubscribe"}')
ASKS_MUCH = b"GET /jobs/large HTTP/1.1\r\nHost: x\r\n\r\n"
PHASES = {
    "before a request": b"",
    "during the head": b"GET /live HT",
    "after the headers": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
    "during the body": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
    "during a large body": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    + b"x" * 100_000,
    "during a chunk": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "in a waiting pull": b"GET /queues/none/jobs?timeout=50000 HTTP/1.1\r\nHost: x\r\n\r\n",
    "waiting for the end of a job": b'POST /jobs/large/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"timeout":50000}',
    "with answers unread": ASKS_MUCH * 5,
    "with an answer of the other lane unread": ASKS_MUCH.replace(b" HTTP/1.1", b" HTTP/1.0"),
    "with a WebSocket unread": OPEN + frame(TEXT, b'{"cmd":"GetJob","id":"large"}') * 20,
    "with events": b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
    "during a frame": OPEN + frame(TEXT, b'{"cmd":"Ping"}')[:4],
    "with a WebSocket's pull waiting": OPEN + frame(TEXT, b'{"cmd":"PULL","queue":"none","timeout":50000}'),
}
LEAVE: dict[str, Callable[[Connection], None]] = {
    "silence": lambda _: None,
    "FIN": lambda connection: connection.ways[0].end(),
    "RST": Connection.cut,
}
"""How a client leaves: it says nothing more, it says that, or it is torn off."""


class Stopping:
    """A server with connections, which is to stop."""

    def __init__(
        self, nursery: trio.Nursery, store: Store | None = None, grace_s: int = GRACE_S, doors: Sequence[Doors] = ()
    ) -> None:
        self.nursery = nursery
        self.doors = doors
        settings = Settings(shutdown_grace_ms=grace_s * 1000)
        self.server = Server(settings, store or MemoryStore(), Clock(START_MS))
        self.listener = Listener()
        self.ended = trio.Event()
        self.http: Http | None = None
        self.scope = trio.CancelScope()
        self.connections: list[Connection] = []

    async def start(self) -> None:
        up = trio.Event()

        async def transport(_: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:  # noqa: ASYNC128
            async with trio.open_nursery() as connections:
                self.http = Http(self.server, connections, express=True, make_poller=Poller)
                up.set()
                await self.http.run([self.listener], partial(task_status.started, []), self.doors)

        async def run() -> None:
            with self.scope:
                await serve(self.server, [transport])
            self.ended.set()

        self.nursery.start_soon(run)
        await up.wait()
        await trio.testing.wait_all_tasks_blocked()

    async def connect(self, data: bytes = b"") -> End:
        connection = Connection(random.Random(1), Pace(0, 0, 0))
        self.connections.append(connection)
        self.listener.offer(connection.server)
        put(connection.client, data)
        await trio.testing.wait_all_tasks_blocked()
        return connection.client

    async def stop(self, *, at_once: bool = False) -> float:
        """Stop it, as a signal does, or as a second one; return the seconds that it took."""
        begun = trio.current_time()
        self.server.stop.set()
        if at_once:
            await trio.testing.wait_all_tasks_blocked()
            self.scope.cancel()
        await self.ended.wait()
        return trio.current_time() - begun

    def leftovers(self) -> dict[str, int]:
        assert self.http is not None
        return {
            "tasks": len(self.nursery.child_tasks), "http": len(self.http._connections),
            "ws": self.server.connections.ws, "sse": self.server.connections.sse,
            "bytes": self.server.buffers.held, "polls": self.server.core.pulls_waiting, "waits": self.server.core.ends.waiting,
            "parked": len(self.http.shared.hot),
        }  # fmt: skip


@pytest.fixture
async def stopping(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stopping]:
    # A connection in memory is its own socket, which a server closes below whatever is shielded.
    monkeypatch.setattr(listener, "socket_of", lambda stream: stream)
    world = Stopping(nursery)
    await world.start()
    await world.server.core.execute(Push(queue="large", job_id="large", data=Raw(b'"%s"' % (b"x" * 200_000))))
    yield world
    nursery.cancel_scope.cancel()


async def leave_all(stopping: Stopping, way: str) -> None:
    """Leave three connections in each phase."""
    for sent in PHASES.values():
        for _ in range(3):
            await stopping.connect(sent)
    before = stopping.leftovers()
    assert before["http"] == 3 * len(PHASES)
    assert all(before.values()), before
    for connection in stopping.connections:
        LEAVE[way](connection)


@pytest.mark.parametrize("way", LEAVE)
@pytest.mark.parametrize("at_once", [False, True], ids=["in order", "second signal"])
async def test_a_stop_ends_within_its_grace_whatever_clients_have_left_and_leaves_nothing(
    stopping: Stopping, at_once: bool, way: str
) -> None:
    await leave_all(stopping, way)
    assert await stopping.stop(at_once=at_once) <= (1 if at_once else GRACE_S + 1)
    assert not any(stopping.leftovers().values()), stopping.leftovers()


@pytest.mark.parametrize("way", ["FIN", "RST"])
async def test_nothing_is_left_of_clients_that_are_gone(stopping: Stopping, way: str) -> None:
    empty = stopping.leftovers()
    await leave_all(stopping, way)
    # Who says no more may still wait, and who reads nothing is given its time.
    await trio.sleep(2 * WRITE_TIMEOUT_S)
    assert stopping.leftovers() == empty


async def test_workers_that_hold_jobs_do_not_hold_up_a_stop(stopping: Stopping) -> None:
    async def agree(end: End) -> None:
        while not (data := bytes(await end.receive_some())).startswith(b"\x88"):
            assert data
        put(end, frame(CLOSE, b"\x03\xe9"))

    for number in range(20):
        pull = frame(TEXT, b'{"cmd":"PUSH","queue":"q","data":1}') + frame(TEXT, b'{"cmd":"PULL","queue":"q"}')
        end = await stopping.connect(OPEN + UNSUBSCRIBE + pull)
        assert stopping.server.counts()["active"] == number + 1
        await end.receive_some()
        stopping.nursery.start_soon(agree, end)
    with capture_logs() as lines:
        assert await stopping.stop() == pytest.approx(DRAIN_S, abs=0.01)
    assert not [line for line in lines if line["log_level"] == "warning"]
    assert stopping.server.counts()["active"] == 20


async def test_who_must_be_cut_at_the_end_of_the_grace_is_counted(stopping: Stopping) -> None:
    await stopping.connect(PHASES["during the body"])
    with capture_logs() as lines:
        await stopping.stop()
    assert [line["connections"] for line in lines if line["log_level"] == "warning"] == [1]


@pytest.mark.parametrize(
    "body",
    [
        b'Content-Length: 10\r\n\r\n{"data":1}',
        b'Transfer-Encoding: chunked\r\n\r\na\r\n{"data":1}\r\n0\r\n\r\n',
    ],
    ids=["whole", "in chunks"],
)
async def test_who_waits_for_a_disk_that_refuses_is_answered_before_the_grace_ends(
    nursery: trio.Nursery, body: bytes
) -> None:
    # It takes the ninth try, 2.75 s after the first: behind the end of connections, and in time for the last batch.
    store = FaultyStore(MemoryStore(), [Fault.REFUSED] * 8)
    stopping = Stopping(nursery, store, 2)
    await stopping.start()
    client = await stopping.connect(b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\n" + body)
    await trio.sleep(1)
    assert await stopping.stop() <= 3
    answer = bytes(await client.receive_some())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"not-committed"' in answer
    assert len(list(store.inner.load())) == 1, "it may still be written"
    nursery.cancel_scope.cancel()


class Pushing:
    """A door with a push; it ends with the answer to it."""

    def __init__(self) -> None:
        self.refused: Refused | None = None
        self._ended = trio.Event()

    async def run(self, http: Http, connections: trio.Nursery) -> None:
        try:
            await http._server.core.execute(Push(queue="q", data=Raw(b"1")))
        except Refused as refused:
            self.refused = refused
        self._ended.set()

    async def wait_closed(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_ended(self) -> None:
        await self._ended.wait()


async def test_who_waits_so_at_a_door_is_answered_before_the_grace_ends_too(nursery: trio.Nursery) -> None:
    door = Pushing()
    stopping = Stopping(nursery, FaultyStore(MemoryStore(), [Fault.REFUSED] * 8), 2, [door])
    await stopping.start()
    assert await stopping.stop() <= 3
    assert door.refused is not None
    assert door.refused.code == NOT_COMMITTED.code
    nursery.cancel_scope.cancel()


async def test_the_server_hangs_up_at_once_when_both_have_closed(stopping: Stopping) -> None:
    end = await stopping.connect(OPEN + frame(CLOSE, b"\x03\xe8"))
    begun, data = trio.current_time(), b""
    while piece := bytes(await end.receive_some()):
        data += piece
    assert data.endswith(b"\x88\x02\x03\xe8")
    assert trio.current_time() - begun < CLOSE_S / 10
