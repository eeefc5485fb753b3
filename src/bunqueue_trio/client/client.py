"""A client of a running server: one connection, every command, seconds everywhere.

The connection is kept up in the background. A command that was cut off is repeated on the next connection only where that cannot do harm; elsewhere
:class:`ConnectionLost` says that its fate is unknown.
"""

import math
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random  # noqa: TID251 - jitter; a test hands in its own
from typing import Any, Self, TypeVar, Unpack, cast
from uuid import UUID

import anyio
import msgspec
import uuid_utils
from anyio.abc import TaskGroup

from bunqueue_trio.client.backend import websocket
from bunqueue_trio.client.connection import Connect
from bunqueue_trio.client.events import EventStream, Streams
from bunqueue_trio.client.given import count_of
from bunqueue_trio.client.jobs import Job, JobInfo, decode, encoded
from bunqueue_trio.client.link import Lost
from bunqueue_trio.client.pushing import Ended, push_once
from bunqueue_trio.client.upkeep import CLOSED, Introduction, Upkeep
from bunqueue_trio.client.waiting import EVENTS, Wait
from bunqueue_trio.errors import JOB_NOT_FOUND, ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.address import given_token, given_url
from bunqueue_trio.protocol.catalog import AWAITS, SPECS, TAKES
from bunqueue_trio.protocol.commands.spec import Again
from bunqueue_trio.protocol.options import (
    FailureSpec,
    JobSpec,
    PushOptions,
    failure_fields,
    percent_of,
    push_fields,
    said,
)
from bunqueue_trio.protocol.places import place_of
from bunqueue_trio.protocol.request import fields_of, has_tokens
from bunqueue_trio.protocol.standin import STAND_INS, Awaited
from bunqueue_trio.protocol.surrogates import read
from bunqueue_trio.protocol.times import Time, seconds_of, to_ms

DEFAULT_URL = "ws://localhost:6790"
# A restart of the server, with a large file to read; half of what makes it stop reading; how often a pull asks for which there is no room to wait.
PATIENCE_S, IN_FLIGHT, POLL_AGAIN_S = 30.0, 500, 1.0

R = TypeVar("R", bound=r.Reply)
T = TypeVar("T")


class Client:
    """A connection to the server at ``url`` that mends itself. Use as an async context manager.

    Without ``url`` or ``token``, BUNQUEUE_URL and BUNQUEUE_TOKEN of the environment count; ``token=""`` is none.

    Entering does not wait for the server; commands do, up to ``patience`` seconds. ``queue`` limits what
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

    def _begin(self) -> None:
        """Set up what belongs to one block, and to one loop."""
        self._slots = anyio.Semaphore(self._in_flight)
        self._polls = anyio.Semaphore(self._in_flight)
        self._upkeep.begin()

    async def __aenter__(self) -> Self:
        if self._groups:
            raise RuntimeError("the client is open already: its commands may be used by any number of tasks at once")
        if self._upkeep.closing:
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
            # What the body raised is not put into a group; it is cancelled, so this is short.
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
                your own ``job_id`` ended in the very moment.
        """
        fields = push_fields(data, options, self._new_id)
        send = partial(self._push_one, queue, fields)
        return (await push_once(send, self._state_or_none, self._ended, [options], [fields]))[0]

    async def push_to(self, handler: Callable[[Job[T]], Any], data: T, **options: Unpack[PushOptions]) -> str:
        """Add a job for ``handler`` to its queue, by its name, as :meth:`push` does; type checkers compare the payload.

        Raises:
            TypeError: no worker of this process has this handler.
            ValueError: it is that of several queues, or names.
        """
        queue, name = place_of(handler)
        if name is not None:
            options.setdefault("name", name)
        return await self.push(queue, data, **options)

    async def push_many(self, queue: str, jobs: Iterable[JobSpec | Mapping[str, Any]]) -> list[str]:
        """Add jobs, each with its ``data`` and the options of :meth:`push`, all or none; return their ids."""
        specs: list[dict[str, Any]] = [dict(job) for job in jobs]
        if not specs:
            return []
        fields = [push_fields(spec.pop("data", None), spec, self._new_id) for spec in specs]
        return await push_once(partial(self._push_all, queue, fields), self._state_or_none, self._ended, specs, fields)

    # --- consumers --------------------------------------------------------------------------------

    async def pull(
        self,
        queue: str,
        *,
        timeout: Time = 0,  # noqa: ASYNC109 - the server waits
        lease: Time | None = None,
    ) -> Job[Any] | None:
        """Take the next job, waiting up to ``timeout`` seconds (at most 60) for one.

        It is ours until this connection ends, or ``lease`` seconds without a heartbeat. Cancelled while
        waiting, it takes no job: one that comes in that moment goes back as if it had not been delivered.
        """
        reply = await self._call(c.Pull, queue=queue, timeout=to_ms("timeout", timeout), lockTtl=to_ms("lease", lease))
        return None if reply.job is None or reply.token is None else Job(self, reply.job, reply.token)

    async def pull_many(
        self, queue: str, count: int, *, timeout: Time = 0, lease: Time | None = None,  # noqa: ASYNC109
    ) -> list[Job[Any]]:  # fmt: skip
        """Take up to ``count`` jobs, fewer if they are large; see :meth:`pull`."""
        reply = await self._call(
            c.PullBatch, queue=queue, count=count, timeout=to_ms("timeout", timeout), lockTtl=to_ms("lease", lease)
        )
        return [Job(self, job, token) for job, token in zip(reply.jobs, reply.tokens, strict=True)]

    async def ack(self, job_id: str, result: Any = None, *, token: str | None = None) -> None:
        """Complete a job; without its token it cannot be repeated, and may end in ConnectionLost."""
        try:
            await self._call(c.Ack, id=job_id, token=token, result=encoded(result))
        except ConnectionLost:
            if token is None or await self._state_or_none(job_id) != "completed":  # noqa: ASYNC120 - then so be it
                raise

    async def ack_many(
        self, ids: Sequence[str], results: Sequence[Any] | None = None, *, tokens: Sequence[str] | None = None
    ) -> list[str]:
        """Complete several jobs; return the ids that were not active, or not ours any more.

        When the connection was cut meanwhile, jobs that this very call completed may be among them.
        """
        encoded_results = None if results is None else [encoded(result) or r.NULL for result in results]
        reply = await self._call(c.AckBatch, ids=ids, tokens=tokens, results=encoded_results)
        return _strings(reply, "ignoredIds")

    async def fail(
        self, job_id: str, error: str | None = None, *, token: str | None = None, unrecoverable: bool = False,
        retry_in: Time | None = None, stack: str | None = None,
    ) -> None:  # fmt: skip
        """Report a failed attempt: the job is retried after its backoff, or ``retry_in`` seconds, or dead.

        An ``unrecoverable`` one is the last. ``stack`` is kept with the attempt.
        """
        how = {"stack": said(stack), "unrecoverable": unrecoverable or None, "retryIn": to_ms("retry_in", retry_in)}
        await self._call(c.Fail, id=job_id, token=token, error=said(error), **how)

    async def fail_many(self, failures: Iterable[FailureSpec]) -> list[str]:
        """Report failed attempts, each with the ``id`` of its job and what :meth:`fail` takes; at most 500.

        Return the ids that were not active, or not ours any more. When the connection was cut meanwhile, jobs that this
        very call reported may be among them, if each has its token; else it may end in ConnectionLost.
        """
        return (await self._call(c.FailBatch, failures=failure_fields(failures))).data.ignored_ids or []

    async def release(self, job_id: str, *, token: str | None = None) -> None:
        """Return a job to its previous position, as if it had not been pulled."""
        await self._call(c.Release, id=job_id, token=token)

    async def heartbeat(self, job_id: str, *, token: str | None = None, duration: Time | None = None) -> None:
        """Renew a lease; of a job that was held over a restart of the server, for this connection. Refused when it is lost."""
        await self._call(c.Heartbeat, id=job_id, token=token, duration=to_ms("duration", duration))

    async def heartbeats(self, ids: Sequence[str], *, tokens: Sequence[str] | None = None) -> list[str]:
        """Renew several leases; return the ids of those that are lost."""
        return (await self.renew(ids, tokens=tokens))[0]

    async def renew(self, ids: Sequence[str], *, tokens: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
        """Renew several leases; return the ids of those that are lost, and of jobs that are cancelled and to be ended."""
        reply = await self._call(c.HeartbeatBatch, ids=ids, tokens=tokens)
        return _strings(reply, "lostIds"), _strings(reply, "cancelledIds")

    async def extend_lock(self, job_id: str, token: str, duration: Time) -> None:
        """Let the lease of a job end ``duration`` seconds from now."""
        await self._call(c.ExtendLock, id=job_id, token=token, duration=to_ms("duration", duration))

    async def progress(
        self, job_id: str, percent: float, message: str | None = None, *, token: str | None = None
    ) -> None:
        """Report how far an active job is; this renews its lease too."""
        await self._call(c.Progress, id=job_id, progress=percent_of(percent), message=said(message), token=token)

    # --- everybody --------------------------------------------------------------------------------

    async def get(self, job_id: str) -> JobInfo:
        """Return a job; Refused (404) when it is unknown, or finished and not kept."""
        return JobInfo((await self._call(c.GetJob, id=job_id)).job)

    async def state(self, job_id: str) -> str:
        """Return ``waiting``, ``delayed``, ``waiting-children``, ``active``, ``completed`` or ``failed``."""
        return (await self.look(job_id)).state

    async def result(self, job_id: str) -> Any:
        """Return the result of a job; None while it has none."""
        return decode((await self._call(c.GetResult, id=job_id)).result)

    async def cancel(
        self, job_id: str, *, reason: str | None = None, by: str | None = None, grace: Time | None = None
    ) -> None:
        """Remove an unfinished job, an active one too; Refused (404) when there is none.

        With any of the others a record is kept. Its worker has ``grace`` seconds to end it.
        """
        await self._call(c.Cancel, id=job_id, reason=reason, by=by, grace=to_ms("grace", grace))

    async def stats(self) -> dict[str, Any]:
        """Return the server's statistics."""
        reply: dict[str, Any] = msgspec.json.decode(await self._answer(c.Stats, {}))
        return {name: value for name, value in reply.items() if name not in ("ok", "reqId")}

    async def ping(self) -> None:
        """Return when the server has answered."""
        await self._answer(c.Ping, {})

    async def run(self, command: c.Command[R]) -> R:
        """Send any command of :mod:`bunqueue_trio.commands`, with its fields as the server has them; return its reply.

        Times are in ms. Jobs that it takes are ours as with :meth:`pull`. It is repeated where that can do no harm.

        Raises:
            TypeError: it is no command, or it says something about a connection, which is this client's own business.
        """
        fields = fields_of(command)
        if isinstance(command, c.Pull | c.PullBatch):
            fields["timeout"] = command.timeout
        return await self._call(type(command), **fields)

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
            Refused: 404, there is no such job.
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

    async def look(self, job_id: str) -> r.StateReply:
        """Return where a job stands as the server says it; Refused (404) as for :meth:`get`. Times are in ms."""
        return await self._call(c.GetState, id=job_id)

    # --- inside: commands -------------------------------------------------------------------------

    async def _push_one(self, queue: str, fields: dict[str, Any]) -> list[str]:
        return [(await self._call(c.Push, queue=queue, **fields)).id]

    async def _push_all(self, queue: str, jobs: list[dict[str, Any]]) -> list[str]:
        return (await self._call(c.PushBatch, queue=queue, jobs=jobs)).ids

    async def _state_or_none(self, job_id: str) -> str | None:
        try:
            return await self.state(job_id)
        except Refused as refused:
            if refused.code != JOB_NOT_FOUND.code:
                raise
            return None

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

    async def _call(self, kind: type[c.Command[R]], **fields: Any) -> R:
        """Send a command whose fields have their names and units in JSON."""
        if kind in TAKES and isinstance(timeout_ms := fields.get("timeout"), int | float) and timeout_ms > 0:
            # What is no number, the server refuses at once.
            return await self._call_waiting(kind, fields)
        if kind in AWAITS and fields.get("timeout", kind is c.WaitJob):
            async with self._polls:
                return self._read(kind, await self._ask(kind, fields))
        return self._read(kind, await self._answer(kind, fields))

    async def _call_waiting(self, kind: type[c.Command[R]], fields: dict[str, Any]) -> R:
        """Send a waiting pull. Where too many do already it asks again and again, no longer than it may wait."""
        due = anyio.current_time() + fields["timeout"] / 1000
        while True:
            try:
                self._polls.acquire_nowait()
                break
            except anyio.WouldBlock:
                pass
            reply = self._read(kind, await self._answer(kind, fields | {"timeout": 0}))
            left = due - anyio.current_time()
            if left <= 0 or getattr(reply, "job", None) or getattr(reply, "jobs", None):
                return reply
            with anyio.move_on_after(min(left, POLL_AGAIN_S)):
                await self._polls.acquire()
                break
        try:
            return self._read(kind, await self._ask(kind, fields, due))
        finally:
            self._polls.release()

    def _read(self, kind: type[c.Command[R]], answer: bytes) -> R:
        try:
            return cast("R", read(answer, SPECS[kind].reply))
        except (ValueError, RecursionError) as error:
            raise ConnectionLost(f"the answer to {SPECS[kind].tag} cannot be read: {error}") from None

    async def _answer(self, kind: type[c.Command], fields: dict[str, Any]) -> bytes:
        try:
            # The usual case: without a switch of tasks.
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            await self._slots.acquire()
        try:
            return await self._ask(kind, fields)
        finally:
            self._slots.release()

    async def _ask(self, kind: type[c.Command], fields: dict[str, Any], due: float | None = None) -> bytes:
        """Return the answer to a command; to a waiting pull, by ``due``, however often the connection is cut."""
        spec, sent = SPECS[kind], False
        again, returns = spec.repeatable(with_token=has_tokens(fields)), kind in TAKES or kind in AWAITS
        while True:
            try:
                link = await self._upkeep.linked()
                if due is not None and (left := math.ceil((due - anyio.current_time()) * 1000)) < fields["timeout"]:
                    fields = fields | {"timeout": max(0, left)}
                return await link.ask(spec.tag, fields, returns=returns)
            except Lost as lost:
                sent = sent or lost.sent
                if sent and again is Again.NEVER:
                    raise ConnectionLost(f"{spec.tag} was sent, and the connection lost") from None
            except (Refused, ServerUnavailable) as refused:
                if sent and (again is Again.GUARDED or isinstance(refused, ServerUnavailable)):
                    raise ConnectionLost(f"{spec.tag} was sent, and the connection lost: {refused}") from None
                raise

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


def _strings(reply: r.DataReply, name: str) -> list[str]:
    data = reply.data
    found = data.get(name, []) if isinstance(data, dict) else []
    return [str(item) for item in found] if isinstance(found, list) else []
