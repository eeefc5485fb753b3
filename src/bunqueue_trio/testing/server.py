"""The server of a test: the real engine, journal and sessions on a store in memory, joined without a socket."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random  # noqa: TID251 - of a seed
from typing import Any, Self

import trio

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.client.client import Client
from bunqueue_trio.client.connection import Closed, Connection
from bunqueue_trio.client.worker import Handler, Worker
from bunqueue_trio.config import Settings
from bunqueue_trio.engine.job import Job
from bunqueue_trio.errors import Refused
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.testing.store import MortalStore

START_MS = 1_700_000_000_000
_LOOK_S = 0.05  # virtual, as often as the listener looks who owes nothing any more
_NEEDED = {"scheduler", "stall detector"}  # the others wake up every second, and a week has many seconds


class _Pipe:
    """A connection of a client, the server's end included."""

    keepalive_s: float | None = None  # its end is always noticed

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self._session = session
        self._nursery = nursery
        self._messages: list[bytes] = []
        self.closed = False
        self.dropped = False
        """It was cut: nobody has said goodbye."""

    async def send(self, message: bytes) -> None:
        await self._session.wait_room()
        await trio.lowlevel.checkpoint()
        if self.closed:
            raise Closed
        self._session.receive(message, self._nursery)

    async def receive(self) -> bytes:
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
        return self._session.idle and not self._messages

    def cut(self) -> None:
        self.closed = self.dropped = True
        self._session.bell.ring()


class InlineWorker(Worker):
    """A worker that runs sync handlers in place, and asks for jobs only when there are some.

    Virtual time does not wait for threads, and a week has many polls.
    """

    def __init__(self, queue: str, bunqueue: "Bunqueue", **options: Any) -> None:
        super().__init__(queue, **options)
        self._bunqueue = bunqueue

    async def _in_thread(self, function: Handler, job: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(job)

    async def _work_comes(self) -> None:
        await self._bunqueue.wait_ready(self.queue)


class Bunqueue:
    """A server for a test; use as an async context manager. ``client`` is a client of it.

    ``disk`` is what survives a crash; ``server`` the real server, to look into; ``random`` follows from
    ``seed``, as all ids and pauses do: choose with it what the test does when.
    """

    client: Client

    def __init__(self, settings: Settings | None = None, *, seed: int = 0) -> None:
        self._settings = settings or Settings()
        self.seed = seed
        self.random: Random = Random(seed)  # noqa: S311 - to be repeated
        self.disk: dict[str, Any] = {}
        self._clock_step_s = 0.0
        self._lives: dict[Worker, trio.CancelScope] = {}
        self._pipes: dict[_Pipe, Worker | None] = {}
        self._store: MortalStore | None = None
        self._server: Server | None = None
        self._life: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._started_at = 0.0

    async def __aenter__(self) -> Self:
        self._running = self._run()
        await self._running.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        # What the body raised is not put into a group.
        await self._running.__aexit__(None, None, None)  # noqa: ASYNC102 - it shields itself

    @property
    def server(self) -> Server:
        """The server that runs; RuntimeError when it is down."""
        if self._server is None:
            raise RuntimeError("the server is down")
        return self._server

    @property
    def jobs(self) -> dict[str, Job]:
        """What the server holds of unfinished jobs."""
        return self.server.engine.jobs

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the test began."""
        return trio.current_time() - self._started_at

    def connect(self, **options: Any) -> Client:
        """Return one more client, to be entered; ``options`` as for :class:`Client`."""
        options.setdefault("random", self._new_random())
        return Client(connect=self._connect, **options)

    def worker(self, queue: str, **options: Any) -> Worker:
        """Return a worker; ``options`` as for :class:`Worker`. Its sync handlers run in place."""
        options.setdefault("random", self._new_random())

        def connect(events_of: str | None) -> AbstractAsyncContextManager[Connection]:
            return self._connect(events_of, worker)

        worker = InlineWorker(queue, self, connect=connect, **options)
        return worker

    def start(self, worker: Worker) -> None:
        """Run ``worker`` until the test ends, or it is killed."""
        assert self._nursery is not None
        self._nursery.start_soon(self._work, worker)

    def kill(self, worker: Worker) -> None:
        """Let a started worker die in the midst of its jobs: nothing that it has not sent is sent any more, no goodbye."""
        for pipe, owner in self._pipes.items():
            if owner is worker:
                pipe.cut()
        self._lives[worker].cancel()

    async def wait_ready(self, queue: str) -> None:
        """Wait until a job of ``queue`` can be taken, or the server is down."""
        while self._server is not None:
            engine = self._server.engine
            try:
                engine.queues.check(queue)
            except Refused:
                return  # the pull will say so
            line = engine.queues.get(queue)
            if line is not None and line.ready:
                return
            due = engine.schedule.next_due()
            deadline = float("inf") if due is None else self._server.clock.trio_time(due)
            with trio.move_on_at(deadline):
                await self._changed.wait()
            await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """Cut all connections; clients connect again by themselves."""
        for pipe in self._pipes:
            pipe.cut()

    def step_clock(self, seconds: float) -> None:
        """Set the clock of the machine; a server goes by it from its next start on."""
        self._clock_step_s += seconds

    async def crash(self) -> None:
        """Kill the server: what is not on the disk is lost, and nobody can connect before :meth:`recover`."""
        if self._server is None:
            return
        assert self._store is not None
        assert self._life is not None
        self._store.die()
        self.cut()
        self._server = None
        self._note_change()
        self._life.cancel()
        await self._ended.wait()

    async def stop(self) -> None:
        """Stop the server in good order, as a signal does; nobody can connect before :meth:`recover`."""
        if self._server is None:
            return
        self._server.stop.set()
        self._server = None
        self._note_change()
        while self._pipes:
            for pipe in [pipe for pipe in self._pipes if pipe.idle]:
                pipe.cut()
            await trio.sleep(_LOOK_S)
        await self._ended.wait()

    async def recover(self) -> None:
        """Start the server again, from the disk, after a crash or a stop."""
        if self._server is None:
            assert self._nursery is not None
            self._server = await self._nursery.start(self._live)

    # --- inside ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        self._started_at = trio.current_time()
        async with trio.open_nursery() as self._nursery:
            await self.recover()
            self.client = self.connect()
            try:
                async with self.client:
                    yield
            finally:
                with trio.CancelScope(shield=True):
                    await self.crash()
                self._nursery.cancel_scope.cancel()

    async def _live(self, *, task_status: trio.TaskStatus[Server]) -> None:  # noqa: ASYNC128 - `serve` calls it
        self._ended = ended = trio.Event()
        self._store = MortalStore(self.disk)
        epoch_ms = START_MS + round((self.elapsed + self._clock_step_s) * 1000)
        server = Server(self._settings, self._store, Clock(epoch_ms), random=self._new_random())
        server.journal.on_commit.append(self._note_change)
        server.services = [child for child in server.services if child.name in _NEEDED]
        try:
            with trio.CancelScope() as self._life:
                await serve(server, (), task_status=task_status)
        finally:
            ended.set()

    async def _work(self, worker: Worker) -> None:
        with trio.CancelScope() as life:
            self._lives[worker] = life
            await worker.run()
        del self._lives[worker]

    def _new_random(self) -> Random:
        return Random(self.random.getrandbits(64))  # noqa: S311 - to be repeated

    def _note_change(self, *_: object) -> None:
        self._changed.set()
        self._changed = trio.Event()

    @asynccontextmanager
    async def _connect(self, queue: str | None, worker: Worker | None = None) -> AsyncIterator[Connection]:
        await trio.lowlevel.checkpoint()
        if self._server is None:
            raise ConnectionRefusedError("the server is down")
        server = self._server
        with Session(server, Gateway(server), queue, vouched=True) as session:
            async with trio.open_nursery() as polls:
                pipe = _Pipe(session, polls)
                self._pipes[pipe] = worker
                try:
                    yield pipe
                finally:
                    session.dropped = pipe.dropped
                    pipe.closed = True
                    del self._pipes[pipe]
                    polls.cancel_scope.cancel()
