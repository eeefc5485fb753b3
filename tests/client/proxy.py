"""A TCP proxy in front of a real server, whose connections a test can cut or freeze."""

from contextlib import suppress

import trio


class Proxy:
    """Listens on ``port``."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._scopes: dict[trio.CancelScope, None] = {}
        self._thawed = trio.Event()
        self._thawed.set()
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    def cut(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def freeze(self) -> None:
        """Take bytes and let them go nowhere; nobody is told."""
        self._thawed = trio.Event()

    def thaw(self) -> None:
        self._thawed.set()

    async def _serve(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                async with client, await trio.open_tcp_stream(*self._target) as server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, client, server, scope)
                    nursery.start_soon(self._copy, server, client, scope)
            except* OSError:
                pass
            finally:
                del self._scopes[scope]

    async def _copy(self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await self._thawed.wait()
                await target.send_all(data)
        scope.cancel()
