"""A client that says what the contract says: every answer is checked for its form.

`ok` and `refused` are the two shapes an answer may have; the methods of `Client`
are the commands in their plain form.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeVar
from urllib.parse import quote

import httpx

from bunqueue_trio.protocol.faults import FAULTS
from tests.patience import PATIENCE_S
from tests.wire.server import NO_TLS

Body: TypeAlias = dict[str, Any]
T = TypeVar("T")

# Far more than a busy machine needs, and less than the 60 s that tests ask to wait: what took less has not waited.
PROMPT_S = 30.0

JOB_FIELDS = frozenset(
    {"id", "queue", "data", "priority", "createdAt", "runAt", "startedAt"}
    | {"completedAt", "attempts", "maxAttempts", "backoff", "progress", "tags"}
    | {"lifo", "removeOnComplete", "removeOnFail"}
)
DELIVERY_FIELDS = frozenset({"id", "queue", "data", "priority", "createdAt"} | {"attempts", "maxAttempts", "progress"})
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

NOT_ACTIVE = "Job not found or not active"
LOST_TOKEN = "Invalid or expired lock token"
INVALID_BODY = "Invalid JSON body"
BAD_QUEUE = "Queue name contains invalid characters"
DEAD_TOKEN = "01924f5a-9c4d-7abc-b123-456789abcdef"


def ok(response: httpx.Response) -> Body:
    """Return the body of a success, in the form every JSON success has."""
    assert response.status_code == 200, (response.status_code, response.text[:300])
    body = _json_body(response)
    assert body["ok"] is True, body
    return body


def refused(response: httpx.Response, status: int = 400, message: str | None = None) -> str:
    """Return the error text of a refusal, in the one form every refusal has."""
    assert response.status_code == status, (response.status_code, response.text[:300])
    body = _json_body(response)
    assert set(body) - {"code"} == {"ok", "error"}, body
    assert body.get("code", "not-found") in FAULTS, body
    assert body["ok"] is False, body
    error = body["error"]
    assert isinstance(error, str)
    assert error
    assert message in {None, error}, f"{error!r}, wanted {message!r}"
    return error


def _json_body(response: httpx.Response) -> Body:
    assert response.headers["content-type"].split(";")[0] == "application/json"
    assert response.headers["access-control-allow-origin"]
    body = json.loads(response.content)
    assert isinstance(body, dict)
    return body


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def eventually(look: Callable[[], T], wanted: T, within_s: float = PATIENCE_S) -> None:
    """Look again and again until what is seen is what is wanted."""
    deadline = time.monotonic() + within_s
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, f"still {seen!r}, wanted {wanted!r}"
        time.sleep(0.02)


@dataclass(frozen=True)
class Delivery:
    """What a pull gives: the job and the token that proves who holds it."""

    job: Body
    token: str

    @property
    def id(self) -> str:
        job_id: str = self.job["id"]
        return job_id


class Client:
    """One keep-alive connection pool to one server."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.http = httpx.Client(
            base_url=url, headers=dict(headers or {}), trust_env=False, verify=NO_TLS, timeout=70.0
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    # -- any request -----------------------------------------------------------

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def put(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        return self.http.put(path, json=dict(body))

    def post(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        return self.http.post(path, json=dict(body))

    def post_bytes(self, path: str, body: bytes) -> httpx.Response:
        return self.http.post(path, content=body)

    def post_empty(self, path: str) -> httpx.Response:
        return self.http.post(path)

    # -- pushing ---------------------------------------------------------------

    def try_push(self, queue: str, /, **body: object) -> httpx.Response:
        return self.post(f"/queues/{queue}/jobs", body)

    def push(self, queue: str, data: object = None, /, **fields: object) -> str:
        body = ok(self.try_push(queue, data=data, **fields))
        assert set(body) == {"ok", "id"}
        job_id: str = body["id"]
        return job_id

    def push_text(self, queue: str, body: str) -> httpx.Response:
        return self.post_bytes(f"/queues/{queue}/jobs", body.encode())

    def push_bulk(self, queue: str, jobs: list[Body]) -> list[str]:
        body = ok(self.post(f"/queues/{queue}/jobs/bulk", {"jobs": jobs}))
        assert set(body) == {"ok", "ids"}
        ids: list[str] = body["ids"]
        return ids

    # -- pulling ---------------------------------------------------------------

    def try_pull(self, queue: str, timeout: object = None) -> httpx.Response:
        query = "" if timeout is None else f"?timeout={quote(str(timeout))}"
        return self.get(f"/queues/{queue}/jobs{query}")

    def pull(self, queue: str, timeout: int | None = None) -> Delivery | None:
        body = ok(self.try_pull(queue, timeout))
        assert set(body) == {"ok", "job", "token"}
        if body["job"] is None:
            assert body["token"] is None
            return None
        assert set(body["job"]) == DELIVERY_FIELDS, set(body["job"]) ^ DELIVERY_FIELDS
        return Delivery(body["job"], body["token"])

    def take(self, queue: str, timeout: int = 60_000) -> Delivery:
        """Pull a job that must come."""
        delivery = self.pull(queue, timeout)
        assert delivery is not None, "no job came"
        return delivery

    def pull_batch(self, queue: str, **body: object) -> list[Delivery]:
        answer = ok(self.post(f"/queues/{queue}/jobs/pull-batch", body))
        assert set(answer) == {"ok", "jobs", "tokens"}
        assert all(set(job) == DELIVERY_FIELDS for job in answer["jobs"])
        return [Delivery(job, token) for job, token in zip(answer["jobs"], answer["tokens"], strict=True)]

    def lease(self, queue: str, lock_ttl: int) -> Delivery:
        """Pull one job that must be there, with a lease of this many ms."""
        (delivery,) = self.pull_batch(queue, count=1, lockTtl=lock_ttl, timeout=60_000)
        return delivery

    def drain(self, queue: str) -> list[str]:
        """Pull all that is ready now; return the ids in the order they came."""
        ids = []
        while (delivery := self.pull(queue)) is not None:
            ids.append(delivery.id)
        return ids

    # -- one job ---------------------------------------------------------------

    def job(self, job_id: str) -> Body:
        body = ok(self.get(_job(job_id)))
        assert set(body) == {"ok", "job"}
        job: Body = body["job"]
        assert set(job) == JOB_FIELDS, set(job) ^ JOB_FIELDS
        return job

    def is_known(self, job_id: str) -> bool:
        response = self.get(_job(job_id))
        if response.status_code == 200:
            return True
        refused(response, 404, "Job not found")
        return False

    def state(self, job_id: str) -> str:
        body = ok(self.get(_job(job_id, "state")))
        state: str = (body if "state" in body else body["data"])["state"]
        return state

    def ack(self, job_id: str, **body: object) -> httpx.Response:
        return self.post(_job(job_id, "ack"), body)

    def fail(self, job_id: str, **body: object) -> httpx.Response:
        return self.post(_job(job_id, "fail"), body)

    def cancel(self, job_id: str) -> httpx.Response:
        return self.http.delete(_job(job_id))

    def heartbeat(self, job_id: str, **body: object) -> httpx.Response:
        return self.post(_job(job_id, "heartbeat"), body)

    def extend_lock(self, job_id: str, **body: object) -> httpx.Response:
        return self.post(_job(job_id, "extend-lock"), body)

    def release(self, job_id: str, **body: object) -> httpx.Response:
        return self.post(_job(job_id, "release"), body)

    def progress(self, job_id: str, **body: object) -> httpx.Response:
        return self.post(_job(job_id, "progress"), body)

    def complete(self, queue: str, job_id: str, **body: object) -> None:
        """Take the job, which must be the next of its queue, and ack it."""
        delivery = self.take(queue)
        assert delivery.id == job_id, f"{delivery.id} came before {job_id}"
        done(self.ack(job_id, token=delivery.token, **body))

    def bury(self, queue: str, job_id: str, error: str = "no use") -> None:
        """Take the job, which must be next and on its last attempt, and fail it."""
        delivery = self.take(queue)
        assert delivery.id == job_id, f"{delivery.id} came before {job_id}"
        done(self.fail(job_id, token=delivery.token, error=error))

    # -- events ----------------------------------------------------------------

    @contextmanager
    def events(self, queue: str) -> Iterator[Callable[[str, str], Body]]:
        """Listen to a queue; the value waits for one event of one job."""
        with self.http.stream("GET", f"/events/queues/{queue}", timeout=PATIENCE_S) as stream:
            messages = _messages(stream)
            assert next(messages)["connected"] is True

            def wait(event_type: str, job_id: str) -> Body:
                return next(
                    message for message in messages if message["eventType"] == event_type and message["jobId"] == job_id
                )

            yield wait


def done(response: httpx.Response) -> None:
    """Expect the plain success that says nothing more."""
    assert ok(response) == {"ok": True}, response.text


def _job(job_id: str, *parts: str) -> str:
    return "/".join(["/jobs", quote(job_id, safe=""), *parts])


def _messages(stream: httpx.Response) -> Iterator[Body]:
    for line in stream.iter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))
