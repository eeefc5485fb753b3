"""A job as a worker gets it, and as anybody may look at it. Times are seconds, as everywhere in the client."""

import json
from collections.abc import Awaitable, Callable, Coroutine
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, Literal, Unpack

import anyio
import msgspec
import structlog
from msgspec import Raw
from msgspec.json import Decoder
from structlog.typing import FilteringBoundLogger

from bunqueue_trio.client.backend import now_or_soon, to_be_awaited
from bunqueue_trio.errors import ConnectionLost, ServerUnavailable
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.protocol.commands import AddLog
from bunqueue_trio.protocol.options import Backoff, PushOptions, backoff_of, said
from bunqueue_trio.protocol.replies import DeliveredJob, JobView, fence
from bunqueue_trio.protocol.times import Time

if TYPE_CHECKING:
    # A default for it is of Python 3.13; type checkers bring this with them.
    from typing_extensions import TypeVar

    from bunqueue_trio.client.client import Client

    # A protocol, for who checks types; else nothing of it may stand in the way of `__getattr__`.
    _Logger = FilteringBoundLogger
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    _Logger = object
    T = TypeVar("T")

U = TypeVar("U")

# Before something is said again to a server that did not take it.
RETRY_S = 1.0


def decode(raw: Raw | bytes) -> Any:
    """Return the JSON value; where the quick parser is stricter than the server, the standard one reads it."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return json.loads(bytes(raw))


def encoded(value: Any) -> Raw | None:
    """Return the JSON of a result; None for none.

    Raises:
        TypeError: it has no JSON.
    """
    return None if value is None else Raw(msgspec.json.encode(value))


class JobLog(_Logger):
    """The log of a job at the server, and a logger of this process."""

    def __init__(self, job: "Job[Any]", logger: FilteringBoundLogger) -> None:
        self._job = job
        self._logger = logger

    def __call__(self, message: str, level: Literal["info", "warn", "error"] = "info") -> Awaitable[None]:
        """Add a line to the log of the job. It is kept when that was awaited; in a sync handler, when this returns.

        What is no text is written out, and what is very long loses its middle. A handler of a worker waits until the server
        takes it, since a line is worth no attempt; after a cut it may be there twice.

        Raises:
            ServerUnavailable: no worker has it, and the server takes nothing new now, as with a push.
            ConnectionLost: no worker has it, and whether the line is there is not known.
        """
        return now_or_soon(self._add, AddLog(id=self._job.id, message=said(message) or "", level=level))

    async def _add(self, line: AddLog) -> None:
        await self._job.insist(partial(self._job.client.run, line))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)


class Job(Generic[T]):
    """A job that was pulled. ``Job[Email]`` is one whose payload is read as an ``Email``; see :class:`Worker`."""

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
    ended: str | None
    """How :meth:`ack`, :meth:`fail` or :meth:`release` has ended it for us; None before."""

    def __init__(self, client: "Client", view: DeliveredJob, token: str) -> None:
        self._client = client
        self.client: Client = client
        """For whatever else its handler wants from the server."""
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
        self.ended = None
        self._is_at_work = False

    def put_to_work(self, side: "Client") -> None:
        """Be for a handler of a worker, which has ``side`` for whatever else it wants from the server."""
        self.client, self._is_at_work = side, True

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
        bound = logger.bind(job=printable(self.id), queue=self.queue, attempt=self.attempt)
        return JobLog(self, bound)  # type: ignore[abstract]  # its logger has what it is said to lack

    @property
    def attempt(self) -> int:
        """Which try this is, from 1. A try that ended without a verdict, by a crash or a cut, has not counted."""
        return self.attempts + 1

    @property
    def fence(self) -> int:
        """The fencing number: greater for each later delivery of the job; fits 63 bits. See :func:`fence`."""
        return fence(self.token)

    def push(self, queue: str, data: Any = None, **options: Unpack[PushOptions]) -> Coroutine[Any, Any, str]:
        """Push a job that follows from this one, as :meth:`Client.push` does; return its id.

        This one may be delivered again: a ``job_id`` made of its id pushes the other once, as long as that has not ended.
        """
        return to_be_awaited("push", self.client.push(queue, data, **options))

    def push_to(
        self, handler: "Callable[[Job[U]], Any]", data: U, **options: Unpack[PushOptions]
    ) -> Coroutine[Any, Any, str]:
        """Do the same to the queue of ``handler``, as :meth:`Client.push_to` does."""
        return to_be_awaited("push_to", self.client.push_to(handler, data, **options))

    def ack(self, result: Any = None) -> Coroutine[Any, Any, None]:
        """Complete it; a worker does this with what its handler returns."""
        return to_be_awaited("ack", self._end("completed", self._client.ack, result))

    def fail(
        self, error: str | None = None, *, unrecoverable: bool = False, retry_in: Time | None = None,
        stack: str | None = None,
    ) -> Coroutine[Any, Any, None]:  # fmt: skip
        """Report a failed attempt, as :meth:`Client.fail` does; a worker does this when its handler raises."""
        fail = partial(self._client.fail, unrecoverable=unrecoverable, retry_in=retry_in, stack=stack)
        return to_be_awaited("fail", self._end("failed", fail, error))

    def release(self) -> Coroutine[Any, Any, None]:
        """Return it to its previous position, as if it had not been pulled."""
        return to_be_awaited("release", self._end("given back", self._client.release))

    async def _end(self, how: str, tell: Callable[..., Awaitable[None]], *values: Any) -> None:
        await tell(self.id, *values, token=self.token)
        self.ended = how

    def progress(self, percent: float, message: str | None = None) -> Awaitable[None]:
        """Report how far it is, from 0 to 100: what is beyond counts as these. In a sync handler it is reported when this returns.

        A handler of a worker waits until the server takes it.

        Raises:
            TypeError: ``percent`` is no number.
            Refused: the job is not ours any more.
        """
        tell = partial(self._client.progress, self.id, percent, message, token=self.token)
        return now_or_soon(self.insist, tell)

    def extend_lock(self, duration: Time) -> Awaitable[None]:
        """Let the lease end ``duration`` from now, a day at most; in a sync handler it does when this returns."""
        return now_or_soon(self._client.extend_lock, self.id, self.token, duration)

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.queue}>"


class JobInfo:
    """What the server knows of a job; times in seconds since the epoch."""

    id: str
    queue: str
    name: str | None
    data: Any
    priority: int
    created_at: float
    run_at: float
    started_at: float | None
    completed_at: float | None
    attempts: int
    max_attempts: int
    backoff: float | Backoff
    progress: int | float
    tags: list[str]

    def __init__(self, view: JobView) -> None:
        self.id = view.id
        self.queue = view.queue
        self.name = view.name or None
        self.data = decode(view.data)
        self.priority = view.priority
        self.created_at = view.created_at / 1000
        self.run_at = view.run_at / 1000
        self.started_at = None if view.started_at is None else view.started_at / 1000
        self.completed_at = None if view.completed_at is None else view.completed_at / 1000
        self.attempts = view.attempts
        self.max_attempts = view.max_attempts
        self.backoff = backoff_of(view.backoff)
        self.progress = view.progress
        self.tags = view.tags

    def __repr__(self) -> str:
        return f"<JobInfo {self.id} of {self.queue}>"
