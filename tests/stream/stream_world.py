"""A server without sockets or a disk, in virtual time, for the tests of its sessions and streams."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import (
    Settings,
)
from bunqueue_trio.protocol.commands import Push
from bunqueue_trio.protocol.replies import PushReply
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http
from tests.stream.ws import TEXT, frame

START_MS = 1_700_000_000_000

END = b"<end>"


class Sockless:
    """The name of a peer on a stream that has no socket."""

    family = None

    def getsockname(self) -> tuple[str, int]:
        return ("test", 1)

    getpeername = getsockname


class World:
    """A server in virtual time, and what its sessions say."""

    def __init__(self, server: Server, nursery: trio.Nursery) -> None:
        self.server = server
        self.nursery = nursery
        self.gateway = Gateway(server)
        self.http = Http(server, nursery, express=True)
        nursery.start_soon(self.http._keep)

    def session(self, queue: str | None = None, *, vouched: bool = True) -> Session:
        return Session(self.server, self.gateway, queue, vouched=vouched)

    def send(self, session: Session, cmd: str, /, **fields: Any) -> None:
        session.receive(json.dumps({"cmd": cmd, **fields}).encode(), self.nursery)

    async def ask(self, session: Session, cmd: str, /, **fields: Any) -> dict[str, Any]:
        """Return the reply to a command; events on the way are dropped."""
        self.send(session, cmd, **fields, reqId="asked")
        while True:
            for message in map(json.loads, session.outgoing()):
                if message.get("reqId") == "asked":
                    return dict(message)
            await session.bell.wait()

    async def connect(self) -> trio.abc.Stream:
        """Return the client's end of a connection that passes nothing on before it is read."""
        ours, theirs = trio.testing.lockstep_stream_pair()
        theirs.socket = Sockless()  # type: ignore[attr-defined]
        self.nursery.start_soon(self.http.serve, theirs)
        return ours


async def nothing(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
    task_status.started([])
    await server.stop.wait()


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    server = Server(Settings(), MemoryStore(), Clock(START_MS))
    await nursery.start(serve, server, [nothing])
    yield World(server, nursery)
    nursery.cancel_scope.cancel()


async def pushed(world: World, size: int = 1) -> str:
    reply = await world.server.core.execute(Push(queue="q", data=Raw(b'"%s"' % (b"x" * size))))
    assert isinstance(reply, PushReply)
    return reply.id


# --- WebSockets on a stream ------------------------------------------------------------------------


def message(**fields: Any) -> bytes:
    return frame(TEXT, json.dumps(fields).encode())


async def received(stream: trio.abc.Stream, seconds: float) -> bytes:
    """What comes within that time; it ends with END if the stream does."""
    got = b""
    with trio.move_on_after(seconds):
        while data := await stream.receive_some(65536):
            got += data
        got += END
    return got
