"""A running server with a real file, and without a socket, for what is done to that file."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.server_replies import UpkeepView
from bunqueue_trio.runtime import upkeep
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.store import Store

ANA = By("ana", "10.0.0.7")
PATIENCE_S = 60


@asynccontextmanager
async def running(file: Path, directory: Path | None, store: Store | None = None, **more: Any) -> AsyncIterator[Server]:
    """A server with a file, and without a socket."""
    settings = Settings(data_path=str(file), backup_dir=directory and str(directory), **more)
    server = Server(settings, store or SqliteStore(file), Clock())
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        await until(lambda: None in (directory, server.store.file) or server.keeper._place is not None)
        yield server
        server.stop.set()


def names(directory: Path) -> list[str]:
    """What is in it."""
    return sorted(each.name for each in directory.iterdir())


async def until(holds: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - a thread sets no event
            await trio.sleep(0.01)


async def do(server: Server, command: c.Command[Any]) -> UpkeepView:
    """Let it be done, and return what came of it."""
    begun: Any = await server.core.execute(command, by=ANA)
    await until(lambda: server.engine.upkeep.under_way is None)
    return server.engine.upkeep.last[begun.work.kind]


async def push(server: Server, n: int, size: int = 10) -> list[str]:
    data = Raw(b'"' + b"x" * size + b'"')
    return [(await server.core.execute(c.Push(queue="q", data=data))).id for _ in range(n)]  # type: ignore[attr-defined]


async def held(monkeypatch: pytest.MonkeyPatch, server: Server, command: c.Command[Any]) -> Callable[[], None]:
    """Begin something, and return when it is in its midst: what lets it go on."""
    inside, on = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        inside.set()
        assert on.wait(PATIENCE_S)

    monkeypatch.setattr(upkeep.Rest, "take", wait)
    await server.core.execute(command, by=ANA)
    await until(inside.is_set)
    return on.set
