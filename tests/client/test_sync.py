"""The client without Trio, against a real server process."""

import time
from pathlib import Path

import httpx
import pytest

from bunqueue_trio.errors import Refused
from bunqueue_trio.sync import ConnectionLost, ServerUnavailable, SyncClient
from tests.wire.server import Server


def test_round_trip(server: Server, queue: str):
    with SyncClient(server.url) as client:
        job_id = client.push(queue, {"to": "ä"}, priority=2, backoff=0.5, tags=["x"])
        assert client.get(job_id)["backoff"] == 500
        job = client.pull(queue, timeout=60, lease=20)
        assert job is not None
        assert (job.id, job.data, job.priority, job.queue) == (job_id, {"to": "ä"}, 2, queue)
        job.ack({"sent": True})
        assert client.result(job_id) == {"sent": True}
        assert client.state(job_id) == "completed"
        assert client.pull(queue) is None
        assert "stats" in client.stats()


def test_fail_and_cancel(server: Server, queue: str):
    with SyncClient(server.url) as client:
        job_id = client.push(queue)
        job = client.pull(queue)
        assert job is not None
        job.fail("no")
        assert client.state(job_id) == "delayed"
        client.cancel(job_id)
        with pytest.raises(Refused, match="Job not found"):
            client.get(job_id)
        repeating = client.push(queue, 1, repeat_every=60, repeat_limit=3)
        client.cancel(repeating)


def test_keeping_a_job(server: Server, queue: str):
    with SyncClient(server.url) as client:
        job_id = client.push(queue)
        job = client.pull(queue, lease=20)
        assert job is not None
        job.progress(40, "half way")
        assert client.get(job_id)["progress"] == 40
        job.heartbeat()
        job.heartbeat(duration=5)
        job.extend_lock(0.05)
        again = client.pull(queue, timeout=60)  # the lease ended when it was told to
        assert again is not None
        assert again.id == job_id
        for call in (job.heartbeat, lambda: job.extend_lock(1), lambda: job.progress(50)):
            with pytest.raises(Refused):
                call()
        assert client.heartbeats([job_id], tokens=[job.token]) == [job_id]
        assert client.heartbeats([job_id], tokens=[again.token]) == []
        assert client.heartbeats([job_id]) == []
        again.ack()


@pytest.mark.slow
def test_long_poll_outlasts_the_timeout(server: Server, queue: str):
    with SyncClient(server.url, timeout=3) as client:  # how late a busy server may be
        started = time.monotonic()
        assert client.pull(queue, timeout=3.2) is None
        assert time.monotonic() - started >= 3.2


def test_whose_fault(server: Server):
    with SyncClient(server.url) as client:
        with pytest.raises(Refused, match="invalid characters"):
            client.push("no such name!")
        with pytest.raises(TypeError, match="prio"):
            client.push("q", prio=1)
    with SyncClient("http://127.0.0.1:1") as client, pytest.raises(ServerUnavailable):
        client.stats()


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (503, {"retry-after": "2"}, b'{"ok":false,"error":"Server is shutting down"}', ServerUnavailable),
        (429, {}, b'{"ok":false,"error":"Rate limit exceeded"}', ServerUnavailable),
        (200, {}, b"<html>", Refused),
        (404, {}, b"<html>", Refused),
        (301, {"location": "https://x"}, b"", Refused),
        (502, {}, b"<html>", ConnectionLost),
        (504, {}, b"<html>", ConnectionLost),
        (500, {}, b"oops", ConnectionLost),
        (503, {}, b"<html>", ServerUnavailable),
        (503, {}, b"[]", ServerUnavailable),
        (429, {}, b"slow down", ServerUnavailable),
        (200, {"content-encoding": "gzip"}, b"no gzip", ConnectionLost),
        (503, {}, b'{"message": "no upstream"}', ServerUnavailable),
    ],
)
def test_other_answers(status: int, headers: dict[str, str], body: bytes, expected: type[Exception]):
    transport = httpx.MockTransport(lambda request: httpx.Response(status, headers=headers, content=body))
    with SyncClient("http://x", transport=transport) as client, pytest.raises(expected) as caught:
        client.stats()
    assert type(caught.value) is expected


def test_lost_answer_names_the_job(server: Server):
    def lose(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("gone")

    with SyncClient("http://x", transport=httpx.MockTransport(lose)) as client:
        with pytest.raises(ConnectionLost) as caught:
            client.push("q", job_id="mine")
        assert caught.value.__notes__ == ["job_id='mine'"]


def test_token(tmp_path: Path):
    with Server(tmp_path / "q.db", {"AUTH_TOKENS": "secret"}) as server:
        with SyncClient(server.url, token="secret") as client:
            client.push("q")
        with SyncClient(server.url) as client, pytest.raises(Refused, match="Unauthorized"):
            client.push("q")


def test_the_last_attempt_a_wait_of_ones_own_and_a_return(server: Server, queue: str):
    with SyncClient(server.url) as client:
        given_up, later, back = [
            client.push(queue, n, backoff={"type": "fixed", "delay": 0.5, "max_delay": 2}) for n in range(3)
        ]
        assert client.get(back)["backoff"] == {"type": "fixed", "delay": 500, "maxDelay": 2000}
        jobs = [client.pull(queue, timeout=60) for _ in range(3)]
        assert None not in jobs
        jobs[0].fail("no", unrecoverable=True)  # type: ignore[union-attr]
        jobs[1].fail("not now", retry_in=600)  # type: ignore[union-attr]
        jobs[2].release()  # type: ignore[union-attr]
        assert [client.state(job_id) for job_id in (given_up, later, back)] == ["failed", "delayed", "waiting"]
        assert client.pull(queue).id == back  # type: ignore[union-attr]
        client.release(back)
        with pytest.raises(Refused, match="exclude each other"):
            client.fail(back, unrecoverable=True, retry_in=0)
