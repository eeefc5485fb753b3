"""The client without Trio, against a real server process."""

import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import bunqueue_trio
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.replies import StateReply
from bunqueue_trio.sync import ConnectionLost, JobFailed, JobRemoved, ServerUnavailable, SyncClient
from tests.client.proxy import Proxy
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


def test_many_at_once(server: Server, queue: str):
    with SyncClient(server.url) as client:
        assert client.push_many(queue, []) == []
        ids = client.push_many(queue, [{"data": n, "priority": -n, "job_id": f"{queue}-{n}"} for n in range(3)])
        assert ids == [f"{queue}-{n}" for n in range(3)]
        jobs = client.pull_many(queue, 10, timeout=20, lease=20)
        assert [(job.id, job.data) for job in jobs] == [(job_id, n) for n, job_id in enumerate(ids)]
        client.cancel(ids[0])
        assert client.ack_many(ids, [None, "one", "two"], tokens=[job.token for job in jobs]) == ids[:1]
        assert [client.result(job_id) for job_id in ids[1:]] == ["one", "two"]
        assert client.pull_many(queue, 10) == []
        with pytest.raises(TypeError, match="prio"):
            client.push_many(queue, [{"prio": 1}])


ENDS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "completed": ({}, "ack", "result"),
    "completed and removed": ({"remove_on_complete": True}, "ack", None),
    "dead": ({"max_attempts": 1}, "fail", (JobFailed, "bad")),
    "dead and removed": ({"max_attempts": 1, "remove_on_fail": True}, "fail", (JobFailed, "bad")),
    "cancelled": ({}, "cancel", (JobRemoved, "cancelled")),
    "retried and removed": ({"backoff": 0, "remove_on_complete": True}, "fail ack", None),
    "retried and cancelled": ({"backoff": 0}, "fail cancel", (JobRemoved, "cancelled")),
}


class Looking(SyncClient):
    """Tells when it has had a first look at the job that it waits for."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.looked = threading.Event()

    def look(self, job_id: str) -> StateReply:
        state = super().look(job_id)
        self.looked.set()
        return state


@pytest.mark.parametrize("name", ENDS)
def test_wait_tells_each_end(server: Server, queue: str, name: str):
    options, how, expected = ENDS[name]
    with Looking(server.url) as client, SyncClient(server.url) as other, ThreadPoolExecutor() as threads:
        job_id = other.push(queue, **options)
        waiting = threads.submit(client.wait, job_id, 60)
        assert client.looked.wait(60)
        for step in how.split():
            if step == "cancel":
                other.cancel(job_id)
                continue
            job = other.pull(queue, timeout=20)
            assert job is not None
            job.ack("result") if step == "ack" else job.fail("bad")
        if isinstance(expected, tuple):
            with pytest.raises(expected[0], match=expected[1]):
                waiting.result(60)
        else:
            assert waiting.result(60) == expected


def test_wait_ends_in_time(server: Server, queue: str):
    with SyncClient(server.url) as client:
        with pytest.raises(TimeoutError, match=f"of queue {queue} is waiting after 0.1 s"):
            client.wait(client.push(queue), 0.1)
        with pytest.raises(Refused, match="Job not found"):
            client.wait("nobody", 1)


def test_wait_is_not_held_up_by_a_server_that_hangs():
    """A stream of events may be silent for long; where it stands is said at once."""
    patience: list[float] = []

    def hang(request: httpx.Request) -> httpx.Response:
        patience.append(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("timed out")

    with SyncClient("http://x", timeout=2, transport=httpx.MockTransport(hang)) as client:
        with pytest.raises(ConnectionLost, match="GET /events was sent, and not answered within 2 s"):
            client.wait("one", 1)
        with pytest.raises(ConnectionLost), client.events():
            pass
    assert patience == [2, 40]


def test_end_that_is_not_known_is_not_guessed(server: Server, queue: str, monkeypatch: pytest.MonkeyPatch):
    """The job is gone, and of its last event nothing is kept."""
    with SyncClient(server.url) as client:
        job_id = client.push(queue)
        seen = client.look(job_id)
        client.cancel(job_id)
        after = client._newest_event()
        with pytest.raises(ConnectionLost, match="how is not known"):
            client._end_without_record(job_id, seen, after)


def test_events(server: Server, queue: str):
    with SyncClient(server.url) as client:
        with client.events(queue=queue) as everything, client.events("completed", queue=queue) as ends:
            job_id = client.push(queue, "a\u2028b\x85c")
            job = client.pull(queue, timeout=20)
            assert job is not None
            job.ack()
            heard = [next(everything).event_type for _ in range(3)]
            assert heard[:2] == ["pushed", "pulled"]
            assert next(ends).job_id == job_id
        with pytest.raises(ValueError, match="'done' is no event type"):
            client.events("done")
        with pytest.raises(Refused, match="invalid characters"), client.events(queue="no such name!"):
            pass


@pytest.mark.parametrize("name", [".", ".."])
def test_names_of_dots_are_no_folders(server: Server, name: str):
    with SyncClient(server.url) as client, client.events("pushed", queue=name) as events:
        client.push(name, 1, job_id=name)
        assert next(events).job_id == name
        assert client.get(name)["queue"] == name
        client.cancel(name)
        with pytest.raises(Refused, match="Job not found"):
            client.get(name)


def test_events_go_on_after_a_cut(server: Server, queue: str):
    """What happened meanwhile comes, too."""
    with (
        Proxy(server.address) as proxy, SyncClient(proxy.url) as client, SyncClient(server.url) as other,
        client.events("pushed", queue=queue) as events,
    ):  # fmt: skip
        ids = [other.push(queue)]
        assert next(events).job_id == ids[0]
        for _ in range(3):
            proxy.cut()
            ids.append(other.push(queue))
            assert next(events).job_id == ids[-1]
        assert events.missed == 0


@pytest.mark.slow
def test_events_end_with_the_patience(fresh: Server):
    with SyncClient(fresh.url, timeout=2) as client, client.events() as events:
        fresh.kill()
        with pytest.raises(ServerUnavailable, match=r"no events for 2 s"):
            next(events)


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
        again = client.pull(queue, timeout=60)  # the lease ended when it was to
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
def test_waiting_pull_outlasts_the_timeout(server: Server, queue: str):
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
        (200, {}, b'{"status": "up"}', Refused),
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


def test_it_has_what_the_client_on_a_loop_has():
    """But for what is about a connection, which this one does not hold."""

    def public(kind: type) -> dict[str, Any]:
        return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}

    ours, theirs = public(SyncClient), public(bunqueue_trio.Client)
    assert theirs.keys() - ours.keys() == {"connections", "refused", "renew"}
    for name in (theirs.keys() & ours.keys()) - {"events"}:
        assert [*inspect.signature(ours[name]).parameters] == [*inspect.signature(theirs[name]).parameters], name


def test_a_job_is_pushed_to_its_handler(server: Server, queue: str):
    worker = bunqueue_trio.Worker(queue)
    welcome = worker.handler(lambda job: None, name="welcome")
    with SyncClient(server.url) as client:
        client.ping()
        job_id = client.push_to(welcome, "ann", delay="1h")
        assert (client.get(job_id)["queue"], client.get(job_id)["name"], client.get(job_id)["data"]) == (
            queue,
            "welcome",
            "ann",
        )
        with pytest.raises(TypeError, match="is no handler of a worker"):
            client.push_to(print, 1)
