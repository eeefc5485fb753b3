"""Bytes no client should send: whoever sends them, the others are served."""

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.patience import PATIENCE_S
from tests.wire import raw
from tests.wire.client import Client, done, ok
from tests.wire.server import Server

PUSH = b'{"data":1}'
NOT_SUPPORTED = {b"501", b"505"}  # a method, an encoding, a version: also said of the request


@pytest.fixture(autouse=True)
def _others_are_served(client: Client, queue: str) -> Iterator[None]:
    """Whatever a test does, a well-behaved client can push and pull afterwards."""
    yield
    mine = f"after-{queue}"
    job_id = client.push(mine)
    client.complete(mine, job_id)


def refuses_or_closes(answer: bytes) -> bool:
    """Say whether nothing was answered, or an error that blames the client."""
    if not answer:
        return True
    version, status, *_ = answer.split(b" ", 2)
    return version.startswith(b"HTTP/1.") and (status[:1] == b"4" or status in NOT_SUPPORTED)


RANDOM = random.Random(20)
GARBAGE = {
    "random bytes": RANDOM.randbytes(4096),
    "null bytes": b"\x00" * 4096,
    "high bytes": b"\xff" * 4096,
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + RANDOM.randbytes(500),
    "prose": b"HELLO WORLD\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "no version": b"GET /stats\r\n\r\n",
    "space in target": b"GET /sta ts HTTP/1.1\r\nHost: x\r\n\r\n",
    "control in target": b"GET /sta\x01ts HTTP/1.1\r\nHost: x\r\n\r\n",
    "header without colon": b"GET /stats HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
    "header with null": b"GET /stats HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "header without name": b"GET /stats HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
    "negative length": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}",
    "length in words": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n{}",
    "two lengths": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "bad chunk size": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "negative chunk": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n",
    "header of a megabyte": b"GET /stats HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "endless header name": b"GET /stats HTTP/1.1\r\nHost: x\r\n" + b"a" * 1_000_000,
    "target of a megabyte": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "50,000 headers": b"GET /stats HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_http_is_refused_or_cut_off(server: Server, sent: bytes) -> None:
    answer = raw.what_comes_back(server.address, sent, half_close=False)
    assert refuses_or_closes(answer), answer[:200]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_mutated_request_never_makes_the_server_fail(server: Server, queue: str, seed: int) -> None:
    rng = random.Random(seed)
    request = bytearray(raw.request_bytes("POST", f"/queues/{queue}/jobs", PUSH, "X-Real-IP: 1.2.3.4"))
    for _ in range(rng.randint(1, 6)):
        request[rng.randrange(len(request))] = rng.randrange(256)
    answer = raw.what_comes_back(server.address, bytes(request), half_close=True)
    assert refuses_or_closes(answer) or answer.split(b" ")[1] == b"200", answer[:200]


@pytest.mark.parametrize("cut", [1, 10, 40, -len(PUSH) - 1, -len(PUSH), -1])
def test_a_request_that_ends_too_soon_pushes_nothing(server: Server, client: Client, queue: str, cut: int) -> None:
    request = raw.request_bytes("POST", f"/queues/{queue}/jobs", PUSH)
    answer = raw.what_comes_back(server.address, request[:cut], half_close=True)
    assert refuses_or_closes(answer), answer[:200]
    assert client.pull(queue) is None


def test_a_client_that_resets_its_connection_disturbs_nobody(server: Server, queue: str) -> None:
    request = raw.request_bytes("POST", f"/queues/{queue}/jobs", PUSH)
    for sent in (b"", request[:30], request[:-1], request):
        with raw.connected(server.address) as sock:
            sock.sendall(sent)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.slow
def test_silent_and_slow_clients_do_not_hold_up_others(server: Server, client: Client, queue: str) -> None:
    request = raw.request_bytes("POST", f"/queues/{queue}/jobs", PUSH)
    with ExitStack() as held:
        slow = [held.enter_context(raw.connected(server.address)) for _ in range(100)]
        for number, sock in enumerate(slow):
            sock.sendall(request[: number % len(request)])
        for _ in range(20):
            client.push(f"{queue}-others")
        assert len(client.drain(f"{queue}-others")) == 20
        assert client.pull(queue) is None


def test_a_request_in_single_bytes_is_a_request(server: Server, client: Client, queue: str) -> None:
    with raw.connected(server.address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw.request_bytes("POST", f"/queues/{queue}/jobs", PUSH):
            sock.sendall(bytes([byte]))
        job_id = ok(raw.read_response(sock))["id"]
    assert client.take(queue).id == job_id


@pytest.mark.parametrize("sizes", [[10], [1] * 10, [4, 6]])
def test_a_body_in_chunks_is_a_body(server: Server, client: Client, queue: str, sizes: list[int]) -> None:
    chunks, rest = b"", PUSH
    for size in sizes:
        piece, rest = rest[:size], rest[size:]
        chunks += b"%x\r\n%s\r\n" % (len(piece), piece)
    head = f"POST /queues/{queue}/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    job_id = ok(raw.send(server.address, head.encode() + chunks + b"0\r\n\r\n"))["id"]
    assert client.take(queue).job["data"] == 1
    assert client.state(job_id) == "active"


def test_requests_sent_at_once_are_answered_in_order(server: Server, client: Client, queue: str) -> None:
    path = f"/queues/{queue}/jobs"
    sent = b"".join(raw.request_bytes("POST", path, b'{"data":%d}' % n) for n in range(20))
    sent += raw.request_bytes("GET", path) + raw.request_bytes("GET", "/no/such/path")
    sent += raw.request_bytes("GET", "/ready")
    with raw.connected(server.address) as sock, sock.makefile("rb") as stream:
        sock.sendall(sent)
        answers = [raw.next_response(stream) for _ in range(23)]
    ids = [ok(answer)["id"] for answer in answers[:20]]
    assert ok(answers[20])["job"]["id"] == ids[0]
    assert [answer.status_code for answer in answers[21:]] == [404, 200]
    assert client.drain(queue) == ids[1:]


def test_an_error_leaves_the_connection_usable(server: Server, queue: str) -> None:
    path = f"/queues/{queue}/jobs"
    with raw.connected(server.address) as sock:
        for body, status in [(b"{", 400), (PUSH, 200), (b"[]", 400), (b"", 400), (PUSH, 200)]:
            sock.sendall(raw.request_bytes("POST", path, body))
            assert raw.read_response(sock).status_code == status


def test_a_client_that_asks_before_it_sends_is_answered_to_go_on(server: Server, client: Client, queue: str) -> None:
    request = raw.request_bytes("POST", f"/queues/{queue}/jobs", PUSH, "Expect: 100-continue")
    with raw.connected(server.address) as sock:
        sock.sendall(request.removesuffix(PUSH))
        assert sock.recv(1000).startswith(b"HTTP/1.1 100")
        sock.sendall(PUSH)
        job_id = ok(raw.read_response(sock))["id"]
    assert client.take(queue).id == job_id


@pytest.mark.parametrize("path", ["/ready", "/stats", "/queues/q/jobs", "/no/such/path"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_connection_is_closed_for_a_client_that_will_not_reuse_it(server: Server, path: str, version: str) -> None:
    wish = "Host: x\r\nConnection: close\r\n" if version == "1.1" else ""
    with raw.connected(server.address) as sock, sock.makefile("rb") as stream:
        sock.settimeout(PATIENCE_S)
        sock.sendall(f"GET {path} HTTP/{version}\r\n{wish}\r\n".encode())
        assert raw.next_response(stream).status_code in {200, 404}
        assert stream.read() == b""


def test_an_http_1_0_client_can_push(server: Server, client: Client, queue: str) -> None:
    request = f"POST /queues/{queue}/jobs HTTP/1.0\r\nContent-Length: {len(PUSH)}\r\n\r\n".encode()
    ok(raw.send(server.address, request + PUSH))
    assert client.take(queue).job["data"] == 1


def test_header_names_may_be_written_in_any_case(server: Server, client: Client, queue: str) -> None:
    head = f"POST /queues/{queue}/jobs HTTP/1.1\r\nhOsT: x\r\ncONTENT-lENGTH: {len(PUSH)}\r\n\r\n"
    job_id = ok(raw.send(server.address, head.encode() + PUSH))["id"]
    assert client.take(queue).id == job_id


def test_a_body_nobody_asked_for_is_read_away(server: Server, client: Client, queue: str) -> None:
    job_id = client.push(queue)
    with raw.connected(server.address) as sock:
        for target in (f"/queues/{queue}/jobs", f"/jobs/{job_id}", "/ready"):
            sock.sendall(raw.request_bytes("GET", target, b"GET /no HTTP/1.1\r\n\r\n"))
            ok(raw.read_response(sock))
    done(client.ack(job_id))


@pytest.mark.slow
def test_hundreds_of_connections_are_served(server: Server, queue: str) -> None:
    request = raw.request_bytes("POST", f"/queues/{queue}/jobs", PUSH)
    with ExitStack() as held:
        socks = [held.enter_context(raw.connected(server.address)) for _ in range(300)]
        for sock in socks:
            sock.sendall(request)
        ids = {ok(raw.read_response(sock))["id"] for sock in socks}
    assert len(ids) == 300
