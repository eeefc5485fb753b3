"""A client of a running server, and the jobs that it takes: one connection, every command, seconds everywhere.

The connection is kept up in the background. A command that was cut off is repeated on the next connection only where that cannot do harm; elsewhere
:class:`ConnectionLost` says that its fate is unknown.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
from random import Random  # noqa: TID251 - jitter; a test hands in its own
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, Unpack
from uuid import UUID

import anyio
import structlog
import uuid_utils
from anyio.abc import TaskGroup
from msgspec.json import Decoder
from structlog.typing import FilteringBoundLogger

from bunqueue_trio.client.asking import Asking
from bunqueue_trio.client.backend import now_or_soon, to_be_awaited, websocket
from bunqueue_trio.client.connection import Connect
from bunqueue_trio.client.events import EventStream, Streams
from bunqueue_trio.client.given import count_of
from bunqueue_trio.client.held import Held
from bunqueue_trio.client.info import decode
from bunqueue_trio.client.pushing import Ended, push_once
from bunqueue_trio.client.upkeep import CLOSED, Introduction, Upkeep
from bunqueue_trio.client.waiting import EVENTS, Wait
from bunqueue_trio.errors import ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.address import given_token, given_url
from bunqueue_trio.protocol.options import JobSpec, PushOptions, push_fields, said
from bunqueue_trio.protocol.places import place_of
from bunqueue_trio.protocol.replies import DeliveredJob, fence
from bunqueue_trio.protocol.standin import STAND_INS, Awaited
from bunqueue_trio.protocol.times import Time, seconds_of, to_ms

if TYPE_CHECKING:
    # Defaults of type variables came with Python 3.13; type checkers bring this module with them.
    from typing_extensions import TypeVar

    # A protocol, for who checks types; else nothing of it may stand in the way of `__getattr__`.
    _Logger = FilteringBoundLogger
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    _Logger = object
    T = TypeVar("T")

U = TypeVar("U")

DEFAULT_URL = "ws://localhost:6790"
# A restart of the server, with a large file to read; and half of what makes it stop reading.
PATIENCE_S, IN_FLIGHT = 30.0, 500
# Before something is said again to a server that did not take it.
RETRY_S = 1.0


class Client(Asking):
    """A connection to the server at ``url`` that mends itself. Use as an async context manager.

    Without ``url`` or ``token``, BUNQUEUE_URL and BUNQUEUE_TOKEN of the environment count; ``token=""`` is none.

    Entering does not wait for the server; commands do, up to ``patience`` seconds each, for a connection and for an answer together. ``queue`` limits what
    :meth:`events` and :meth:`wait` see to one queue. At most ``in_flight`` commands are under way, and as many
    pulls that wait; more of these ask every second. ``on_demand``: it connects when it is first asked for something. ``worker``: what the server learns of who works over
    each connection. ``tls`` is the context for ``wss://``; without one the certificates of the system are trusted.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, tls: ssl.SSLContext | None = None,
        queue: str | None = None, patience: Time = PATIENCE_S, in_flight: int = IN_FLIGHT,
        on_demand: bool = False, worker: Introduction | None = None, connect: Connect | None = None,
        random: Random | None = None,
    ) -> None:  # fmt: skip
        self._queue = queue
        self._in_flight = count_of("in_flight", in_flight)
        self._is_random = random is None
        self._repeatable = not self._is_random
        self._random = random or Random()  # noqa: S311 - jitter
        self._streams = Streams()
        self._groups: list[TaskGroup] = []
        url = given_url(url, DEFAULT_URL)
        self._upkeep = Upkeep(
            url, connect or websocket(url, given_token(token), tls), self._streams,
            queue=queue, worker=worker, patience=seconds_of("patience", patience, zero=True), on_demand=on_demand,
        )  # fmt: skip
        self._begin()

    async def __aenter__(self) -> Self:
        if self._groups:
            raise RuntimeError("the client is open already: its commands may be used by any number of tasks at once")
        # It may have been made, or open before, on another loop.
        self._begin()
        if self._is_random and (stand_in := STAND_INS.current) is not None:
            self._random, self._repeatable = stand_in.new_random(), True
        group = anyio.create_task_group()
        await group.__aenter__()
        self._groups.append(group)
        self._upkeep.is_open = True
        group.start_soon(self._upkeep.stay_connected, self._random)
        return self

    async def __aexit__(self, *_: object) -> None:
        group = self._groups.pop()
        self._streams.close()
        try:
            await self._upkeep.close()  # noqa: ASYNC102 - a cancelled leave does not wait
        finally:
            group.cancel_scope.cancel()
            # An exception of the body is not put into a group; the tasks are cancelled, so this is short.
            await group.__aexit__(None, None, None)  # noqa: ASYNC102

    @property
    def refused(self) -> Refused | None:
        """Why the server will never let us in; None as far as is known."""
        return self._upkeep.refused

    @property
    def connections(self) -> int:
        """How often it was connected."""
        return self._upkeep.connections

    # --- producers --------------------------------------------------------------------------------

    async def push(self, queue: str, data: Any = None, **options: Unpack[PushOptions]) -> str:
        """Add a job and return its id.

        A push that was cut off is looked up, and repeated if it did not arrive.

        Raises:
            Refused: it can never be honoured like this.
            ServerUnavailable: not now; nothing was added, unless it says "not committed".
            ConnectionLost: it may have been added: only with ``remove_on_…``, after a cut that was long, or when a job of
                your own ``job_id`` ended in the very moment. Its note has the job_id to look for, or to repeat it with.
        """
        fields = push_fields(data, options, self._new_id)
        send = partial(self._push_one, queue, fields)
        return (await self._once(send, [options], [fields]))[0]

    async def push_to(self, handler: "Callable[[Job[U]], Any]", data: U, **options: Unpack[PushOptions]) -> str:
        """Add a job for ``handler`` to its queue, by its name, as :meth:`push` does; type checkers compare the payload.

        Raises:
            TypeError: no worker of this process has this handler.
            ValueError: it is that of several queues, or names.
        """
        queue, name, _ = place_of(handler)
        if name is not None:
            options.setdefault("name", name)
        return await self.push(queue, data, **options)

    async def push_many(self, queue: str, jobs: Iterable[JobSpec | Mapping[str, Any]]) -> list[str]:
        """Add jobs, each with its ``data`` and the options of :meth:`push`, all or none; return their ids."""
        specs: list[dict[str, Any]] = [dict(job) for job in jobs]
        if not specs:
            return []
        fields = [push_fields(spec.pop("data", None), spec, self._new_id) for spec in specs]
        return await self._once(partial(self._push_all, queue, fields), specs, fields)

    # --- consumers --------------------------------------------------------------------------------

    async def pull(
        self,
        queue: str,
        *,
        timeout: Time = 0,  # noqa: ASYNC109 - the server waits
        lease: Time | None = None,
    ) -> "Job[Any] | None":
        """Take the next job, waiting up to ``timeout`` seconds (at most 60) for one.

        It is ours until this connection ends, or ``lease`` seconds without a heartbeat. Cancelled while
        waiting, it takes no job: one that comes in that moment goes back as if it had not been delivered.
        """
        reply = await self._call(c.Pull, queue=queue, timeout=to_ms("timeout", timeout), lockTtl=to_ms("lease", lease))
        return None if reply.job is None or reply.token is None else Job(self, reply.job, reply.token)

    async def pull_many(
        self, queue: str, count: int, *, timeout: Time = 0, lease: Time | None = None,  # noqa: ASYNC109
    ) -> "list[Job[Any]]":  # fmt: skip
        """Take up to ``count`` jobs, fewer if they are large; see :meth:`pull`."""
        reply = await self._call(
            c.PullBatch, queue=queue, count=count, timeout=to_ms("timeout", timeout), lockTtl=to_ms("lease", lease)
        )
        return [Job(self, job, token) for job, token in zip(reply.jobs, reply.tokens, strict=True)]

    # --- everybody --------------------------------------------------------------------------------

    @asynccontextmanager
    async def events(self, *types: str) -> AsyncIterator[EventStream]:
        """Give a stream of events of these types (default: all) from now on. Use as an async context manager."""
        async with self._stream(types) as stream:
            yield stream

    async def wait(self, job_id: str, timeout: Time | None = None) -> Any:  # noqa: ASYNC109 - as every wait
        """Return the result of a job when it is completed; None for one whose record is removed on completion.

        Raises:
            JobFailed: it is dead.
            JobRemoved: it was cancelled, or its time to live was over; a ``JobFailed`` too.
            ConnectionLost: it ended while the connection was cut, and left no record: how is not known. Or its record
                was removed, to make room for others, before the result was read.
            Refused: 404, there is no such job, or none any more: it was cancelled before.
            ValueError: it is of another queue than this client hears of.
            TimeoutError: it is not done after ``timeout`` seconds.
        """
        timeout = timeout if isinstance(timeout, int | float) else seconds_of("timeout", timeout, zero=True)
        wait = Wait(self, job_id, self._queue)
        if (stand_in := STAND_INS.current) is not None:
            timeout = min(timeout, stand_in.wait_max_s)
        with anyio.move_on_after(timeout) as scope, STAND_INS.waiting(awaited := Awaited(scope)):
            async with self._stream(EVENTS, job_id) as stream:
                try:
                    return await wait.run(stream)
                except anyio.EndOfStream:
                    raise RuntimeError(CLOSED) from None
        return await wait.last_look(awaited.stuck or f"after {timeout:g} s")

    # --- inside: commands -------------------------------------------------------------------------

    async def _push_one(self, queue: str, fields: dict[str, Any], spent: float) -> list[str]:
        return [(await self._call(c.Push, spent, queue=queue, **fields)).id]

    async def _once(
        self, send: Callable[[float], Awaitable[list[str]]], options: Sequence[Mapping[str, Any]],
        fields: Sequence[Mapping[str, Any]],
    ) -> list[str]:  # fmt: skip
        try:
            return await push_once(send, self._state_or_none, self._ended, options, fields, self._upkeep.patience)
        except ConnectionLost as lost:
            ids = [job["jobId"] for job in fields]
            # What to look for, and to repeat it with.
            lost.add_note(f"job_id={ids[0]!r}" if len(ids) == 1 else f"job_ids={ids!r}")
            raise

    async def _push_all(self, queue: str, jobs: list[dict[str, Any]], spent: float) -> list[str]:
        return (await self._call(c.PushBatch, spent, queue=queue, jobs=jobs)).ids

    async def _ended(self, job_id: str) -> Ended:
        try:
            ended_at = (await self.get(job_id)).completed_at
        except Refused:
            return None
        data = (await self._call(c.Ping)).data
        now = data.get("time") if isinstance(data, dict) else None
        return (ended_at, now / 1000) if ended_at is not None and isinstance(now, int) else None

    def _new_id(self) -> str:
        if self._repeatable:
            return str(UUID(int=self._random.getrandbits(128), version=4))
        return str(uuid_utils.uuid7())

    # --- inside: events ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _stream(self, types: Iterable[str], job_id: str | None = None) -> AsyncIterator[EventStream]:
        stream = self._streams.open(types, job_id)
        try:
            await self._upkeep.subscribe(self.ping)
            yield stream
        finally:
            # The server learns of it at the next change: what it sends meanwhile is dropped.
            stream.close()


class JobLog(_Logger):
    """The log of a job at the server, and a logger of this process."""

    def __init__(self, job: "Job[Any]", job_id: str, logger: FilteringBoundLogger) -> None:
        self._job = job
        self._job_id = job_id
        self._logger = logger

    def __call__(self, message: str, level: Literal["info", "warn", "error"] = "info") -> Awaitable[None]:
        """Add a line to the log of the job. It is kept when that was awaited; in a sync handler, when this returns.

        What is no text is written out, and what is very long loses its middle. A handler of a worker waits until the server
        takes it, since a line is worth no attempt; after a cut it may be there twice.

        Raises:
            ServerUnavailable: no worker has it, and the server takes nothing new now, as with a push.
            ConnectionLost: no worker has it, and whether the line is there is not known.
        """
        return now_or_soon(self._add, c.AddLog(id=self._job_id, message=said(message) or "", level=level))

    async def _add(self, line: c.AddLog) -> None:
        await self._job.insist(partial(self._job.client.run, line))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)


class Job(Generic[T]):
    """A job that was pulled. ``Job[Email]`` is one whose payload is read as an ``Email``; see :class:`Worker`.

    Whoever changes its attributes changes what is read of them, and not which job it is: what is said of it is said of the one that was pulled.
    """

    id: str
    queue: str
    name: str | None
    """What kind of job it is within its queue, if that was said."""
    raw: bytes
    """The payload as it was pushed."""
    priority: int
    created_at: float
    attempts: int
    """Failed tries so far."""
    max_attempts: int
    token: str
    """Proves that it is ours."""

    def __init__(self, client: Client, view: DeliveredJob, token: str) -> None:
        self._client = client
        self.client: Client = client
        """The client for whatever else its handler asks of the server."""
        self._decoder: Decoder[T] | None = None
        self.id = view.id
        self.queue = view.queue
        self.name = view.name or None
        self.raw = bytes(view.data)
        self.priority = view.priority
        self.created_at = view.created_at / 1000
        self.attempts = view.attempts
        self.max_attempts = view.max_attempts
        self.token = token
        self._held = Held(view, token)
        self._is_at_work = False

    def put_to_work(self, side: Client) -> Held:
        """Belong to a handler of a worker, which has the client ``side`` for whatever else it asks of the server; return what the worker goes by."""
        self.client, self._is_at_work = side, True
        return self._held

    def read_with(self, decoder: Decoder[T] | None) -> None:
        """Let ``decoder`` read the payload, when it is asked for."""
        self._decoder = decoder

    async def insist(self, tell: Callable[[], Awaitable[Any]]) -> None:
        """Tell the server something beside the outcome; for a handler of a worker until it takes that, as it takes outcomes."""
        while True:
            try:
                await tell()
                return
            except (ServerUnavailable, ConnectionLost):
                if not self._is_at_work:
                    raise
            await anyio.sleep(RETRY_S)

    @cached_property
    def data(self) -> T:
        """The payload.

        Raises:
            msgspec.ValidationError: it is not what the handler asks for.
        """
        if self._decoder is not None:
            return self._decoder.decode(self.raw)
        data: T = decode(self.raw)
        return data

    @cached_property
    def log(self) -> "JobLog":
        """``await job.log("half way")`` writes a line that the server keeps with the job; so does ``job.log`` in a sync handler.

        It is a logger, too, that says with each line which job, queue and attempt it is of: ``job.log.info("sending")``
        writes to the log of this process.
        """
        logger: FilteringBoundLogger = structlog.get_logger()
        bound = logger.bind(job=printable(self._held.id), queue=self._held.queue, attempt=self.attempt)
        return JobLog(self, self._held.id, bound)  # type: ignore[abstract]  # its logger has what it is said to lack

    @property
    def attempt(self) -> int:
        """Which try this is, from 1. A try that ended without a verdict, by a crash or a cut, has not counted."""
        return self._held.attempt

    @property
    def ended(self) -> str | None:
        """How :meth:`ack`, :meth:`fail` or :meth:`release` has ended it for us; None before."""
        return self._held.ended

    @property
    def fence(self) -> int:
        """The fencing number: greater for each later delivery of the job; fits 63 bits. See :func:`fence`."""
        return fence(self._held.token)

    def push(self, queue: str, data: Any = None, **options: Unpack[PushOptions]) -> Coroutine[Any, Any, str]:
        """Push a job that follows from this one, as :meth:`Client.push` does; return its id.

        This one may be delivered again: a ``job_id`` made of its id pushes the other once, as long as that has not ended.
        """
        return to_be_awaited("job.push", self.client.push(queue, data, **options))

    def push_to(
        self, handler: "Callable[[Job[U]], Any]", data: U, **options: Unpack[PushOptions]
    ) -> Coroutine[Any, Any, str]:
        """Do the same to the queue of ``handler``, as :meth:`Client.push_to` does."""
        return to_be_awaited("job.push_to", self.client.push_to(handler, data, **options))

    def ack(self, result: Any = None) -> Coroutine[Any, Any, None]:
        """Complete it; a worker does this with what its handler returns."""
        return to_be_awaited("job.ack", self._end("completed", self._client.ack, result))

    def fail(
        self, error: str | None = None, *, unrecoverable: bool = False, retry_in: Time | None = None,
        stack: str | None = None,
    ) -> Coroutine[Any, Any, None]:  # fmt: skip
        """Report a failed attempt, as :meth:`Client.fail` does; a worker does this when its handler raises."""
        fail = partial(self._client.fail, unrecoverable=unrecoverable, retry_in=retry_in, stack=stack)
        return to_be_awaited("job.fail", self._end("failed", fail, error))

    def release(self) -> Coroutine[Any, Any, None]:
        """Return it to its previous position, as if it had not been pulled."""
        return to_be_awaited("job.release", self._end("given back", self._client.release))

    async def _end(self, how: str, tell: Callable[..., Awaitable[None]], *values: Any) -> None:
        held = self._held
        await tell(held.id, *values, token=held.token)
        held.ended = how

    def progress(self, percent: float, message: str | None = None) -> Awaitable[None]:
        """Report how far it is, from 0 to 100: what is beyond counts as these. In a sync handler it is reported when this returns.

        A handler of a worker waits until the server takes it.

        Raises:
            TypeError: ``percent`` is no number.
            Refused: the job is not ours any more.
        """
        tell = partial(self._client.progress, self._held.id, percent, message, token=self._held.token)
        return now_or_soon(self.insist, tell)

    def extend_lock(self, duration: Time) -> Awaitable[None]:
        """Let the lease end ``duration`` from now, a day at most; in a sync handler it does when this returns."""
        return now_or_soon(self._client.extend_lock, self._held.id, self._held.token, duration)

    def __repr__(self) -> str:
        return f"<Job {self._held.id} of {self._held.queue}>"
