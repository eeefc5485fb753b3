"""What a reply weighs in the byte budget: its bytes in JSON, not its letters."""

import json
from collections.abc import AsyncIterator

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore

LETTERS = 200 * 1000
BYTES = 6 * LETTERS
"""Each of them is a control character, which JSON writes as ``\\u0001``."""


async def nothing(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
    task_status.started([])
    await server.stop.wait()


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[Server]:
    """A server with a page of dead letters whose errors are made of control characters."""
    server = Server(Settings(), MemoryStore(), Clock(1_700_000_000_000))
    await nursery.start(serve, server, [nothing])
    for _ in range(200):
        await server.core.execute(c.Push(queue="q", data=Raw(b"1")))
        pulled = await server.core.execute(c.Pull(queue="q"))
        error = "\x01" * 1000
        await server.core.execute(c.Fail(id=pulled.job.id, token=pulled.token, error=error, unrecoverable=True))  # type: ignore[attr-defined]
    yield server
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("room", [BYTES // 2, 2 * BYTES])
async def test_a_reply_weighs_what_is_sent_of_it(server: Server, nursery: trio.Nursery, room: int):
    server.buffers.hold().grow(server.settings.buffers_max_bytes - room)
    before = server.buffers.held
    with Session(server, Gateway(server), None, vouched=True) as session:
        session.receive(b'{"cmd":"Dlq","queue":"q","limit":200}', nursery)
        [message] = session.outgoing()
        said = json.loads(message)
        if room < BYTES:
            assert said["code"] == "buffers-full"
            assert server.buffers.held == before
        else:
            assert len(said["entries"]) == 200
            assert BYTES < server.buffers.held - before == len(message) < 2 * BYTES
        session.outgoing()
        assert server.buffers.held == before
