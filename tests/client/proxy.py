"""What stands between a client and a real server: a TCP proxy whose connections a test can cut or freeze.

It runs on Trio in a thread of its own, so that the client may be on any loop.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import trio


class Between:
    """Serves whoever connects to ``port`` by :meth:`serve`. Use as a context manager."""

    def __init__(self) -> None:
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def serve(self, client: trio.SocketStream) -> None:
        raise NotImplementedError

    def call(self, function: Callable[[], object]) -> None:
        """Let its loop call ``function``."""
        self._token.run_sync_soon(function)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._life.cancel)
        self._thread.join(60)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        with trio.CancelScope() as self._life:
            self._ready.set()
            await trio.serve_listeners(self._serve_one, listeners)

    async def _serve_one(self, client: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.serve(client)


class Proxy(Between):
    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__()
        self._target = target
        self._scopes: dict[trio.CancelScope, None] = {}
        self._frozen = False
        self._stuck: set[trio.CancelScope] = set()
        self._thawed = trio.Event()

    def cut(self) -> None:
        self.call(self._cut)

    def freeze(self) -> None:
        """Take bytes and let them go nowhere; nobody hears of it."""
        self._frozen = True

    def freeze_those_that_are_there(self) -> None:
        """Do so with the connections of now, for good."""
        self._stuck = set(self._scopes)

    def cut_those_that_are_frozen(self) -> None:
        """End them, as a server does that has given them up."""
        self.call(lambda: [scope.cancel() for scope in self._stuck])

    def thaw(self) -> None:
        self._frozen = False
        self.call(self._thawed.set)

    def _cut(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def serve(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                async with await trio.open_tcp_stream(*self._target) as server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, client, server, scope)
                    nursery.start_soon(self._copy, server, client, scope)
            except* OSError:
                pass
            finally:
                del self._scopes[scope]

    async def _copy(self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                while self._frozen or scope in self._stuck:
                    await self._thawed.wait()
                await target.send_all(data)
        scope.cancel()
