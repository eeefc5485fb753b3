"""The hot loop on a network and a poller in memory, in virtual time."""

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import supervise
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http
from tests.sim.wire import Connection, End, Pace, Poller
from tests.storage.faulty import Fault, FaultyStore
from tests.stream.stream_world import nothing
from tests.wire.raw import request_bytes

START_MS = 1_700_000_000_000

PUSH = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')

PULL = request_bytes("GET", "/queues/q/jobs")

POLL = request_bytes("GET", "/queues/q/jobs?timeout=1000")


class World:
    """A server, its hot loop, and connections to it."""

    def __init__(self, nursery: trio.Nursery, settings: Settings, faults: list[Fault]) -> None:
        self.nursery = nursery
        self.store = FaultyStore(MemoryStore(), faults)
        self.server = Server(settings, self.store, Clock(START_MS))
        self.poller = Poller()
        self.http = Http(self.server, nursery, express=True, make_poller=lambda: self.poller)
        self.hot = self.http.shared.hot
        self.sent: list[bytes] = []
        self.on_send: Callable[[bytes], None] = self.sent.append

    async def start(self) -> None:
        await self.nursery.start(serve, self.server, [nothing])
        self.nursery.start_soon(self.http._keep)
        self.nursery.start_soon(supervise, self.http.loop)
        await trio.testing.wait_all_tasks_blocked()

    async def connect(self, pace: Pace = Pace(0, 0, 0)) -> End:
        """Return the client's end of a new connection."""
        connection = Connection(random.Random(1), pace)
        connection.server.on_send = self._sent
        self.nursery.start_soon(self.http.serve, connection.server)
        await trio.testing.wait_all_tasks_blocked()
        return connection.client

    def _sent(self, data: bytes) -> None:
        self.on_send(data)

    async def connect_many(self, number: int) -> list[End]:
        return [await self.connect() for _ in range(number)]

    async def push(self) -> str:
        """Push a job past all connections."""
        reply = await self.server.core.execute(c.Push(queue="q", data=Raw(b"1")))
        assert isinstance(reply, r.PushReply)
        return reply.id

    def state(self, job_id: str) -> str:
        return self.server.engine.jobs[job_id].state.value


Start = Callable[..., Any]


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncIterator[Start]:
    """Starts a world."""

    async def begin(*faults: Fault, **settings: Any) -> World:
        world = World(nursery, Settings(**settings), list(faults))
        await world.start()
        return world

    yield begin
    nursery.cancel_scope.cancel()


def put(end: End, data: bytes) -> None:
    """Send ``data`` in this very step."""
    end._out.data += data
    end._out.note_change()


async def answer(end: End) -> bytes:
    """Return what has come when everybody waits for something."""
    await trio.testing.wait_all_tasks_blocked()
    return bytes(await end.receive_some()) if end._in.data or end._in.ended or end._in.torn else b""


def status(data: bytes) -> int:
    return int(data.split(b" ", 2)[1]) if data else 0
