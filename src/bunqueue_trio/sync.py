"""A client without Trio, over HTTP: for scripts, and for producers in code that is not async.

The same names and seconds as :class:`bunqueue_trio.Client`, as far as HTTP goes. No connection holds jobs
here: what was pulled has a lease of 5 minutes, or as long as ``lease`` says.
"""

import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import quote

import httpx
import msgspec
import uuid_utils

from bunqueue_trio.errors import NOT_COMMITTED, ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.protocol.address import given_token, given_url, http_url
from bunqueue_trio.protocol.options import PushOptions, push_fields, to_ms
from bunqueue_trio.protocol.replies import fence

__all__ = ["ConnectionLost", "Refused", "ServerUnavailable", "SyncClient", "SyncJob"]

DEFAULT_URL = "http://localhost:6790"
TIMEOUT_S = 30.0
_PASSED_ON = frozenset({500, 502, 504})  # of a proxy: the server may have had the request, and its answer got lost
_PASSING = frozenset({408, 425, 429, 503})  # whoever says so did not pass it on


class SyncJob:
    """A job that was pulled; ``token`` proves that it is ours."""

    def __init__(self, client: "SyncClient", fields: dict[str, Any], token: str) -> None:
        self._client = client
        self.id: str = fields["id"]
        self.queue: str = fields["queue"]
        self.data: Any = fields["data"]
        self.priority: int = fields["priority"]
        self.created_at: float = fields["createdAt"] / 1000
        self.attempts: int = fields["attempts"]
        self.max_attempts: int = fields["maxAttempts"]
        self.token = token

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self.attempts + 1

    @property
    def fence(self) -> int:
        """The fencing number: greater for each later delivery of the job; fits 63 bits."""
        return fence(self.token)

    def ack(self, result: Any = None) -> None:
        """Complete it."""
        self._client.ack(self.id, result, token=self.token)

    def fail(self, error: str | None = None) -> None:
        """Report a failed attempt."""
        self._client.fail(self.id, error, token=self.token)

    def heartbeat(self, duration: float | None = None) -> None:
        """Renew the lease; Refused when it is lost."""
        self._client.heartbeat(self.id, token=self.token, duration=duration)

    def extend_lock(self, duration: float) -> None:
        """Let the lease end ``duration`` seconds from now."""
        self._client.extend_lock(self.id, self.token, duration)

    def progress(self, percent: float, message: str | None = None) -> None:
        """Report how far it is; this renews the lease too."""
        self._client.progress(self.id, percent, message, token=self.token)

    def __repr__(self) -> str:
        return f"<SyncJob {self.id} of {self.queue}>"


class SyncClient:
    """A client of the server at ``url``, ``http(s)://host:port`` or ``unix:/path``; close it, or use ``with``.

    Without ``url`` or ``token``, BUNQUEUE_URL and BUNQUEUE_TOKEN of the environment count; ``token=""`` is none.

    Not one of its commands is repeated by itself. After :class:`ConnectionLost` a push may be repeated with
    the same ``job_id``. ``tls`` is the context for ``https://``; without one the certificates of the system
    are trusted.
    """

    def __init__(
        self, url: str | None = None, *, token: str | None = None, tls: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT_S, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        url, token = http_url(given_url(url, DEFAULT_URL)), given_token(token)
        if url.startswith("unix:"):
            transport, url = httpx.HTTPTransport(uds=url.removeprefix("unix:")), "http://localhost"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout, trust_env=False, transport=transport,
            verify=(tls or ssl.create_default_context()) if url.startswith("https") else False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def push(self, queue: str, data: Any = None, **options: Unpack[PushOptions]) -> str:
        """Add a job and return its id; ``options`` as for :meth:`bunqueue_trio.Client.push`.

        Raises:
            TypeError: there is no such option.
            ConnectionLost: its note has the job_id to repeat it with.
        """
        body = push_fields(data, options, lambda: str(uuid_utils.uuid7()))
        try:
            return str(self._ask("POST", f"/queues/{_quoted(queue)}/jobs", body)["id"])
        except ConnectionLost as lost:
            lost.add_note(f"job_id={body['jobId']!r}")
            raise

    def pull(self, queue: str, *, timeout: float = 0, lease: float | None = None) -> SyncJob | None:
        """Take the next job, waiting up to ``timeout`` seconds (at most 60) for one."""
        query: dict[str, Any] = {"timeout": to_ms(timeout)}
        if lease is not None:
            query["lockTtl"] = to_ms(lease)
        reply = self._ask("GET", f"/queues/{_quoted(queue)}/jobs", query=query, waits=timeout)
        return None if reply.get("job") is None else SyncJob(self, reply["job"], reply["token"])

    def ack(self, job_id: str, result: Any = None, *, token: str | None = None) -> None:
        """Complete a job."""
        self._tell(job_id, "ack", token=token, result=result)

    def fail(self, job_id: str, error: str | None = None, *, token: str | None = None) -> None:
        """Report a failed attempt: the job is retried later, or dead."""
        self._tell(job_id, "fail", token=token, error=error)

    def heartbeat(self, job_id: str, *, token: str | None = None, duration: float | None = None) -> None:
        """Renew a lease. Refused when it is lost."""
        self._tell(job_id, "heartbeat", token=token, duration=to_ms(duration))

    def heartbeats(self, ids: Sequence[str], *, tokens: Sequence[str] | None = None) -> list[str]:
        """Renew several leases; return the ids of those that are lost."""
        body = {"ids": ids} if tokens is None else {"ids": ids, "tokens": tokens}
        reply = self._ask("POST", "/jobs/heartbeat-batch", body)
        return [str(job_id) for job_id in reply["data"].get("lostIds", [])]

    def extend_lock(self, job_id: str, token: str, duration: float) -> None:
        """Let the lease of a job end ``duration`` seconds from now."""
        self._tell(job_id, "extend-lock", token=token, duration=to_ms(duration))

    def progress(self, job_id: str, percent: float, message: str | None = None, *, token: str | None = None) -> None:
        """Report how far an active job is; this renews its lease too."""
        self._tell(job_id, "progress", token=token, progress=percent, message=message)

    def get(self, job_id: str) -> dict[str, Any]:
        """Return the sixteen fields of a job as the server has them, times in epoch ms."""
        job: dict[str, Any] = self._ask("GET", f"/jobs/{_quoted(job_id)}")["job"]
        return job

    def state(self, job_id: str) -> str:
        """Return ``waiting``, ``delayed``, ``waiting-children``, ``active``, ``completed`` or ``failed``."""
        return str(self._ask("GET", f"/jobs/{_quoted(job_id)}/state")["state"])

    def result(self, job_id: str) -> Any:
        """Return the result of a job; None while it has none."""
        return self._ask("GET", f"/jobs/{_quoted(job_id)}/result")["result"]

    def cancel(self, job_id: str) -> None:
        """Remove an unfinished job, an active one too."""
        self._ask("DELETE", f"/jobs/{_quoted(job_id)}")

    def stats(self) -> dict[str, Any]:
        """Return the server's statistics."""
        return {name: value for name, value in self._ask("GET", "/stats").items() if name != "ok"}

    def _tell(self, job_id: str, what: str, **fields: Any) -> None:
        body = {name: value for name, value in fields.items() if value is not None}
        self._ask("POST", f"/jobs/{_quoted(job_id)}/{what}", body)

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, query: dict[str, Any] | None = None,
        waits: float = 0,
    ) -> dict[str, Any]:  # fmt: skip
        content = None if body is None else msgspec.json.encode(body)
        try:
            response = self._http.request(method, path, content=content, params=query, timeout=self._timeout + waits)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            if (untrusted := _untrusted(error)) is not None:
                message = f"{self._http.base_url}: {untrusted.verify_message}: its certificate is not trusted"
                raise Refused(400, message) from None
            raise ServerUnavailable(f"{self._http.base_url}: {str(error) or 'no answer'}") from None
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Refused(400, f"{self._http.base_url}: {error}") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise ConnectionLost(f"{method} {path} was sent: {str(error) or type(error).__name__}") from None
        reply = _reply(response)
        if response.status_code == 200 and reply is not None and reply.get("ok") is not False:
            return reply
        if reply is None or not isinstance(reply.get("error"), str):
            raise self._foreign(method, path, response.status_code)
        text = reply["error"]
        if response.status_code in (429, 503):
            after = response.headers.get("retry-after", "")
            if text == NOT_COMMITTED.message:
                raise ConnectionLost(text)  # whether it takes effect is not known
            raise ServerUnavailable(text, float(after) if after.isdigit() else None)
        raise Refused(response.status_code, text)

    def _foreign(self, method: str, path: str, status: int) -> Exception:
        """Return what an answer means that is none of ours: of a proxy, or of who knows what at this address."""
        what = f"{self._http.base_url}: answered {status}, not as a bunqueue server does"
        if status in _PASSED_ON:
            return ConnectionLost(f"{method} {path} was sent, and may have been done: {what}")
        if status >= 500 or status in _PASSING:
            return ServerUnavailable(what)
        return Refused(max(status, 400), f"{what}: is no bunqueue server")


def _reply(response: httpx.Response) -> dict[str, Any] | None:
    """Return the object that an answer is; None when it is none."""
    try:
        reply = response.json()
    except ValueError:  # a page of HTML, or nothing
        return None
    return reply if isinstance(reply, dict) else None


def _untrusted(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return what was wrong with the server's certificate, if that is behind ``error``."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _quoted(name: str) -> str:
    return quote(name, safe="")
