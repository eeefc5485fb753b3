"""How the server stops: in time whatever clients do, with code 0, and nothing that was answered is lost."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.operations.processes import Running, serving

pytestmark = pytest.mark.slow

GRACE_MS = 2000
FOR_EVER_MS = "600000"  # a stop that waits for its end is given up by the test, which waits a minute

Connect: TypeAlias = Callable[[Running], socket.socket]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open plain connections, which end with the test."""
    with ExitStack() as stack:

        def open_one(running: Running) -> socket.socket:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            connection.settimeout(60)
            return connection

        yield open_one


def test_idle_connections_do_not_delay_a_stop(tmp_path: Path, connect: Connect):
    with serving(tmp_path, env={"SHUTDOWN_GRACE_MS": FOR_EVER_MS}) as running:
        idle = [connect(running) for _ in range(20)]
        for connection in idle[:10]:
            connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert running.stop() == 0
        assert all(connection.recv(100) == b"" for connection in idle)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_half_a_request_is_given_the_grace_and_no_more(tmp_path: Path, connect: Connect, signum: signal.Signals):
    with serving(tmp_path, env={"SHUTDOWN_GRACE_MS": str(GRACE_MS)}) as running:
        halves = [
            b"GET /li", b'POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"data"',
            b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        ]  # fmt: skip
        connections = [connect(running) for _ in halves]
        for connection, half in zip(connections, halves, strict=True):
            connection.sendall(half)
        time.sleep(0.2)
        assert running.stop(signum) == 0


def test_a_reader_that_does_not_read_is_given_the_grace_and_no_more(tmp_path: Path, connect: Connect):
    with serving(tmp_path, env={"SHUTDOWN_GRACE_MS": str(GRACE_MS)}) as running, running.client() as client:
        job = client.post("/queues/q/jobs", json={"data": "x" * 5_000_000}).json()["id"]
        connection = connect(running)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET /jobs/{job} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.3)
        assert running.stop() == 0


def test_waiting_pulls_are_answered_empty_at_a_stop(tmp_path: Path):
    with serving(tmp_path, env={"SHUTDOWN_GRACE_MS": FOR_EVER_MS}) as running:
        answers: list[object] = []

        def poll() -> None:
            with running.client() as client:
                answers.append(client.get("/queues/q/jobs?timeout=60000").json())

        polls = [threading.Thread(target=poll) for _ in range(5)]
        for thread in polls:
            thread.start()
        with running.client() as client:
            while "bunqueue_pollers 5\n" not in client.get("/prometheus").text:
                time.sleep(0.02)
        assert running.stop() == 0
        for thread in polls:
            thread.join()
        assert answers == [{"ok": True, "job": None, "token": None}] * 5


def test_streams_of_events_end_at_a_stop(tmp_path: Path):
    with (
        serving(tmp_path, env={"SHUTDOWN_GRACE_MS": FOR_EVER_MS}) as running,
        running.client() as client,
        client.stream("GET", "/events") as events,
    ):
        chunks = events.iter_raw()
        assert b"connected" in next(chunks)
        assert running.stop() == 0
        assert b"".join(chunks) == b""


def test_a_second_signal_ends_the_grace_and_loses_nothing_answered(tmp_path: Path, connect: Connect):
    with serving(tmp_path, env={"SHUTDOWN_GRACE_MS": FOR_EVER_MS}) as running:
        held = connect(running)
        held.sendall(b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        answered, over = [], threading.Event()

        def push() -> None:
            with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)) as connection:
                while not over.is_set():
                    try:
                        connection.request("POST", "/queues/q/jobs", b'{"data":1}')
                        reply = json.loads(connection.getresponse().read())
                    except (OSError, http.client.HTTPException):
                        return
                    if reply["ok"]:
                        answered.append(reply["id"])

        pushers = [threading.Thread(target=push) for _ in range(4)]
        for pusher in pushers:
            pusher.start()
        time.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        running.wait_logged("stopping")
        time.sleep(0.3)
        assert running.process.poll() is None, "half a request keeps it waiting"
        # On a machine with more to do than cores it may not come to its own end within the second.
        assert running.stop() == (1 if "it is ended now" in running.log else 0)
        over.set()
        for pusher in pushers:
            pusher.join()
        assert "second signal" in running.log
    assert len(answered) > 10
    with serving(tmp_path, env={"DATA_PATH": str(running.data_path)}) as again, again.client() as client:
        assert client.get("/health").json()["queues"]["waiting"] >= len(answered)
        assert all(client.get(f"/jobs/{job}").status_code == 200 for job in answered)


def test_a_stop_during_work_answers_what_is_under_way(tmp_path: Path):
    """A pusher that keeps pushing gets an answer or a closed connection, and what was answered is there."""
    with serving(tmp_path) as running, running.client() as client:
        for _ in range(200):
            client.post("/queues/q/jobs", json={"data": 1}).raise_for_status()
        assert running.stop() == 0
    with serving(tmp_path, env={"DATA_PATH": str(running.data_path)}) as again, again.client() as client:
        assert client.get("/health").json()["queues"]["waiting"] == 200
