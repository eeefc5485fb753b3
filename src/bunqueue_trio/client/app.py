"""Many queues in one program: handlers of one app, each with a worker of its own."""

import ssl
from collections.abc import Callable, Collection, Iterable
from random import Random  # noqa: TID251 - jitter; a test hands in its own
from typing import Any, Unpack

import anyio
from anyio.abc import TaskStatus
from msgspec.structs import replace

from bunqueue_trio.client.backend import LoopName
from bunqueue_trio.client.client import DEFAULT_URL, Client
from bunqueue_trio.client.connection import Connect
from bunqueue_trio.client.declared import Declared, Synced, When, synchronise
from bunqueue_trio.client.pushable import Home, Pushable
from bunqueue_trio.client.running import run_all, run_until_signal
from bunqueue_trio.client.worker import H, Worker
from bunqueue_trio.protocol.address import given_url
from bunqueue_trio.protocol.commands import RunOptions
from bunqueue_trio.protocol.times import Time, seconds_of


class App(Home):
    """Handlers for many queues of the server at ``url``; each queue has its own connection, slots and time limit.

    The options are those of :class:`Worker`. ``async with app`` connects to it, so that its handlers can be pushed to.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, tls: ssl.SSLContext | None = None,
        grace: Time = 30.0, loop: LoopName | None = None, connect: Connect | None = None, random: Random | None = None,
        name: str = "app",
    ) -> None:  # fmt: skip
        super().__init__(url, connect)
        self.name = name
        """As whose the server has the schedules that it declares."""
        self.schedules: dict[str, Declared] = {}
        """Those that it declares, by name."""
        # A wrong one is refused where it is given.
        given_url(url, DEFAULT_URL)
        self._url = url
        self._token = token
        self._tls = tls
        self._grace = seconds_of("grace", grace, zero=True)
        self._loop = loop
        self._random = random
        self.workers: dict[str, Worker] = {}
        """Queue → its worker."""

    def handler(
        self, queue: str, *, name: str | None = None, concurrency: int | None = None, timeout: Time | None = None
    ) -> Callable[[H], Pushable[H]]:
        """Use the decorated function for the jobs of ``queue``, those of a ``name`` or all, as :meth:`Worker.handler` does.

        The first handler of a queue says its ``concurrency``, 10 if it does not, and ``timeout``: they are of all its jobs.

        Raises:
            ValueError: the queue has a handler for this name already, or another has said what is of the whole queue.
        """

        def decorate(function: H) -> Pushable[H]:
            worker = self.workers.get(queue)
            if worker is None:
                worker = Worker(
                    queue, self._url, token=self._token, tls=self._tls, timeout=timeout, grace=self._grace,
                    concurrency=10 if concurrency is None else concurrency, loop=self._loop, connect=self.connector,
                    random=self._random,
                )  # fmt: skip
                worker.home = self
            elif concurrency is not None or timeout is not None:
                raise ValueError(f"the concurrency and timeout of queue {queue!r} are for its first handler to say")
            pushed = worker.handler(function, name=name)
            self.workers[queue] = worker
            return pushed

        return decorate

    def task(
        self, queue: str | None = None, *, name: str | None = None, job_name: str | None = None, data: Any = None,
        concurrency: int | None = None, timeout: Time | None = None, **when: Unpack[When],
    ) -> Callable[[H], Pushable[H]]:  # fmt: skip
        """Use the decorated function for the jobs of ``queue``, and declare a schedule that brings them.

        It brings jobs with ``data`` by ``cron`` in a ``timezone``, or ``every`` that many seconds. Queue and schedule are
        called as the function is, unless they have names. With ``job_name`` its jobs have that name, and the function is for
        those alone. The server knows of it after :meth:`sync`.

        Raises:
            ValueError: the queue has such a handler, or the schedule is declared already.
        """
        if job_name is not None:
            when["options"] = replace(when.get("options", RunOptions()), name=job_name)

        def decorate(function: H) -> Pushable[H]:
            of_queue = queue or function.__name__
            called = name or of_queue
            if called in self.schedules:
                raise ValueError(f"schedule {called!r} is declared already")
            declared = Declared.of(called, of_queue, data, self.name, when)
            pushed = self.handler(of_queue, name=job_name, concurrency=concurrency, timeout=timeout)(function)
            self.schedules[called] = declared
            return pushed

        return decorate

    def schedule(self, name: str, queue: str, data: Any = None, **when: Unpack[When]) -> None:
        """Declare a schedule that brings jobs to ``queue``, whoever works on them, as :meth:`task` does.

        Raises:
            ValueError: it is declared already.
        """
        if name in self.schedules:
            raise ValueError(f"schedule {name!r} is declared already")
        self.schedules[name] = Declared.of(name, queue, data, self.name, when)

    async def sync(self, *, take_over: bool = False) -> Synced:
        """Put the declared schedules onto the server, all or none, and return those that were declared before and are not any more.

        What is the same already stays as it is: nothing runs because of a deploy. Nothing is deleted. ``take_over``: also schedules
        that an app of another name has declared become those of this one.

        Raises:
            Refused: the server does not take one of them, or another app has declared it.
        """
        async with self.new_client() as client:
            return await synchronise(client, self.name, list(self.schedules.values()), take_over=take_over)

    @property
    def address(self) -> str:
        """The address of its server."""
        return given_url(self._url, DEFAULT_URL)

    def new_client(self) -> Client:
        """Return a client of its server, to be entered."""
        return Client(self._url, token=self._token, tls=self._tls, connect=self.connector, random=self._random)

    def use_server(self, url: str | None, token: str | None) -> None:
        """Let :meth:`sync` and ``async with`` ask this server, where they are given."""
        self._url = url or self._url
        self._token = token or self._token

    def stop(self) -> None:
        """Take no more jobs of any queue; :meth:`run` returns when all has finished, or the grace is over."""
        for worker in self.workers.values():
            worker.stop()

    async def run(
        self, queues: Collection[str] | None = None, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Work on all queues, or on ``queues`` of them, until stopped or cancelled.

        Raises:
            Refused: as :meth:`Worker.run`, for any of them; the others are stopped then.
            ValueError: there is no handler for one of ``queues``.
        """
        workers = self._chosen(queues)
        task_status.started()
        await run_all(workers)

    async def run_until_signal(self, queues: Collection[str] | None = None) -> None:
        """Do the same until SIGTERM, SIGINT or SIGHUP; see :meth:`Worker.run_until_signal`."""
        await run_until_signal(self._chosen(queues))

    def _chosen(self, queues: Collection[str] | None) -> list[Worker]:
        if not self.workers:
            raise ValueError("the app has no handlers: decorate functions with @app.handler(queue)")
        return chosen(self.workers.values(), queues)


def chosen(workers: Iterable[Worker], queues: Collection[str] | None) -> list[Worker]:
    """Return those of ``workers`` that are for one of ``queues``, each once; all without.

    Raises:
        ValueError: there is none for one of them.
    """
    # Whoever names a worker twice means one: it runs once.
    each = list(dict.fromkeys(workers))
    there = {worker.queue for worker in each}
    if unknown := set(queues or ()) - there:
        raise ValueError(f"no handler for queue {min(unknown)!r}; there are {', '.join(sorted(there))}")
    return [worker for worker in each if queues is None or worker.queue in queues]
