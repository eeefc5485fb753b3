"""The lives of a test's server, one after the other, on the Trio run that they are used in: real engine, journal and sessions.

The store is in memory and outlives each of them; a connection is a pipe without a socket.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random  # noqa: TID251 - of a seed
from typing import Any

import msgspec
import trio

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.client.connection import Closed
from bunqueue_trio.config import Settings
from bunqueue_trio.protocol.catalog import TAKES
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.testing.store import MortalStore

START_MS = 1_700_000_000_000
# As often as the listener looks who owes nothing any more.
_LOOK_S = 0.05
# The others wake up every second, and a week has many seconds.
_NEEDED = {
    "errands",
    "scheduler",
    "stall detector",
    "reruns",
    "auto-retries",
}


class Pipe:
    """A connection of a client, the server's end included."""

    # Its end is always noticed.
    keepalive_s: float | None = None

    def __init__(self, session: Session, nursery: trio.Nursery, message_max: int) -> None:
        self._session = session
        # Of the connection: what waits for an answer in it ends when the connection does.
        self._nursery = nursery
        self.message_max: int = message_max
        self._messages: list[bytes] = []
        self._over = trio.Event()
        self.closed: bool = False
        self.dropped: bool = False
        """It was cut: nobody has said goodbye."""

    async def send(self, message: bytes) -> None:
        """Send a message to the server; see `Connection`."""
        await self._session.wait_room()
        await trio.lowlevel.checkpoint()
        if self.closed:
            raise Closed
        self._session.receive(message, self._nursery)

    async def receive(self) -> bytes:
        """Return the server's next message; see `Connection`."""
        await trio.lowlevel.checkpoint()
        while True:
            if self.closed:
                raise Closed
            if self._messages:
                return self._messages.pop()
            self._messages = self._session.outgoing()[::-1]
            if not self._messages:
                await self._session.bell.wait()

    @property
    def idle(self) -> bool:
        """Whether the server owes nothing on it."""
        return self._session.idle and not self._messages

    def cut(self) -> None:
        """End it as a network does."""
        self.dropped = True
        self.close()

    def close(self) -> None:
        """End it in good order."""
        self.closed = True
        self._over.set()
        self._session.bell.ring()

    async def wait_closed(self) -> None:
        """Wait for its end."""
        await self._over.wait()


class _PatientSession(Session):
    """One whose pulls wait until there is a job, or they are taken back.

    A worker would only ask again, and a week has many of its pulls: what happens does not differ, and nothing happens when
    nothing can.
    """

    async def _poll(self, begun: Begun, place: Any) -> None:
        if type(begun.command) in TAKES:
            begun.command = msgspec.structs.replace(begun.command, timeout=math.inf)
        await super()._poll(begun, place)


class Lives:
    """What survives a server, and the server that lives now. All of it belongs to one Trio run.

    ``patient``: pulls of workers are not answered empty.
    """

    nursery: trio.Nursery
    """What runs beside the body of the test."""

    def __init__(self, settings: Settings, new_random: Callable[[], Random], *, patient: bool) -> None:
        self.disk: dict[str, Any] = {}
        self.clock_step_s: float = 0.0
        self.pipes: dict[Pipe, object | None] = {}
        """With the worker whose they are."""
        self.cuts: trio.Event = trio.Event()
        """Set when all connections are cut; then there is another."""
        self.changed: trio.Event = trio.Event()
        """Set when something is committed; then there is another."""
        self.server: Server | None = None
        self._settings = settings
        self._new_random = new_random
        self._patient = patient
        self._store: MortalStore | None = None
        self._life: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._started_at = math.nan

    @property
    def elapsed(self) -> float:
        """Seconds since the first life began."""
        return trio.current_time() - self._started_at

    async def recover(self) -> None:
        """Start the server from the disk, if none lives."""
        # NaN: for the first time.
        if self._started_at != self._started_at:
            self._started_at = trio.current_time()
        if self.server is None:
            self.server = await self.nursery.start(self._live)

    async def crash(self) -> None:
        """Kill the server: what is not on the disk is lost."""
        if self.server is None:
            return
        assert self._store is not None
        assert self._life is not None
        self._store.die()
        self.cut()
        self.server = None
        self._life.cancel()
        await self._ended.wait()

    async def stop(self) -> None:
        """Stop the server in good order, as a signal does."""
        if self.server is None:
            return
        self.server.stop.set()
        self.server = None
        while self.pipes:
            for pipe in [pipe for pipe in self.pipes if pipe.idle]:
                pipe.cut()
            await trio.sleep(_LOOK_S)
        await self._ended.wait()

    def cut(self, holder: object | None = None) -> None:
        """Cut all connections, or those of one worker."""
        if holder is None:
            self.cuts.set()
            self.cuts = trio.Event()
        for pipe, owner in self.pipes.items():
            if holder is None or owner is holder:
                pipe.cut()

    @asynccontextmanager
    async def connect(self, queue: str | None, holder: object | None = None) -> AsyncIterator[Pipe]:
        """Connect a client on this run; ``OSError`` when no server lives."""
        await trio.lowlevel.checkpoint()
        if self.server is None:
            raise ConnectionRefusedError("the server is down")
        server = self.server
        # Of a worker's two connections the one that pulls hears of its queue alone.
        kind = _PatientSession if self._patient and holder is not None and queue is not None else Session
        with kind(server, Gateway(server), queue, vouched=True) as session:
            async with trio.open_nursery() as waits:
                pipe = Pipe(session, waits, server.settings.body_max_bytes)
                self.pipes[pipe] = holder
                try:
                    yield pipe
                finally:
                    session.dropped = pipe.dropped
                    pipe.close()
                    del self.pipes[pipe]
                    waits.cancel_scope.cancel()

    async def open(self, queue: str | None, holder: object | None) -> Pipe:
        """Connect a client of another thread; the pipe lives until it is closed."""
        pipe: Pipe = await self.nursery.start(self._hold, queue, holder)
        return pipe

    async def _hold(self, queue: str | None, holder: object | None, *, task_status: trio.TaskStatus[Pipe]) -> None:
        async with self.connect(queue, holder) as pipe:
            task_status.started(pipe)
            await pipe.wait_closed()

    def _note_change(self, *_: object) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def _live(self, *, task_status: trio.TaskStatus[Server]) -> None:  # noqa: ASYNC128 - `serve` calls it
        self._ended = ended = trio.Event()
        self._store = MortalStore(self.disk)
        epoch_ms = START_MS + round((self.elapsed + self.clock_step_s) * 1000)
        server = Server(self._settings, self._store, Clock(epoch_ms), random=self._new_random())
        server.journal.on_commit.append(self._note_change)
        server.services = [child for child in server.services if child.name in _NEEDED]
        try:
            with trio.CancelScope() as self._life:
                await serve(server, (), task_status=task_status)
        finally:
            ended.set()
