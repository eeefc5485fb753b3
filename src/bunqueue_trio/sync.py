"""A client without Trio, over HTTP: for scripts, and for producers in code that is not async.

The same names and seconds as :class:`bunqueue_trio.Client`, as far as HTTP goes. No connection holds jobs
here: what was pulled has a lease of 5 minutes, or as long as ``lease`` says.
"""

import json
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import uuid_utils

from bunqueue_trio.errors import Refused

DEFAULT_URL = "http://localhost:6790"
TIMEOUT_S = 30.0
_SPEC = {
    "priority", "delay", "max_attempts", "backoff", "ttl", "timeout", "unique_key", "job_id", "tags", "group_id",
    "lifo", "remove_on_complete", "remove_on_fail", "durable", "depends_on", "repeat_every", "repeat_limit",
}  # fmt: skip
_SECONDS = {"delay", "backoff", "ttl", "timeout", "repeat_every"}


class ServerUnavailable(Exception):
    """The server's fault, and a passing one: nothing was changed. ``retry_after``: seconds, where it says so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ConnectionLost(Exception):
    """Nobody's fault: the request was sent and not answered, and whether it took effect is unknown."""


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

    def ack(self, result: Any = None) -> None:
        """Complete it."""
        self._client.ack(self.id, result, token=self.token)

    def fail(self, error: str | None = None) -> None:
        """Report a failed attempt."""
        self._client.fail(self.id, error, token=self.token)

    def __repr__(self) -> str:
        return f"<SyncJob {self.id} of {self.queue}>"


class SyncClient:
    """A client of the server at ``url``, ``http(s)://host:port`` or ``unix:/path``; close it, or use ``with``.

    Not one of its commands is repeated by itself. After :class:`ConnectionLost` a push may be repeated with
    the same ``job_id``.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, token: str | None = None, timeout: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        if url.startswith("unix:"):
            transport, url = httpx.HTTPTransport(uds=url.removeprefix("unix:")), "http://localhost"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout, trust_env=False, transport=transport,
            verify=url.startswith("https"),
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

    def push(self, queue: str, data: Any = None, **options: Any) -> str:
        """Add a job and return its id; ``options`` as for :meth:`bunqueue_trio.Client.push`.

        Raises:
            TypeError: there is no such option.
            ConnectionLost: its note has the job_id to repeat it with.
        """
        job_id = options.setdefault("job_id", str(uuid_utils.uuid7()))
        body = {"data": data} | _fields(options)
        try:
            return str(self._ask("POST", f"/queues/{_quoted(queue)}/jobs", body)["id"])
        except ConnectionLost as lost:
            lost.add_note(f"job_id={job_id!r}")
            raise

    def pull(self, queue: str, *, timeout: float = 0, lease: float | None = None) -> SyncJob | None:
        """Take the next job, waiting up to ``timeout`` seconds (at most 60) for one."""
        query: dict[str, Any] = {"timeout": round(timeout * 1000)}
        if lease is not None:
            query["lockTtl"] = round(lease * 1000)
        reply = self._ask("GET", f"/queues/{_quoted(queue)}/jobs", query=query, waits=timeout)
        return None if reply.get("job") is None else SyncJob(self, reply["job"], reply["token"])

    def ack(self, job_id: str, result: Any = None, *, token: str | None = None) -> None:
        """Complete a job."""
        body = {"token": token, "result": result}
        self._ask("POST", f"/jobs/{_quoted(job_id)}/ack", {k: v for k, v in body.items() if v is not None})

    def fail(self, job_id: str, error: str | None = None, *, token: str | None = None) -> None:
        """Report a failed attempt: the job is retried later, or dead."""
        self._ask("POST", f"/jobs/{_quoted(job_id)}/fail", {"token": token, "error": error})

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

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, query: dict[str, Any] | None = None,
        waits: float = 0,
    ) -> dict[str, Any]:  # fmt: skip
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        try:
            response = self._http.request(method, path, content=content, params=query, timeout=self._timeout + waits)
            reply = response.json()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ServerUnavailable(f"{self._http.base_url}: {str(error) or 'no answer'}") from None
        except httpx.TransportError as error:
            raise ConnectionLost(f"{method} {path} was sent: {str(error) or type(error).__name__}") from None
        except ValueError:
            raise Refused(400, f"{self._http.base_url}: is no bunqueue server") from None
        if response.status_code == 200 and isinstance(reply, dict):
            return reply
        text = str(reply.get("error")) if isinstance(reply, dict) else response.text[:200]
        if response.status_code in (429, 503):
            after = response.headers.get("retry-after", "")
            raise ServerUnavailable(text, float(after) if after.isdigit() else None)
        raise Refused(response.status_code, text)


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a push as the fields of its body."""
    if unknown := options.keys() - _SPEC:
        raise TypeError(f"push() has no option {min(unknown)!r}")
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None:
            first, *rest = name.split("_")
            fields[first + "".join(map(str.capitalize, rest))] = round(value * 1000) if name in _SECONDS else value
    every, limit = fields.pop("repeatEvery", None), fields.pop("repeatLimit", None)
    return fields if every is None else fields | {"repeat": {"every": every, "limit": limit}}


def _quoted(name: str) -> str:
    return quote(name, safe="")
