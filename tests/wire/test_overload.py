"""Clients that make the server hold much, or hold a connection for nothing: they are refused, the others are served."""

import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Barrier

import pytest

from tests.wire import raw
from tests.wire.client import Client
from tests.wire.server import Server

KIB = 1024
SMALL = {"BODY_MAX_BYTES": str(512 * KIB), "BUFFERS_MAX_BYTES": str(1024 * KIB)}
LARGE = b'{"data":"%s"}' % (b"a" * 400 * KIB)
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(params=["true", "false"], ids=["express", "hypercorn"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "q.db", SMALL | {"EXPRESS": request.param}) as running:
        yield running


def until(condition: Callable[[], object], within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.mark.slow
def test_large_bodies_of_all_clients_together_are_within_the_byte_budget(small: Server, queue: str) -> None:
    unfinished = raw.request_bytes("POST", f"/queues/{queue}/jobs", LARGE)[:-1]
    with ExitStack() as held, Client(small.url) as client:
        for _ in range(2):
            held.enter_context(raw.connected(small.address)).sendall(unfinished)
        time.sleep(0.5)  # they are read
        third = raw.send_while_reading(small.address, lambda sock: sock.sendall(unfinished))
        assert (third.status_code, third.headers["Retry-After"]) == (503, "1")
        assert "too many large requests" in third.json()["error"]
        client.push(queue)  # a small one needs no room
    with Client(small.url) as client:
        until(lambda: raw.request(small.address, "POST", f"/queues/{queue}/jobs", LARGE).status_code == 200)


@pytest.mark.slow
def test_large_answers_that_nobody_reads_are_within_the_byte_budget(small: Server, queue: str) -> None:
    body = b'{"data":"%s"}' % (b"a" * 500 * KIB)
    job_id = raw.request(small.address, "POST", f"/queues/{queue}/jobs", body).json()["id"]
    with ExitStack() as held:
        for _ in range(4):
            sock = held.enter_context(_small_window(small))
            sock.sendall(raw.request_bytes("GET", f"/jobs/{job_id}") * 20)
        time.sleep(0.5)
        answer = raw.request(small.address, "GET", f"/jobs/{job_id}")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert raw.request(small.address, "GET", "/ping").status_code == 200
    until(lambda: raw.request(small.address, "GET", f"/jobs/{job_id}").status_code == 200)


@pytest.mark.slow
def test_a_job_whose_answer_does_not_fit_stays_in_its_queue(small: Server, queue: str) -> None:
    body = b'{"data":"%s"}' % (b"a" * 500 * KIB)
    raw.request(small.address, "POST", f"/queues/{queue}/jobs", body)
    unfinished = raw.request_bytes("POST", f"/queues/{queue}/jobs", LARGE)[:-1]
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(raw.connected(small.address)).sendall(unfinished)
        time.sleep(0.5)
        assert raw.request(small.address, "GET", f"/queues/{queue}/jobs").status_code == 503
    until(lambda: raw.request(small.address, "GET", f"/queues/{queue}/jobs").status_code == 200)


@pytest.mark.slow
def test_a_bulk_pull_takes_no_more_than_its_answer_may_hold(small: Server, queue: str) -> None:
    with Client(small.url) as client:
        ids = [client.push(queue, "x" * 400 * KIB) for _ in range(5)]
        taken = []
        while batch := client.pull_batch(queue, count=100):
            taken += [delivery.id for delivery in batch]
        assert taken == ids


@pytest.mark.slow
def test_websocket_messages_that_never_end_are_bounded(small: Server) -> None:
    unfinished = struct.pack("!BBQ", 0x81, 0x80 | 127, 500 * KIB) + b"\0\0\0\0" + b"a" * 450 * KIB
    with ExitStack() as held:
        for _ in range(2):
            sock = held.enter_context(raw.connected(small.address))
            sock.sendall(HANDSHAKE)
            assert b" 101 " in sock.recv(4096)
            sock.sendall(unfinished)
        time.sleep(0.5)
        with raw.connected(small.address) as third:
            third.sendall(HANDSHAKE)
            assert b" 101 " in third.recv(4096)
            with suppress(ConnectionError):  # it may be cut before it has sent all
                third.sendall(unfinished)
                said = third.recv(4096)
                if small.settings["EXPRESS"] == "true":
                    assert said[2:4] == struct.pack("!H", 1013)
                else:
                    while said:  # a ping; then it is cut
                        said = third.recv(4096)
    finished = struct.pack("!BBQ", 0x81, 0x80 | 127, 500 * KIB) + b"\0\0\0\0" + b"a" * 500 * KIB

    def is_taken() -> bool:
        with raw.connected(small.address) as fourth, suppress(ConnectionError):
            fourth.sendall(HANDSHAKE)
            assert b" 101 " in fourth.recv(4096)
            fourth.sendall(finished)
            return b"Invalid JSON" in fourth.recv(4096)
        return False

    until(is_taken)  # those that left made room


@pytest.mark.slow
def test_pongs_for_a_client_that_reads_none_are_bounded(small: Server) -> None:
    """It is not read any more: what it sends fills the kernel's buffers, and no more."""
    pings = (b"\x89\xfd" + b"\0\0\0\0" + b"p" * 125) * 1000
    with _small_window(small) as sock:
        sock.sendall(HANDSHAKE)
        sock.settimeout(3)
        with pytest.raises(TimeoutError):
            sock.sendall(pings * 400)
        assert raw.request(small.address, "GET", "/ping").status_code == 200


@pytest.mark.slow
def test_a_websocket_is_offered_no_compression(small: Server) -> None:
    """A few KiB would become more than any limit before anybody could look at their size."""
    asking = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    with raw.connected(small.address) as sock:
        sock.sendall(asking)
        answer = sock.recv(4096)
        assert b" 101 " in answer
        assert b"permessage-deflate" not in answer


@pytest.mark.slow
def test_the_body_that_is_sent_to_a_waiting_pull_is_not_kept(tmp_path: Path, queue: str) -> None:
    """In the slow lane, where chunks come; a body of 6 MiB is below the limit, and would be kept for who reads it."""
    poll = f"GET /queues/{queue}/jobs?timeout=3000 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = (b"10000\r\n%s\r\n" % (b"a" * 65536)) * 96
    with Server(tmp_path / "q.db", {}) as server, ExitStack() as held:
        raw.send(server.address, poll.replace(b"3000", b"1") + b"0\r\n\r\n")  # all that is read late is read
        before = _rss_mib(server)
        polls = [held.enter_context(raw.connected(server.address)) for _ in range(2)]
        for sock in polls:
            sock.sendall(poll + chunks)
        assert _rss_mib(server) - before < 7
        for sock in polls:
            sock.sendall(b"0\r\n\r\n")
            assert raw.read_response(sock).json() == {"ok": True, "job": None, "token": None}


REFUSED = {
    b"GET /ping HTTP/1.1\r\n\r\n": (400, "Malformed HTTP request", "malformed-request"),
    b"\xff\xfe\xfd\r\n\r\n": (400, "Malformed HTTP request", "malformed-request"),
    b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n": (
        501,
        "Unknown transfer coding",
        "unknown-transfer-coding",
    ),
    b"GET /ping HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (b"a" * 300_000): (
        431,
        "Request headers too large",
        "headers-too-large",
    ),
}


@pytest.mark.slow
def test_what_is_no_request_is_refused_in_the_documented_words(small: Server) -> None:
    first = raw.request_bytes("GET", "/ping")
    for sent, (status, error, code) in REFUSED.items():
        for before in (b"", first):  # the second request of a connection too
            with raw.connected(small.address) as sock:
                sock.sendall(before)
                if before:
                    assert raw.read_response(sock).status_code == 200
                with suppress(ConnectionError):  # it is refused before it has been sent
                    sock.sendall(sent)
                answer = raw.read_response(sock)
            assert (answer.status_code, answer.json()) == (status, {"ok": False, "error": error, "code": code}), sent[
                :60
            ]
            assert answer.headers["Connection"] == "close"


@pytest.mark.slow
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_has_left_holds_no_descriptor(small: Server, reset: bool) -> None:
    before = descriptors(small)
    with ExitStack() as held:
        for _ in range(20):
            sock = held.enter_context(raw.connected(small.address))
            sock.sendall(raw.request_bytes("GET", "/ping"))
            if not reset:
                raw.read_response(sock)  # else the unread answer makes the kernel say it rudely
        until(lambda: descriptors(small) >= before + 15)  # one of them may be that of the probe
    until(lambda: descriptors(small) <= before + 2)


@pytest.mark.slow
def test_idle_connections_make_room_for_new_ones(tmp_path: Path) -> None:
    """The process may have 100 descriptors, so that 36 connections fit: it never meets that limit itself."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (100, limits[1])
    )  # the server may raise it; CONNECTIONS_MAX says how far
    try:
        running = Server(tmp_path / "q.db", {"CONNECTIONS_MAX": "36", "LOG_LEVEL": "warning"})
        running.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    with closing_server(running) as server, ExitStack() as held:
        idle = [held.enter_context(raw.connected(server.address)) for _ in range(36)]
        for sock in idle:
            sock.sendall(raw.request_bytes("GET", "/ping"))
            assert raw.read_response(sock).status_code == 200
        young = raw.request(server.address, "GET", "/ping")
        assert (young.status_code, young.json()["error"]) == (503, "Too many connections")
        until(lambda: raw.request(server.address, "GET", "/ping").status_code == 200)
        assert server.terminate() == 0  # a thread writes the log: now it has
        assert "EMFILE" not in server.log


@contextmanager
def closing_server(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.kill()


def _rss_mib(server: Server) -> float:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def _small_window(server: Server) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(server.address)
    return sock


def test_who_says_no_more_behind_a_large_request_gets_its_answer(server: Server, queue: str) -> None:
    """Scripts half-close, as `nc -N` does; that is no hanging up."""
    # With a null they are read in parts, one after the other; and are not so large that who waits would wait for long.
    body = b'{"jobs":[%s]}' % b",".join([b'{"data":"%20d","delay":null}' % n for n in range(2500)])
    request = raw.request_bytes("POST", f"/queues/{queue}/jobs/bulk", body)
    together = Barrier(2)

    def ask(_: int) -> list[int]:
        answers = []
        for _ in range(10):
            with raw.connected(server.address) as sock:
                sock.settimeout(60)
                together.wait()
                sock.sendall(request)
                sock.shutdown(socket.SHUT_WR)
                answers.append(raw.read_response(sock, "POST").status_code)
        return answers

    with ThreadPoolExecutor(2) as clients:
        assert list(clients.map(ask, range(2))) == [[200] * 10] * 2
