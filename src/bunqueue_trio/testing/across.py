"""Calls from any thread or loop into the Trio run that a test's server lives in, and a connection made of them."""

import concurrent.futures
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import trio

from bunqueue_trio.client.backend import caller_from_threads
from bunqueue_trio.client.connection import Closed, Connection
from bunqueue_trio.testing.lives import Lives, Pipe

T = TypeVar("T")

# For what the server's thread does in one step: it is there, or it is lost.
_ANSWER_S = 60.0
# For a call that was cancelled.
_END_S = 1.0


class Gone(Exception):
    """The run of the server has ended."""


class Home:
    """The Trio run of a server."""

    def __init__(self) -> None:
        """Take the run that this is called in."""
        self._token = trio.lowlevel.current_trio_token()

    @property
    def is_here(self) -> bool:
        """Whether the caller is on that run."""
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token

    async def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run an async function there, and wait for it on any loop; cancelled here, it is cancelled there.

        Raises:
            Gone: there is no such run any more.
        """
        if self.is_here:
            return await function(*arguments)
        done, wake = anyio.Event(), caller_from_threads()
        call = _Call(function, arguments, lambda: wake(done.set))
        self._soon(call.begin)
        try:
            await done.wait()
        except anyio.get_cancelled_exc_class():
            self._soon(call.scope.cancel)
            with anyio.move_on_after(_END_S, shield=True):
                await done.wait()
            raise
        return call.outcome()  # type: ignore[no-any-return]

    def call_blocking(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Do the same from a thread without a loop.

        Raises:
            Gone: there is no such run any more.
        """
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        call = _Call(function, arguments, lambda: done.set_result(None))
        self._soon(call.begin)
        done.result()
        return call.outcome()  # type: ignore[no-any-return]

    def step(self, function: Callable[[], T]) -> T:
        """Run a function there that waits for nothing, from anywhere; block until it has run.

        Raises:
            Gone: there is no such run any more.
        """
        if self.is_here:
            return function()
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(function())
            except Exception as error:
                done.set_exception(error)

        self._soon(run)
        return done.result(_ANSWER_S)

    def soon(self, function: Callable[[], object]) -> None:
        """Run a function that waits for nothing in that run, if it still goes on."""
        try:
            self._soon(function)
        except Gone:
            # What it would have ended has ended.
            pass

    def _soon(self, function: Callable[[], object]) -> None:
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            raise Gone("the server of the test has ended") from None


class _Call:
    def __init__(
        self, function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], on_end: Callable[[], object]
    ) -> None:
        self._function = function
        self._arguments = arguments
        self._on_end = on_end
        self._result: Any = None
        self._error: BaseException | None = Gone("the server of the test has ended")
        self.scope = trio.CancelScope()

    def begin(self) -> None:
        # It must outlive whatever else the run does.
        trio.lowlevel.spawn_system_task(self._run)

    async def _run(self) -> None:
        try:
            with self.scope:
                self._result = await self._function(*self._arguments)
                self._error = None
        except Exception as error:
            # It is raised where it is waited for.
            self._error = error
        finally:
            try:
                self._on_end()
            except RuntimeError:
                # The loop that waited for it has ended.
                pass

    def outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


@asynccontextmanager
async def connect(home: Home, lives: Lives, queue: str | None, holder: object | None) -> AsyncIterator[Connection]:
    """Connect a client on any loop; see ``Connect``."""
    try:
        pipe = await home.call(lives.open, queue, holder)
    except Gone as gone:
        raise ConnectionRefusedError(str(gone)) from None
    try:
        yield _Across(home, pipe)
    finally:
        home.soon(pipe.close)


class _Across:
    keepalive_s: float | None = None

    def __init__(self, home: Home, pipe: Pipe) -> None:
        self._home = home
        self._pipe = pipe
        self.message_max: int = pipe.message_max

    async def send(self, message: bytes) -> None:
        try:
            await self._home.call(self._pipe.send, message)
        except Gone:
            raise Closed from None

    async def receive(self) -> bytes:
        try:
            return await self._home.call(self._pipe.receive)
        except Gone:
            raise Closed from None
