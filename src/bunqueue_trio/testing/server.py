"""The server of a test, as a test sees it: the real engine, journal and sessions on a store in memory, joined without a socket.

On Trio it lives in the test's own run, in virtual time if the test has that. For asyncio, and for code without a
loop, it lives in a thread, in real time.
"""

import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random  # noqa: TID251 - of a seed
from typing import Any, Self

import anyio
import anyio.lowlevel
import trio

from bunqueue_trio.client.app import App
from bunqueue_trio.client.backend import is_trio
from bunqueue_trio.client.client import Client
from bunqueue_trio.client.worker import Worker
from bunqueue_trio.config import Settings
from bunqueue_trio.engine.job import Job
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.testing.across import Gone
from bunqueue_trio.testing.guests import Guest, GuestClient, ThreadGuest
from bunqueue_trio.testing.lives import START_MS as START_MS
from bunqueue_trio.testing.lives import Lives
from bunqueue_trio.testing.place import Place

# For the server's thread: it ends when it is asked to, and waits for nobody.
_END_S = 30.0


class Bunqueue:
    """A server for a test; use as a context manager, ``async with`` or ``with``. ``client`` is a client of it.

    While it lives, every client and worker of the process goes to it, whatever address it was made with. ``random``
    follows from ``seed``, as all ids and pauses do: choose with it what the test does when.
    """

    def __init__(self, settings: Settings | None = None, *, seed: int = 0) -> None:
        self.seed = seed
        self.random: Random = Random(seed)  # noqa: S311 - to be repeated
        self._settings = settings or Settings()
        self._lives: Lives
        self._place: Place
        self._nursery: trio.Nursery | None = None
        """Where it lives in the run of the test."""
        self._client: Client | None = None
        self._clients: dict[object, GuestClient] = {}
        self._started: dict[Worker | App, trio.CancelScope | Guest | ThreadGuest] = {}
        self._killed: list[Guest | ThreadGuest] = []
        self._thread: threading.Thread | None = None
        self._over: trio.Event
        self._broken: BaseException | None = None

    async def __aenter__(self) -> Self:
        if is_trio():
            self._running = self._run_here()
            await self._running.__aenter__()
        else:
            self.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        # What the body raised is not put into a group.
        if self._thread is None:
            await self._running.__aexit__(None, None, None)  # noqa: ASYNC102 - it shields itself
            return
        try:
            for guest in [*self._started.values(), *(client.guest for client in self._clients.values())]:
                if isinstance(guest, Guest):
                    await guest.end()  # noqa: ASYNC102 - it has a limit
        finally:
            self.__exit__()

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._live_in_thread, args=(ready,), name="bunqueue of a test", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self._broken is not None:
            raise self._broken
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        guests = [
            guest for guest in (*self._started.values(), *self._killed) if not isinstance(guest, trio.CancelScope)
        ]
        for guest in guests:
            if isinstance(guest, ThreadGuest):
                guest.close()
        self._place.home.soon(self._over.set)
        self._thread.join(_END_S)
        for error in (self._broken, *(guest.error for guest in guests)):
            if error is not None and not isinstance(error, Gone):
                raise error

    # --- what a test looks at ---------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """A client that is open while the test runs; RuntimeError where no loop runs."""
        if self._client is not None:
            return self._client
        try:
            loop = anyio.lowlevel.current_token()
        except anyio.NoEventLoopError:
            raise RuntimeError("no loop runs here: use SyncClient(), which goes to this server too") from None
        if loop not in self._clients:
            self._clients[loop] = GuestClient(connect=self._place.connect, random=self._new_random())
        return self._clients[loop]

    @property
    def server(self) -> Server:
        """The server that runs, to look into; RuntimeError when it is down. In real time it is at work in another thread."""
        if self._lives.server is None:
            raise RuntimeError("the server is down")
        return self._lives.server

    @property
    def jobs(self) -> Mapping[str, Job]:
        """What the server holds of unfinished jobs."""
        jobs = self.server.engine.jobs
        return jobs if self._nursery is not None else self._step(lambda: dict(jobs))

    @property
    def disk(self) -> dict[str, Any]:
        """What survives a crash."""
        return self._lives.disk

    @property
    def elapsed(self) -> float:
        """Seconds since the test began, in its time."""
        return float(self._step(lambda: self._lives.elapsed))

    # --- clients and workers ----------------------------------------------------------------------

    def connect(self, **options: Any) -> Client:
        """Return one more client, to be entered; ``options`` as for :class:`Client`."""
        options.setdefault("random", self._new_random())
        return Client(connect=self._place.connect, **options)

    def worker(self, queue: str, **options: Any) -> Worker:
        """Return a worker; ``options`` as for :class:`Worker`."""
        options.setdefault("random", self._new_random())
        worker = Worker(queue, connect=lambda events_of: self._place.connect(events_of, worker), **options)
        return worker

    def start(self, worker: Worker | App) -> None:
        """Run a worker, or an app, until the test ends or it is killed; any of the process will do.

        Without a loop it runs in a thread, on the loop that it says, or on Trio.
        """
        if self._nursery is not None:
            self._nursery.start_soon(self._work, worker)
            return
        try:
            self._started[worker] = Guest(worker.run)
        except (RuntimeError, anyio.NoEventLoopError):
            any_worker = next(iter(worker.workers.values())) if isinstance(worker, App) else worker
            self._started[worker] = ThreadGuest(worker.run, any_worker.loop or "trio")

    def kill(self, worker: Worker | App) -> None:
        """Let a started worker die in the midst of its jobs: nothing that it has not sent is sent any more, no goodbye."""
        for holder in worker.workers.values() if isinstance(worker, App) else (worker,):
            self.cut(holder)
        life = self._started[worker]
        if isinstance(life, trio.CancelScope):
            self._step(life.cancel)
        else:
            life.cancel()
            self._killed.append(self._started.pop(worker))  # type: ignore[arg-type]

    # --- what happens to the server ---------------------------------------------------------------

    def cut(self, worker: Worker | None = None) -> None:
        """Cut all connections, or those of one worker; they connect again by themselves."""
        self._step(lambda: self._lives.cut(worker))

    def step_clock(self, seconds: float) -> None:
        """Set the clock of the machine; a server goes by it from its next start on."""
        self._lives.clock_step_s += seconds

    async def crash(self) -> None:
        """Kill the server: what is not on the disk is lost, and nobody can connect before :meth:`recover`."""
        await self._place.home.call(self._lives.crash)

    async def stop(self) -> None:
        """Stop the server in good order, as a signal does; nobody can connect before :meth:`recover`."""
        await self._place.home.call(self._lives.stop)

    async def recover(self) -> None:
        """Start the server again, from the disk, after a crash or a stop."""
        await self._place.home.call(self._lives.recover)

    # --- inside -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _run_here(self) -> AsyncIterator[None]:
        self._lives = Lives(self._settings, self._new_random, patient=True)
        self._place = Place(self._lives, self._new_random, lambda: self.client)
        with self._place.taken():
            async with trio.open_nursery() as lives:
                self._lives.nursery = lives
                await self._lives.recover()
                self._client = self.connect()
                try:
                    async with self._client, trio.open_nursery() as self._nursery:
                        try:
                            yield
                        finally:
                            # Whoever works here ends before its server: nobody is to say that it is gone.
                            self._nursery.cancel_scope.cancel()
                finally:
                    self._client = self._nursery = None
                    with trio.CancelScope(shield=True):
                        await self._lives.crash()
                    lives.cancel_scope.cancel()

    def _live_in_thread(self, ready: threading.Event) -> None:
        async def live() -> None:
            self._lives = Lives(self._settings, self._new_random, patient=False)
            self._place, self._over = Place(self._lives, self._new_random, lambda: self.client), trio.Event()
            with self._place.taken():
                async with trio.open_nursery() as self._lives.nursery:
                    await self._lives.recover()
                    ready.set()
                    await self._over.wait()
                    await self._lives.crash()
                    self._lives.nursery.cancel_scope.cancel()

        try:
            trio.run(live)
        except BaseException as error:  # noqa: ASYNC103 - it is raised in the test
            self._broken = error
        finally:
            ready.set()

    async def _work(self, worker: Worker | App) -> None:
        with trio.CancelScope() as life:
            self._started[worker] = life
            await worker.run()
        del self._started[worker]

    def _step(self, function: Callable[[], Any]) -> Any:
        return self._place.home.step(function)

    def _new_random(self) -> Random:
        return Random(self.random.getrandbits(64))  # noqa: S311 - to be repeated
