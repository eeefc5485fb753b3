"""A worker: takes jobs of a queue, runs a handler on each, and says how it went.

    run()
    └ background nursery       one client, on one connection at a time: what it pulled is ours while that lives
      ├ puller                 asks for as many jobs as there are free slots
      ├ reporter               acks in batches, fails
      ├ heart                  renews leases; whatever the server says is lost is cancelled
      └ handlers nursery       one task for each job

Leaving it closes the connection, and the server gives what was not reported to somebody else at once.
"""

import inspect
import math
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from os import getpid
from random import Random  # noqa: TID251 - jitter; a test hands in its own
from typing import Any, NamedTuple, TypeVar, overload
from uuid import UUID, uuid4

import anyio
from anyio.abc import TaskStatus
from msgspec.json import Decoder

from bunqueue_trio.client.backend import Loop, LoopName, Scope, Signal, Tasks, forget_cancellation, rest, websocket
from bunqueue_trio.client.client import DEFAULT_URL, Client, Job
from bunqueue_trio.client.connection import Connect
from bunqueue_trio.client.given import count_of, name_of_jobs
from bunqueue_trio.client.handlers import Handler as Handler
from bunqueue_trio.client.handlers import Outcome, Threads, check_handler, heard, parted, payload_decoder
from bunqueue_trio.client.held import Held
from bunqueue_trio.client.info import encoded
from bunqueue_trio.client.leftovers import check_closed, end_forked
from bunqueue_trio.client.log import log
from bunqueue_trio.client.pushable import Home, Pushable, at_work, pushable
from bunqueue_trio.client.reports import Reporter, facts
from bunqueue_trio.client.running import run_until_signal
from bunqueue_trio.client.traces import Traces
from bunqueue_trio.errors import BODY_TOO_LARGE, INVALID_QUEUE, INVALID_TOKEN, UNAUTHORIZED, BunqueueError, Refused
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.protocol.address import given_token, given_url, this_process
from bunqueue_trio.protocol.places import Place
from bunqueue_trio.protocol.times import Time, seconds_of

# Well within the leases of 30 s that a restarted server gives.
HEARTBEAT_S = 15.0
# Leases renewed by one message.
BEATS_MAX = 1000
# As long as a pull waits for a job.
POLL_S = 20.0
# The most that one pull may ask for.
PULL_MAX = 1000
# Before a server is asked again that does not let us wait; well within the time of a restart.
EARLY_S = 0.2
# Before a server that is in trouble is asked again.
RETRY_S = 1.0
# How often a lasting refusal is logged again: only a person can end it.
SAY_AGAIN_S = 60.0

_FOR_EVER = frozenset({UNAUTHORIZED.code, INVALID_TOKEN.code, INVALID_QUEUE.code})
_LOST = "the lease is lost"
_REASONS = {
    "removed": "the job was cancelled", "failed": "the job failed on the server: it has timed out, or stalled too often",
    "stalled": "the lease ran out", "cancelling": "the job was cancelled",
}  # fmt: skip

H = TypeVar("H", bound=Handler)


class _Handling(NamedTuple):
    """How jobs are worked on: the function that was given, what runs it, and what reads payloads for it."""

    function: Handler
    handle: Callable[[Job[Any]], Awaitable[Any]]
    decoder: Decoder[Any] | None


class _Run:
    """A job under way, or one that is done and not reported yet."""

    __slots__ = ("called_off", "held", "lost", "reason", "scope")

    def __init__(self, held: Held, scope: Scope) -> None:
        self.held = held
        self.scope = scope
        self.lost = False
        self.called_off = False
        self.reason = ""
        """Why it ends."""

    def lose(self, reason: str) -> None:
        """End it: the job is not ours any more."""
        self.lost, self.reason = True, reason
        self.scope.cancel(reason)

    def call_off(self, reason: str) -> None:
        """End it, although it stays ours for a while: its outcome still counts."""
        if not self.called_off:
            self.called_off = True
            self.scope.cancel(reason)


class Worker(Home):
    """Runs up to ``concurrency`` jobs of ``queue`` at once.

    A handler whose parameter is a ``Job[Email]`` gets jobs whose payload is read as an ``Email``: a msgspec
    struct, a dataclass, a typed dictionary, or what else msgspec can check.

    ``timeout``: seconds after which a handler is cancelled and its job has failed. ``grace``: seconds that
    handlers get to finish at a stop; the jobs of those that do not go back, at no attempt. Either may be a text, such
    as ``"60s"`` or ``"5m"``. Without ``url``
    or ``token``, BUNQUEUE_URL and BUNQUEUE_TOKEN of the environment count. It runs on the loop that
    :meth:`run` is called in; ``loop`` tells the command line which one to start, ``"trio"`` or ``"asyncio"``. ``name`` is
    what the server's list of workers shows; without one that is the host and the process.
    """

    def __init__(
        self, queue: str, url: str | None = None, *, token: str | None = None, tls: ssl.SSLContext | None = None,
        concurrency: int = 10, timeout: Time | None = None, grace: Time = 30.0, loop: LoopName | None = None,
        name: str | None = None, connect: Connect | None = None, random: Random | None = None,
    ) -> None:  # fmt: skip
        super().__init__(url, connect)
        self.home: Home = self
        """Whose handlers its are: an app's, if that has made it."""
        self.queue = queue
        self.timeout: float = seconds_of("timeout", timeout, zero=False)
        self.grace: float = seconds_of("grace", grace, zero=True)
        self.url: str = given_url(url, DEFAULT_URL)
        self.token = token
        self.tls = tls
        self._random = random
        self._given_name = name
        self._introduce()
        self._handlers: dict[str | None, _Handling] = {}
        """By the name of their jobs; the one under None has the jobs of all other names."""
        self.loop: LoopName | None = loop
        self._on: Loop
        # By lock token: a job may come back while its lost run still ends.
        self._runs: dict[str, _Run] = {}
        self._threads = Threads(self._notify)
        self._traces = Traces()
        self._changed = Signal()
        self.set_concurrency(concurrency)
        self.is_program: bool = False
        """The program consists of workers only; otherwise its output belongs to somebody else."""
        self._stopped = False
        self._is_running = False
        self._pulling: anyio.CancelScope | None = None

    def _introduce(self) -> None:
        """Be somebody: who that is belongs to one process."""
        self._process = getpid()
        self.name: str = self._given_name or "{hostname}-{pid}".format(**this_process())
        self.id: str = str(uuid4() if self._random is None else UUID(int=self._random.getrandbits(128), version=4))
        """The id by which the server knows it, over all of its connections."""

    @overload
    def handler(self, function: H, *, name: str | None = None) -> Pushable[H]: ...
    @overload
    def handler(self, *, name: str | None = None) -> Callable[[H], Pushable[H]]: ...
    def handler(
        self, function: H | None = None, *, name: str | None = None
    ) -> Pushable[H] | Callable[[H], Pushable[H]]:
        """Use ``function`` for the jobs: async, or sync, which then runs in a thread.

        With a ``name`` only for those of this name, by ``@worker.handler(name="welcome")``. Jobs of a name that no handler
        has are for the one without; if there is none, they fail. What it returns is the result. When it raises, the attempt
        has failed; :class:`GiveUp` and :class:`Again` say more. It is cancelled when the job is
        cancelled, or is not ours any more; a thread cannot be, it is left to end by itself. It is returned, with a ``push``.

        Raises:
            TypeError: it does not take one argument, or has a ``yield`` in it; msgspec cannot read what its ``Job[…]`` names, or the name is not known.
            ValueError: there is a handler already: each queue has one for each name, and one without.
        """
        if function is None:
            return partial(self.handler, name=name)
        name = name_of_jobs(name)
        if name in self._handlers:
            there, other = (getattr(f, "__qualname__", repr(f)) for f in (self._handlers[name].function, function))
            which = "" if name is None else f" for the name {name!r}"
            raise ValueError(
                f"the worker of {self.queue!r} has a handler{which} already, {there}: {other} cannot be one, too"
            )
        check_handler(function)
        handle: Callable[[Job[Any]], Awaitable[Any]] = partial(self._in_thread, function)
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004 - asked of its type
            handle = function
        self._handlers[name] = _Handling(function, handle, payload_decoder(function))
        pushed: Pushable[H] = pushable(function, Place(self.queue, name, self.home))
        return pushed

    @property
    def has_handler(self) -> bool:
        """Whether there is a function for jobs; without one it cannot run."""
        return bool(self._handlers)

    @property
    def running(self) -> int:
        """How many jobs are under way."""
        return len(self._runs)

    @property
    def hung(self) -> int:
        """How many threads of sync handlers still run although their jobs are over for us."""
        return self._threads.left

    @property
    def address(self) -> str:
        """The address of its server."""
        return self.url

    def new_client(self) -> Client:
        """Return a client of its server, to be entered."""
        return Client(self.url, token=self.token, tls=self.tls, connect=self.connector, random=self._random)

    def set_concurrency(self, n: int) -> None:
        """Run up to ``n`` jobs at once; what is under way goes on."""
        self.concurrency: int = count_of("concurrency", n)
        self._notify()

    def stop(self) -> None:
        """Take no more jobs; :meth:`run` returns when the handlers have finished, or the grace is over.

        Before a run it ends that one as it begins. After it has returned, the worker may run again.
        """
        self._stopped = True
        if self._pulling is not None:
            self._pulling.cancel()

    async def run_until_signal(self) -> None:
        """Work until SIGTERM, SIGINT or SIGHUP, which stop it as :meth:`stop` does; a second one ends the grace.

        All that a script needs: ``trio.run(worker.run_until_signal)``, or ``asyncio.run(worker.run_until_signal())``. Raises as :meth:`run` does.
        """
        await run_until_signal([self])

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:  # noqa: ASYNC128 - `_run` calls it
        """Work until stopped, or cancelled, which gives everything back at once.

        A server that is away is waited for, for ever; so is one where its token lacks a role, which is said every minute.

        Raises:
            Refused: the server will never give us jobs: its certificate, the token, or the name of the queue.
        """
        if not self.has_handler:
            raise RuntimeError("the worker has no handler: decorate a function with @worker.handler")
        if self._is_running:
            raise RuntimeError(f"the worker of {self.queue} runs already: concurrency= lets it run more jobs at once")
        self._is_running = True
        if self._process != getpid():
            # It was forked, and so may others have been.
            self._introduce()
        # From an earlier run, on a loop that may be gone: tasks that waited there, and threads that nobody can end.
        self._changed, self._threads = Signal(), Threads(self._notify)
        try:
            await self._run(task_status.started)
        finally:
            self._is_running = self._stopped = False
            self._pulling = None

    # --- inside ---------------------------------------------------------------------------------

    async def _run(self, started: Callable[[], None]) -> None:
        connect = self.connector or websocket(self.url, given_token(self.token), self.tls, self)
        client = Client(
            self.url, queue=self.queue, patience=math.inf, connect=connect, in_flight=PULL_MAX,
            worker=self._introduction, random=self._random,
        )  # fmt: skip
        # The requests of handlers have a client of their own: they delay none of ours, and may be about other queues.
        side = Client(self.url, patience=math.inf, connect=connect, random=self._random, on_demand=True)
        reporter = Reporter(client, self._notify)
        trouble: Refused | None = None
        self._on = Loop()
        async with client, side, anyio.create_task_group() as background:
            background.start_soon(reporter.run)
            background.start_soon(self._keep_leases, client, reporter)
            background.start_soon(self._listen, client, reporter)
            with self.home.serving(side):
                async with self._on.open_tasks() as handlers:
                    started()
                    try:
                        with at_work(self.home, side):
                            await self._pull(client, side, reporter, handlers)
                    except Refused as refused:
                        trouble = refused
                    handlers.cancel_scope.deadline = self._on.current_time() + self.grace
            with anyio.move_on_after(self.grace):
                await reporter.drained()
            background.cancel_scope.cancel()
        if trouble is not None:
            raise trouble

    async def _pull(self, client: Client, side: Client, reporter: Reporter, handlers: Tasks) -> None:
        """Take jobs until stopped, never more than there are slots for."""
        said, say_again_at = "", math.inf
        with anyio.CancelScope() as self._pulling:
            while not self._stopped:
                while (free := self.concurrency - len(self._runs) - self._threads.left - reporter.stuck) <= 0:
                    await self._changed.wait()
                asked_at = self._on.current_time()
                try:
                    jobs = await client.pull_many(self.queue, min(free, PULL_MAX), timeout=POLL_S)
                except BunqueueError as error:
                    if _is_final(client, error):
                        raise
                    now = self._on.current_time()
                    # Once for each kind: it may last for hours.
                    if str(error) != said or now >= say_again_at:
                        said = str(error)
                        say_again_at = now + SAY_AGAIN_S if isinstance(error, Refused) else math.inf
                        log.warning("no jobs from the server", queue=self.queue, error=said)
                    await anyio.sleep(RETRY_S)
                    continue
                said = ""
                if not jobs and self._on.current_time() < asked_at + POLL_S / 2:
                    # It answers before the time is over: it is about to stop.
                    await anyio.sleep(EARLY_S)
                for job in jobs:
                    run = _Run(job.put_to_work(side), self._on.new_scope())
                    self._runs[run.held.token] = run
                    handlers.start_soon(self._work, run, job, reporter)
                self._notify()

    def _introduction(self) -> dict[str, Any]:
        """Return what the worker says to the server at each connection."""
        return {
            "workerId": self.id, "name": self.name, "queues": [self.queue], "concurrency": self.concurrency
        } | this_process()  # fmt: skip

    def _notify(self) -> None:
        self._changed.ring()

    async def _work(self, run: _Run, job: Job[Any], reporter: Reporter) -> None:
        held, result, error, trace, ending = run.held, None, None, None, None
        foreign: BaseException | None = None
        run.scope.deadline = (started := self._on.current_time()) + self.timeout
        try:
            with run.scope:
                try:
                    result = encoded(await self._handle(job))
                    end_forked(self._process)
                    check_closed(self._on.close_all_in(run.scope))
                except BaseException as raised:  # noqa: ASYNC103 - what is not the handler's is raised below
                    end_forked(self._process, raised)
                    self._on.close_all_in(run.scope)
                    foreign, own = parted(raised)
                    if own is not None:
                        error, trace, ending = heard(own, self._traces)
                    # Its traceback leads here: only the garbage collector would find it.
                    del own
                # Out here, so that a scope sees nothing of the handler's: its classes may be anything.
                if foreign is not None:
                    raise foreign
        finally:
            del self._runs[held.token]
            self._notify()
        duration = self._on.current_time() - started
        if self._on.tasks_may_be_cancelled:
            await forget_cancellation()
        called_off = run.scope.cancelled_caught and run.called_off and ending is None
        if called_off:
            error = "the job was cancelled"
        elif run.scope.cancelled_caught and not run.lost and ending is None:
            error = f"Handler timed out after {self.timeout:g} s"
        if run.scope.cancelled_caught and run.lost:
            log.info("job is not ours any more", **facts(Outcome(held, duration)), reason=printable(run.reason))
        elif held.ended is not None and error is None:
            log.info("job was ended by its handler", **facts(Outcome(held, duration)), how=held.ended)
        else:
            reporter.report(Outcome(held, duration, result, error, trace, ending, called_off))

    async def _handle(self, job: Job[Any]) -> Any:
        """Give a job to the handler of its name, or else to the one without a name."""
        handling = self._handlers.get(job.name) or self._handlers.get(None)
        if handling is None:
            which = "without a name" if job.name is None else f"of the name {job.name!r}"
            raise LookupError(f"the worker of {self.queue!r} has no handler for jobs {which}")
        job.read_with(handling.decoder)
        return await handling.handle(job)

    async def _in_thread(self, function: Handler, job: Job[Any]) -> Any:
        result = await self._threads.run(function, job)
        # Of an async function behind a decorator, or a lambda, that is none itself.
        return await result if inspect.isawaitable(result) else result

    def _held(self, reporter: Reporter) -> list[_Run]:
        """Return the jobs that are ours: under way, or done without the server knowing it."""
        return [*self._runs.values(), *(_Run(held, self._on.new_scope()) for held in reporter.unreported)]

    async def _keep_leases(self, client: Client, reporter: Reporter) -> None:
        while True:
            while not self._runs and not reporter.unreported:
                await self._changed.wait()
            await rest(HEARTBEAT_S)
            await self._check(client, self._held(reporter))

    async def _listen(self, client: Client, reporter: Reporter) -> None:
        """Look after a job at once when something has happened to it that this worker did not do."""
        while True:
            try:
                async with client.events(*_REASONS) as events:
                    if self.is_program:
                        log.info("worker connected", queue=self.queue, url=self.url)
                    while True:
                        event = await events.next_or_gap()
                        if event is None:
                            await self._check(client, self._held(reporter))
                            continue
                        # Only a hint: by now the same job may be ours again, with another token.
                        runs = [run for run in self._runs.values() if run.held.id == event.job_id]
                        because = f": {event.reason}" if event.reason else ""
                        await self._check(client, runs, _REASONS[event.event_type] + because)
            except BunqueueError as error:
                if _is_final(client, error):
                    # The puller hears it too, and ends the worker.
                    return
                await anyio.sleep(RETRY_S)

    async def _check(self, client: Client, runs: list[_Run], reason: str = _LOST) -> None:
        """Renew the leases of these jobs, and end those whose lease is lost, or that are cancelled, for ``reason``."""
        most = BEATS_MAX
        while runs:
            # Each id once: the answer names ids.
            batch = {run.held.id: run for run in runs[:most]}
            rest = [run for run in runs if batch.get(run.held.id) is not run]
            tokens = [run.held.token for run in batch.values()]
            try:
                lost, cancelled = await client.renew(list(batch), tokens=tokens)
            except BunqueueError as error:
                if isinstance(error, Refused) and error.code == BODY_TOO_LARGE.code and len(batch) > 1:
                    # Of a server that takes only short messages.
                    most = len(batch) // 2
                    continue
                log.warning("leases were not renewed", queue=self.queue, error=str(error))
                return
            for job_id in lost:
                batch[job_id].lose(reason)
            for job_id in cancelled:
                batch[job_id].call_off(reason if reason != _LOST else _REASONS["cancelling"])
            runs = rest


def _is_final(client: Client, error: BunqueueError) -> bool:
    """Return whether the server will never give jobs. Every other error passes: a restart, overload, a proxy in a deploy."""
    if not isinstance(error, Refused):
        return False
    return client.refused is not None or error.code in _FOR_EVER
