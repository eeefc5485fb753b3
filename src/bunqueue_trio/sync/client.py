"""The synchronous client: names and seconds of :class:`bunqueue_trio.Client`. No connection holds jobs here: what was pulled has a lease."""

import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

import httpx
import uuid_utils

from bunqueue_trio.errors import (
    JOB_NOT_FOUND,
    BunqueueError,
    ConnectionLost,
    JobFailed,
    JobRemoved,
    Refused,
    ServerUnavailable,
)
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.address import given_token, given_url, http_url, this_process
from bunqueue_trio.protocol.catalog import AWAITS, SPECS, TAKES
from bunqueue_trio.protocol.events import EVENT_TYPES
from bunqueue_trio.protocol.faults import error_of
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
from bunqueue_trio.protocol.replies import Reply, StateReply
from bunqueue_trio.protocol.request import fields_of, query_of, request_of
from bunqueue_trio.protocol.routes import path_of_page
from bunqueue_trio.protocol.standin import STAND_INS
from bunqueue_trio.protocol.surrogates import read
from bunqueue_trio.protocol.times import Time, seconds_of, to_ms
from bunqueue_trio.sync.answers import foreign, raise_end, reply_of, untrusted_of
from bunqueue_trio.sync.events import SILENCE_S, SyncEventStream, wanted
from bunqueue_trio.sync.jobs import SyncJob
from bunqueue_trio.sync.limits import Limit, LimitedTransport

DEFAULT_URL = "http://localhost:6790"
TIMEOUT_S = 30.0
# Between two looks at a job that is waited for.
LOOK_MIN_S, LOOK_MAX_S = 0.02, 0.5
# For the last look, at a time-out.
LOOK_S = 0.5
_ENDS = frozenset({"completed", "failed", "removed", "retried"})

if TYPE_CHECKING:
    from bunqueue_trio.client.client import Job

R = TypeVar("R", bound=Reply)
U = TypeVar("U")


class SyncClient:
    """A client of the server at ``url``, ``http(s)://host:port`` or ``unix:/path``; close it, or use ``with``.

    Without ``url`` or ``token``, BUNQUEUE_URL and BUNQUEUE_TOKEN of the environment count; ``token=""`` is none.

    Not one of its commands is repeated by itself. After :class:`ConnectionLost` a push may be repeated with
    the same ``job_id``. ``timeout``: seconds for a command, beside those that it asks the server to wait. ``tls`` is the context for
    ``https://``; without one the certificates of the system are trusted. Any number of threads may share it; after a fork
    each process has connections of its own, and introduces itself anew.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, tls: ssl.SSLContext | None = None,
        timeout: Time = TIMEOUT_S, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        url, token = http_url(given_url(url, DEFAULT_URL)), given_token(token)
        self._is_own_way = transport is not None
        path, url = (url.removeprefix("unix:"), "http://localhost") if url.startswith("unix:") else (None, url)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        tls = None if url.startswith("http:") else tls or ssl.create_default_context()
        self._timeout = seconds_of("timeout", timeout, zero=True)
        self._limit = Limit()

        def new() -> httpx.Client:
            way = transport or LimitedTransport(self._limit, tls, path)
            return httpx.Client(base_url=url, headers=headers, timeout=self._timeout, trust_env=False, transport=way)

        self._new = new
        self._begin()

    def _begin(self) -> None:
        """Set up what belongs to one process."""
        self._process, self._introduced = os.getpid(), ""
        self._http: httpx.Client = self._new()

    @property
    def _worker(self) -> str | None:
        """The id by which this process is known to the server, if it has introduced itself."""
        return self._introduced or None if self._process == os.getpid() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def push(self, queue: str, data: Any = None, **options: Unpack[PushOptions]) -> str:
        """Add a job and return its id; ``options`` as for :meth:`bunqueue_trio.Client.push`.

        Raises:
            TypeError: there is no such option.
            ValueError: the data has a number that JSON does not know.
            ConnectionLost: its note has the job_id to repeat it with.
        """
        body = push_fields(data, options, lambda: str(uuid_utils.uuid7()))
        try:
            return str(self._ask(c.Push, queue=queue, **body)["id"])
        except ConnectionLost as lost:
            lost.add_note(f"job_id={body['jobId']!r}")
            raise

    def push_to(self, handler: "Callable[[Job[U]], Any]", data: U, **options: Unpack[PushOptions]) -> str:
        """Add a job for ``handler`` of a worker or an app to its queue, by its name, as :meth:`push` does; type checkers compare the payload.

        Raises:
            TypeError: no worker of this process has this handler.
            ValueError: it is that of several queues, or names.
        """
        queue, name, _ = place_of(handler)
        if name is not None:
            options.setdefault("name", name)
        return self.push(queue, data, **options)

    def push_many(self, queue: str, jobs: Iterable[JobSpec | Mapping[str, Any]]) -> list[str]:
        """Add jobs, each with its ``data`` and the options of :meth:`push`, all or none; return their ids.

        Raises:
            TypeError: there is no such option.
            ValueError: the data has a number that JSON does not know.
            ConnectionLost: its note has the job_ids to repeat it with.
        """
        specs: list[dict[str, Any]] = [dict(job) for job in jobs]
        bodies = [push_fields(spec.pop("data", None), spec, lambda: str(uuid_utils.uuid7())) for spec in specs]
        if not bodies:
            return []
        try:
            return [str(job_id) for job_id in self._ask(c.PushBatch, queue=queue, jobs=bodies)["ids"]]
        except ConnectionLost as lost:
            lost.add_note(f"job_ids={[body['jobId'] for body in bodies]!r}")
            raise

    def introduce(self, name: str, *, queues: Sequence[str] = (), concurrency: int = 1) -> str:
        """Tell the server who pulls with this client from now on, and return the id that its list of workers has."""
        reply = self._ask(
            c.RegisterWorker, workerId=self._worker, name=name, queues=queues, concurrency=concurrency, **this_process()
        )
        self._introduced = str(reply["data"]["id"])
        return self._introduced

    def pull(self, queue: str, *, timeout: Time = 0, lease: Time | None = None) -> SyncJob | None:
        """Take the next job, waiting up to ``timeout`` seconds (at most 60) for one."""
        waits, leased = to_ms("timeout", timeout), to_ms("lease", lease)
        reply = self._ask(c.Pull, queue=queue, timeout=waits, lockTtl=leased, owner=self._worker)
        return None if reply.get("job") is None else SyncJob(self, reply["job"], reply["token"])

    def pull_many(self, queue: str, count: int, *, timeout: Time = 0, lease: Time | None = None) -> list[SyncJob]:
        """Take up to ``count`` jobs, fewer if they are large; see :meth:`pull`."""
        waits, leased = to_ms("timeout", timeout), to_ms("lease", lease)
        reply = self._ask(c.PullBatch, queue=queue, count=count, timeout=waits, lockTtl=leased, owner=self._worker)
        return [SyncJob(self, job, token) for job, token in zip(reply["jobs"], reply["tokens"], strict=True)]

    def ack(self, job_id: str, result: Any = None, *, token: str | None = None) -> None:
        """Complete a job."""
        self._ask(c.Ack, id=job_id, token=token, result=result)

    def ack_many(
        self, ids: Sequence[str], results: Sequence[Any] | None = None, *, tokens: Sequence[str] | None = None
    ) -> list[str]:
        """Complete several jobs; return the ids that were not active, or not ours any more."""
        reply = self._ask(c.AckBatch, ids=ids, results=results, tokens=tokens)
        return [str(job_id) for job_id in (reply.get("data") or {}).get("ignoredIds", [])]

    def fail(
        self, job_id: str, error: str | None = None, *, token: str | None = None, unrecoverable: bool = False,
        retry_in: Time | None = None, stack: str | None = None,
    ) -> None:  # fmt: skip
        """Report a failed attempt: the job is retried after its backoff, or ``retry_in`` seconds, or dead.

        An ``unrecoverable`` one is the last. ``stack`` is kept with the attempt.
        """
        how = {"stack": said(stack), "unrecoverable": unrecoverable or None, "retryIn": to_ms("retry_in", retry_in)}
        self._ask(c.Fail, id=job_id, token=token, error=said(error), **how)

    def fail_many(self, failures: Iterable[FailureSpec]) -> list[str]:
        """Report failed attempts, each with the ``id`` of its job and what :meth:`fail` takes; at most 500.

        Return the ids that were not active, or not ours any more.
        """
        reply = self._ask(c.FailBatch, failures=failure_fields(failures))
        return [str(job_id) for job_id in reply["data"].get("ignoredIds", [])]

    def release(self, job_id: str, *, token: str | None = None) -> None:
        """Return a job to its previous position, as if it had not been pulled."""
        self._ask(c.Release, id=job_id, token=token)

    def heartbeat(self, job_id: str, *, token: str | None = None, duration: Time | None = None) -> bool:
        """Renew a lease; return whether to go on: a job that is cancelled is to be ended. Refused when it is lost."""
        told = self._ask(c.Heartbeat, id=job_id, token=token, duration=to_ms("duration", duration))
        return "cancelled" not in told["data"]

    def heartbeats(self, ids: Sequence[str], *, tokens: Sequence[str] | None = None) -> list[str]:
        """Renew several leases; return the ids of those that are lost."""
        reply = self._ask(c.HeartbeatBatch, ids=ids, tokens=tokens)
        return [str(job_id) for job_id in reply["data"].get("lostIds", [])]

    def extend_lock(self, job_id: str, token: str, duration: Time) -> None:
        """Let the lease of a job end ``duration`` seconds from now."""
        self._ask(c.ExtendLock, id=job_id, token=token, duration=to_ms("duration", duration))

    def progress(self, job_id: str, percent: float, message: str | None = None, *, token: str | None = None) -> None:
        """Report how far an active job is; this renews its lease too."""
        self._ask(c.Progress, id=job_id, token=token, progress=percent_of(percent), message=said(message))

    def get(self, job_id: str) -> dict[str, Any]:
        """Return the sixteen fields of a job as the server has them, times in epoch ms."""
        job: dict[str, Any] = self._ask(c.GetJob, id=job_id)["job"]
        return job

    def state(self, job_id: str) -> str:
        """Return ``waiting``, ``delayed``, ``waiting-children``, ``active``, ``completed`` or ``failed``."""
        return str(self._ask(c.GetState, id=job_id)["state"])

    def result(self, job_id: str) -> Any:
        """Return the result of a job; None while it has none."""
        return self._ask(c.GetResult, id=job_id)["result"]

    def look(self, job_id: str) -> StateReply:
        """Return where a job stands as the server says it; Refused (404) as for :meth:`get`. Times are in ms."""
        return self.run(c.GetState(id=job_id))

    def wait(self, job_id: str, timeout: Time | None = None) -> Any:
        """Return the result of a job when it is completed; None for one whose record is removed on completion.

        It looks at the job twice a second.

        Raises:
            JobFailed: it is dead.
            JobRemoved: it was cancelled, or its time to live was over; a ``JobFailed`` too.
            ConnectionLost: it ended and left no record, nor is its last event kept: how is not known. Or an answer was lost.
            Refused: 404, there is no such job.
            ServerUnavailable: not now.
            TimeoutError: it is not done after ``timeout`` seconds, or no server has said so half a second later.
        """
        timeout = timeout if isinstance(timeout, int | float) else seconds_of("timeout", timeout, zero=True)
        ends = time.monotonic() + timeout + LOOK_S
        try:
            with self._limit.within(timeout + LOOK_S):
                return self._wait(job_id, timeout)
        except (ConnectionLost, ServerUnavailable) as error:
            if time.monotonic() < ends:
                raise
            raise TimeoutError(f"job {job_id} is not known to be done after {timeout:g} s: {error}") from None

    def _wait(self, job_id: str, timeout: float) -> Any:
        stand_in = STAND_INS.current
        now = time.monotonic if stand_in is None else stand_in.now
        timeout = timeout if stand_in is None else min(timeout, stand_in.wait_max_s)
        until, pause, stuck = now() + timeout, LOOK_MIN_S, None
        seen: StateReply | None = None
        # All events after the first look come from here.
        before = self._newest_event()
        while True:
            try:
                state = self.look(job_id)
            except Refused as refused:
                if refused.code != JOB_NOT_FOUND.code or seen is None:
                    raise
                self._end_without_record(job_id, seen, before)
                return None
            if state.state == "failed":
                raise (JobFailed if state.cancelled is None else JobRemoved)(job_id, state.error or "failed")
            if state.state == "completed":
                return self.result(job_id)
            seen = state
            left = until - now()
            if left <= 0 or stuck is not None:
                when = stuck or f"after {timeout:g} s"
                raise TimeoutError(f"job {job_id} of queue {state.queue} is {state.state} {when}{self._why(job_id)}")
            if stand_in is not None:
                stuck = stand_in.wait_change(left)
                continue
            time.sleep(min(pause, left))
            pause = min(pause * 2, LOOK_MAX_S)

    def events(self, *types: str, queue: str | None = None) -> SyncEventStream:
        """Give a stream of events of these types (default: all) from now on, of all queues or one. Use as a context manager.

        Where the connection is cut it connects again, for up to ``timeout`` seconds, and gets what happened meanwhile.
        """
        named = wanted(types)
        return SyncEventStream(lambda headers: self._stream(queue, headers, named), named, self._limit, self._timeout)

    def cancel(
        self, job_id: str, *, reason: str | None = None, by: str | None = None, grace: Time | None = None
    ) -> None:
        """Remove an unfinished job, an active one too; the rest as :meth:`bunqueue_trio.Client.cancel`."""
        self._ask(c.Cancel, id=job_id, reason=reason, by=by, grace=to_ms("grace", grace))

    def stats(self) -> dict[str, Any]:
        """Return the server's statistics."""
        return {name: value for name, value in self._ask(c.Stats).items() if name != "ok"}

    def ping(self) -> None:
        """Return when the server has answered."""
        self._ask(c.Ping)

    def run(self, command: c.Command[R]) -> R:
        """Send any command of :mod:`bunqueue_trio.commands`, with its fields as the server has them; return its reply.

        Times are in ms.

        Raises:
            TypeError: it is no command, or it says something about a connection, and there is none.
            ConnectionLost: also where it is done, and its answer cannot be read.
        """
        _, content = self._send(type(command), fields_of(command))
        spec = SPECS[type(command)]
        try:
            return cast("R", read(content, spec.reply))
        except (ValueError, RecursionError) as error:
            raise ConnectionLost(f"the answer to {spec.tag} cannot be read: {error}") from None

    def _why(self, job_id: str) -> str:
        """Return why a job is not done, for the end of a sentence."""
        try:
            return f": {self.run(c.Why(id=job_id)).why}"
        except BunqueueError:
            return ""

    def _newest_event(self) -> int:
        # It says that at once: nobody waits here for what happens.
        open_ = partial(self._stream, None, silence_s=0)
        with SyncEventStream(open_, wanted(()), self._limit, self._timeout) as now:
            return now.after

    def _end_without_record(self, job_id: str, seen: StateReply, after: int) -> None:
        """Tell the end of a job that is not kept, by its last event."""
        newest, last = self._newest_event(), None
        with SyncEventStream(partial(self._stream, None), wanted(()), self._limit, self._timeout, after) as past:
            while past.after < newest:
                message = past.next_message()
                if message.gap:
                    last = None
                if message.event is not None and message.event.job_id == job_id and message.event.event_type in _ENDS:
                    last = message.event
        raise_end(job_id, seen, last)

    def _ask(self, kind: type[c.Command], **fields: Any) -> dict[str, Any]:
        """Send a command whose fields have their names and units in JSON; None is left out."""
        return self._send(kind, {name: value for name, value in fields.items() if value is not None})[0]

    def _send(self, kind: type[c.Command], fields: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a command, read and as it came."""
        method, path, content = request_of(kind, fields)
        asked = query_of(fields).get("timeout", c.WaitJob().timeout if kind is c.WaitJob else 0)
        within_s = self._timeout + (asked / 1000 if kind in TAKES or kind in AWAITS else 0)
        with self._telling(method, path, within_s), self._limit.within(within_s):
            response = self._way().request(method, path, content=content, timeout=within_s)
        return self._read(method, path, response), response.content

    def _way(self) -> httpx.Client:
        """Return what sends requests: to the address, or to the server of a test that lives now."""
        stand_in = STAND_INS.current
        if stand_in is None or self._is_own_way:
            if self._process != os.getpid():
                # It was forked: over a connection that two processes share, each reads the other's answers.
                self._begin()
            return self._http
        return httpx.Client(
            base_url=self._http.base_url, headers=self._http.headers, trust_env=False, transport=stand_in.http
        )

    @contextmanager
    def _stream(
        self, queue: str | None, headers: dict[str, str], types: frozenset[str] = EVENT_TYPES, *,
        silence_s: float = SILENCE_S,
    ) -> Iterator[httpx.Response]:  # fmt: skip
        path = path_of_page("events") if queue is None else path_of_page("events", queue=queue)
        timeout = httpx.Timeout(self._timeout, read=max(self._timeout, silence_s))
        params = {} if types <= EVENT_TYPES else {"types": ",".join(sorted(types))}
        way = self._way()
        request = way.build_request("GET", path, params=params, headers=headers, timeout=timeout)
        with self._telling("GET", path, self._timeout), self._limit.within(self._timeout):
            response = way.send(request, stream=True)
        try:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                with self._telling("GET", path, self._timeout), self._limit.within(self._timeout):
                    response.read()
                self._read("GET", path, response)
                raise foreign(self._http.base_url, "GET", path, response.status_code)
            yield response
        finally:
            response.close()

    @contextmanager
    def _telling(self, method: str, path: str, within_s: float | None) -> Iterator[None]:
        """Turn what goes wrong on the way into whose fault it is."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            if (untrusted := untrusted_of(error)) is not None:
                message = f"{self._http.base_url}: {untrusted.verify_message}: its certificate is not trusted"
                raise Refused(400, message) from None
            raise ServerUnavailable(f"{self._http.base_url}: {str(error) or 'no answer'}") from None
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Refused(400, f"{self._http.base_url}: {error}") from None
        except httpx.ReadTimeout:
            raise ConnectionLost(f"{method} {path} was sent, and not answered within {within_s:g} s") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise ConnectionLost(f"{method} {path} was sent: {str(error) or type(error).__name__}") from None

    def _read(self, method: str, path: str, response: httpx.Response) -> dict[str, Any]:
        """Return the answer, or raise what was refused."""
        reply = reply_of(response)
        if response.status_code == 200 and reply is not None and reply.get("ok") is True:
            return reply
        if reply is None or not isinstance(reply.get("error"), str):
            raise foreign(self._http.base_url, method, path, response.status_code)
        after = response.headers.get("retry-after", "")
        raise error_of(
            reply["error"], reply.get("code"), status=response.status_code,
            retry_after=float(after) if after.isdigit() else None,
        )  # fmt: skip
