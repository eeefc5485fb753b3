"""Tasks of a test's server on loops that are not its own: the client and the workers of a test on asyncio, or without a loop."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from typing import Any

import anyio
import trio
from anyio.from_thread import start_blocking_portal

from bunqueue_trio.client.backend import LoopName, is_trio
from bunqueue_trio.client.client import Client
from bunqueue_trio.protocol.commands.base import Command

# For a worker without grace, or a client that says goodbye.
_END_S = 10.0


class Guest:
    """A task on the loop that runs now; it ends with :meth:`end`, or with the loop."""

    def __init__(self, run: Callable[[], Awaitable[object]]) -> None:
        self._run = run
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._loop = _loop()
        self.error: BaseException | None = None
        if is_trio():
            trio.lowlevel.spawn_system_task(self._main)
        else:
            self._task = asyncio.get_running_loop().create_task(self._main())

    async def _main(self) -> None:
        try:
            with self._scope:
                await self._run()
        except Exception as error:
            # It is raised when the server of the test ends.
            self.error = error
        finally:
            self._over.set()

    def cancel(self) -> None:
        """Let it end; on its own loop only."""
        self._scope.cancel()

    async def end(self) -> None:
        """End it, if this is its loop."""
        if self._loop is _loop():
            self.cancel()
            with anyio.move_on_after(_END_S):
                await self._over.wait()


class ThreadGuest:
    """A task on a loop in a thread of its own."""

    def __init__(self, run: Callable[[], Awaitable[Any]], loop: LoopName) -> None:
        self._stack = ExitStack()
        portal = self._stack.enter_context(start_blocking_portal(backend=loop))
        self._future: Future[Any] = portal.start_task_soon(run)
        self.error: BaseException | None = None

    def cancel(self) -> None:
        """Let it end."""
        self._future.cancel()

    def close(self) -> None:
        """End it, and its thread."""
        self.cancel()
        try:
            self.error = self._future.exception(_END_S)
        except CancelledError:  # noqa: ASYNC103 - of a thread
            # That is how it should end.
            pass
        self._stack.close()


class GuestClient(Client):
    """A client that is open as long as its loop lives: whoever asks first waits until it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._opened = anyio.Event()
        self.guest: Guest = Guest(self._stay)

    async def _stay(self) -> None:
        async with self:
            self._opened.set()
            await anyio.sleep_forever()

    async def _answer(self, kind: type[Command], fields: dict[str, Any], spent: float = 0) -> bytes:
        await self._opened.wait()
        return await super()._answer(kind, fields, spent)


def _loop() -> object:
    """Return what tells the loops of this process apart."""
    return trio.lowlevel.current_trio_token() if is_trio() else asyncio.get_running_loop()
