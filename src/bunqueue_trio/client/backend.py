"""The loop that a client runs on: AnyIO, and Trio itself where AnyIO's wrapping of it would cost a third of a job.

Everything else in the client is written for AnyIO and asks nowhere which loop it is, but for the sockets (`connection.py`).
"""

import asyncio
import math
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, cast

import anyio
import anyio.from_thread
import trio

from bunqueue_trio.client.connection import Connect, Connection, address_of
from bunqueue_trio.client.leftovers import close_all_in_asyncio, close_all_in_trio
from bunqueue_trio.protocol.standin import STAND_INS

if TYPE_CHECKING:
    from types import TracebackType


LoopName = Literal["trio", "asyncio"]
R = TypeVar("R")

_THREAD: ContextVar[int | None] = ContextVar("_THREAD", default=None)
"""The thread of the sync handler that runs. What it asks of the loop sees this, too, from another thread."""


class Scope(Protocol):
    """What Trio's and AnyIO's cancel scopes have in common."""

    deadline: float

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None", /
    ) -> bool | None: ...
    def cancel(self, reason: str | None = None) -> None:
        """Cancel all that runs in it."""
        ...

    @property
    def cancelled_caught(self) -> bool:
        """Whether that ended it."""
        ...


class Tasks(Protocol):
    """What Trio's nurseries and AnyIO's task groups have in common."""

    @property
    def cancel_scope(self) -> Scope:
        """The scope of all of its tasks."""
        ...

    def start_soon(self, function: Callable[..., Any], /, *arguments: Any) -> object:
        """Start a task."""
        ...


class Loop:
    """The loop that runs now, for what a worker does once or more for each job."""

    new_scope: Callable[[], Scope]
    current_time: Callable[[], float]
    open_tasks: Callable[[], AbstractAsyncContextManager[Tasks]]
    close_all_in: Callable[[Any], bool]
    """Closes what this task has opened within a scope, and not left; returns whether there was any."""

    def __init__(self) -> None:
        self.tasks_may_be_cancelled: bool = not is_trio()
        """Whether anybody can cancel a task, and not only what it is part of."""
        if is_trio():
            self.new_scope = trio.CancelScope
            self.current_time = trio.current_time
            self.open_tasks = cast("Any", trio.open_nursery)
            self.close_all_in = close_all_in_trio
        else:
            self.new_scope = anyio.CancelScope
            self.current_time = asyncio.get_running_loop().time
            self.open_tasks = cast("Any", anyio.create_task_group)
            self.close_all_in = close_all_in_asyncio


def new_event() -> anyio.Event | trio.Event:
    """Return an event of the loop that runs."""
    return trio.Event() if is_trio() else anyio.Event()


class Signal:
    """Wakes whoever waits for it at that moment. It may be made before any loop runs."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | trio.Event | None = None

    def ring(self) -> None:
        """Wake all who wait."""
        if self._event is not None:
            event, self._event = self._event, None
            event.set()

    async def wait(self) -> None:
        """Wait for the next ring."""
        if self._event is None:
            self._event = new_event()
        await self._event.wait()


def is_trio() -> bool:
    """Return whether Trio runs this, and not asyncio."""
    return trio.lowlevel.in_trio_task()


async def rest(seconds: float) -> None:
    """Sleep for upkeep that nobody waits for: a test in virtual time need not wait for it either."""
    with anyio.move_on_after(seconds) as scope, STAND_INS.resting(scope):
        await anyio.sleep_forever()


def websocket(
    url: str, token: str | None = None, tls: ssl.SSLContext | None = None, holder: object | None = None
) -> Connect:
    """Return what connects to the server at ``url``, on the loop that runs then; see :func:`address_of`.

    The server of a test that lives then takes its place. ``holder`` is the worker whose connection it is.
    """

    def connect(queue: str | None) -> AbstractAsyncContextManager[Connection]:
        if (stand_in := STAND_INS.current) is not None:
            return stand_in.connect(queue, holder)
        if is_trio():
            from bunqueue_trio.client import socket_trio as sockets
        else:
            from bunqueue_trio.client import socket_asyncio as sockets  # type: ignore[no-redef]
        return sockets.connect(address_of(url, token, tls), queue)

    return connect


def caller_from_threads() -> Callable[[Callable[[], object]], object]:
    """Return what lets this loop call a function soon, asked by any thread; ``RuntimeError`` when the loop has ended."""
    return (
        trio.lowlevel.current_trio_token().run_sync_soon
        if is_trio()
        else asyncio.get_running_loop().call_soon_threadsafe
    )


def note_thread() -> None:
    """Note that a sync handler runs in this thread: it cannot await anything."""
    _THREAD.set(threading.get_ident())


def now_or_soon(function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Awaitable[None]:
    """Return what is to be awaited; in the thread of a sync handler it is done then."""
    if _THREAD.get() != threading.get_ident():
        return function(*args)
    anyio.from_thread.run(function, *args)
    return _Done()


def to_be_awaited(name: str, coroutine: Coroutine[Any, Any, R]) -> Coroutine[Any, Any, R]:
    """Return ``coroutine`` to who can await it.

    Raises:
        RuntimeError: that is a sync handler, for which nothing would happen.
    """
    if _THREAD.get() != threading.get_ident():
        return coroutine
    coroutine.close()
    raise RuntimeError(f"a sync handler cannot await: anyio.from_thread.run({name}, …), with a partial for names")


class _Done:
    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def is_cancelled() -> bool:
    """Return whether what this task is part of is being cancelled: anybody may raise what says so without that.

    Of asyncio it can be made, of Trio it can be kept, and raised a second time.
    """
    return anyio.current_effective_deadline() == -math.inf


async def forget_cancellation() -> None:
    """Undo that somebody has cancelled this task of asyncio by itself, and not what it is part of: that would end with it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling() and not is_cancelled():
        while task.cancelling():
            task.uncancel()
        # Which may still be to come.
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
