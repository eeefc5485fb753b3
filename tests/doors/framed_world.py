"""A leader in virtual time, and doors that speak to it in frames over a link that can be cut."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import (
    RECEIVE_BYTES,
    Settings,
)
from bunqueue_trio.doors.answering import Answering
from bunqueue_trio.doors.frames import (
    ASK,
    Message,
    Unpacker,
    pack,
)
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.link import FRAMES, LinkLost
from bunqueue_trio.doors.opened import serve_opened
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http
from tests.stream.stream_world import Sockless
from tests.wire.raw import request_bytes

PUSH = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')

PULL = request_bytes("GET", "/queues/q/jobs")

POLL = request_bytes("GET", "/queues/q/jobs?timeout=60000")

Clocked = trio.testing.MockClock


class World:
    """A leader in virtual time, and the link of its doors, which can be cut."""

    def __init__(self, server: Server, nursery: trio.Nursery, settings: Settings) -> None:
        self.server = server
        self.nursery = nursery
        self.settings = settings
        self.http = Http(server, nursery, express=True)
        self.opened: list[tuple[str, trio.abc.Stream]] = []
        """What doors have opened: the address, and the leader's end."""
        self.is_cut = False

    async def open(self, address: str) -> Any:
        """As a link does."""
        if self.is_cut:
            raise LinkLost("cut")
        ours, its = trio.testing.memory_stream_pair()
        ours.socket = Sockless()  # type: ignore[attr-defined]
        self.opened.append((address, ours))
        self.nursery.start_soon(serve_opened, self.server, self.http, ours, address, self)
        return its

    async def door(self) -> FramingDoor:
        door = FramingDoor(self, self.settings)
        self.nursery.start_soon(door.run)
        await trio.testing.wait_all_tasks_blocked()
        return door

    def connect(self, door: FramingDoor, make: Callable[[], Any] = trio.testing.memory_stream_pair) -> Any:
        ours, its = make()
        self.nursery.start_soon(door.serve, its)
        return ours

    def spliced(self) -> int:
        return sum(address != FRAMES for address, _ in self.opened)

    def counts(self) -> tuple[int, int]:
        """How many jobs wait, and how many are active."""
        jobs = self.server.counts()
        return jobs["waiting"], jobs["active"]


async def nothing(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
    task_status.started([])
    await server.stop.wait()


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    settings = Settings()
    server = Server(settings, MemoryStore(), Clock(1_700_000_000_000))
    await nursery.start(serve, server, [nothing])
    yield World(server, nursery, settings)
    nursery.cancel_scope.cancel()


async def response(stream: trio.abc.Stream) -> tuple[int, Any]:
    """Read one response; the rest of what came with it must be nothing."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(1)
        assert more, data
        data += bytes(more)
    head = data.lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += bytes(await stream.receive_some(length - len(body)))
    text = body.decode()
    return int(data.split()[1]), json.loads(text) if text.startswith("{") else text


async def ask(stream: trio.abc.Stream, request: bytes) -> tuple[int, Any]:
    await stream.send_all(request)
    return await response(stream)


async def ended(stream: trio.abc.Stream) -> bool:
    return await stream.receive_some(1) == b""


class Raw:
    """A door that says what a test wants."""

    def __init__(self, world: World, make: Any = trio.testing.memory_stream_pair) -> None:
        self.stream, its = make()
        self._unpacker = Unpacker(1 << 30)
        self._heard: list[Message] = []
        self.over = trio.Event()

        async def run() -> None:
            await Answering(world.server, world.http.shared, its).run()
            await trio.aclose_forcefully(its)
            self.over.set()

        world.nursery.start_soon(run)

    async def say(self, number: int, kind: int, data: bytes = b"", extra: int = 0) -> None:
        await self.stream.send_all(
            pack(number, kind, 3 if kind == ASK else extra, *((b"a.b", data) if kind == ASK else ()))
        )

    async def hear(self) -> Message:
        while not self._heard:
            data = await self.stream.receive_some(RECEIVE_BYTES)
            assert data
            self._heard = [Message(*each) for each in self._unpacker.feed(bytes(data))]
        return self._heard.pop(0)
