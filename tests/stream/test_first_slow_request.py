"""The first request that needs the web framework waits until that is read, and nobody else does. Over sockets."""

import importlib
import sys
import threading
from collections.abc import Iterator
from functools import partial
from types import ModuleType

import pytest
import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.pages import docs
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports import listener, slow_lane
from bunqueue_trio.transports.listener import Http
from tests.wire.raw import request_bytes

CHUNKED = b'POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{"data":1}\r\n0\r\n\r\n'


@pytest.fixture
def may_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """As after a start: the framework is not read yet, which takes until this is set."""
    event = threading.Event()

    def read(name: str) -> ModuleType:
        event.wait(60)
        sys.modules[name] = slow_lane
        return slow_lane

    class Lock:
        """Who imports it meanwhile stands still, as behind the lock of the interpreter."""

        def find_spec(self, name: str, *_: object) -> None:
            assert name != slow_lane.__name__, "the event loop imports it itself"

    monkeypatch.delitem(sys.modules, slow_lane.__name__)
    monkeypatch.setattr(listener, "import_module", read)
    monkeypatch.setattr(sys, "meta_path", [Lock(), *sys.meta_path])
    importlib.invalidate_caches()
    yield event
    event.set()


async def test_who_needs_the_framework_first_waits_for_it_and_nobody_else_does(
    nursery: trio.Nursery, may_read: threading.Event
) -> None:
    server, listeners = Server(Settings(), MemoryStore(), Clock()), await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def transport(_: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:  # noqa: ASYNC128
        async with trio.open_nursery() as connections:
            await Http(server, connections, express=True).run(listeners, partial(task_status.started, []))

    await nursery.start(serve, server, [transport])
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(60):
        first, other = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        async with first, other:
            await first.send_all(CHUNKED)
            for _ in range(20):
                await other.send_all(request_bytes("GET", "/live"))
                assert b" 200 OK" in await other.receive_some()
            assert not server.engine.jobs
            may_read.set()
            assert b" 200" in await first.receive_some()
            assert len(server.engine.jobs) == 1
    nursery.cancel_scope.cancel()


def test_files_of_the_documentation_import_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread may be importing the same: one of the two would fail, and the server with it."""
    monkeypatch.delitem(sys.modules, "flask_swagger_ui", raising=False)
    docs._file.cache_clear()
    assert {b"swagger" in docs._file(name) for name in ("swagger-ui.css", "swagger-ui-bundle.js")} == {True}
    assert "flask_swagger_ui" not in sys.modules
