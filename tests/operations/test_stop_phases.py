"""A server stops whatever its clients have left it in: each phase of a connection, and each way to leave it."""

import contextlib
import json
import signal
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.operations.processes import Running, serving, until
from tests.stream.ws import TEXT, frame

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

GRACE_MS = 1500
EACH = 50
WITHIN_S = 60  # a hang is what is looked for; how long it took is printed
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HUGE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"


def closed_window() -> bytes:
    """What a client of HTTP/2 says that asks for /live and never opens its window (RFC 9113, 6.5.2)."""
    settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + b"\x00\x04\x00\x00\x00\x00"
    block = b"\x82\x86\x04\x05/live\x41\x01x"
    headers = struct.pack(">I", len(block))[1:] + b"\x01\x05\x00\x00\x00\x01" + block
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers


PHASES: dict[str, bytes] = {
    "during the head": b"GET /live HT",
    "during the body": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "during a chunk": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "in a waiting pull": b"GET /queues/none/jobs?timeout=50000 HTTP/1.1\r\nHost: x\r\n\r\n",
    "with answers unread": HUGE * 5,
    "with an answer of the other lane unread": HUGE.replace(b" HTTP/1.1", b" HTTP/1.0") + HUGE,
    "with events unread": b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
    "with a WebSocket unread": HANDSHAKE
    + b"".join(frame(TEXT, json.dumps({"cmd": "GetJob", "id": "large"}).encode()) for _ in range(20)),
    "with a WebSocket's pull waiting": HANDSHAKE
    + frame(TEXT, json.dumps({"cmd": "PULL", "queue": "none", "timeout": 50_000}).encode()),
}

END: dict[str, Callable[[socket.socket], object]] = {
    "FIN": lambda sock: sock.shutdown(socket.SHUT_WR),
    "RST": lambda sock: (
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)), sock.close()
    ),
    "silence": lambda sock: None,
}  # fmt: skip


@contextlib.contextmanager
def left(running: Running, sent: bytes) -> Iterator[None]:
    """Leave connections in a phase: a third of them at an end, a third reset, a third open."""
    with contextlib.ExitStack() as stack:
        for n in range(EACH * len(END)):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", running.port))
            sock.sendall(sent)
            list(END.values())[n % len(END)](sock)
        yield


def stop_in_time(running: Running) -> None:
    assert running.stop(within_s=WITHIN_S) == 0, running.log
    assert "Traceback" not in running.log


@pytest.mark.parametrize("express", ["true", "false"], ids=["express", "Hypercorn"])
def test_a_server_stops_in_whatever_phase_it_was_left(tmp_path: Path, express: str) -> None:
    env = {"SHUTDOWN_GRACE_MS": str(GRACE_MS), "EXPRESS": express}
    with serving(tmp_path, env=env) as running, contextlib.ExitStack() as stack:
        with running.client() as client:
            client.post("/queues/large/jobs", json={"data": "x" * 1_000_000, "jobId": "large"})
        for sent in PHASES.values():
            stack.enter_context(left(running, sent))
        stop_in_time(running)


def test_a_second_signal_ends_it_at_once_in_every_phase(tmp_path: Path) -> None:
    with (
        serving(tmp_path, env={"SHUTDOWN_GRACE_MS": "600000"}) as running,
        contextlib.ExitStack() as stack,
    ):
        for sent in PHASES.values():
            stack.enter_context(left(running, sent))
        running.process.send_signal(signal.SIGTERM)
        running.wait_logged("stopping", within_s=WITHIN_S)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WITHIN_S) in (0, 1)


def test_a_half_done_handshake_of_tls_does_not_hold_a_stop(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    hello = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = context.wrap_bio(ssl.MemoryBIO(), hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    env = {"SHUTDOWN_GRACE_MS": str(GRACE_MS), "TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)}
    with (
        serving(tmp_path, env=env, ready=lambda running: "listening" in running.log) as running,
        left(running, hello.read()),
        left(running, b"\x16\x03\x01"),
    ):
        stop_in_time(running)


def test_a_closed_window_of_http_2_does_not_hold_a_stop_under_hypercorn(tmp_path: Path) -> None:
    command = (
        "--worker-class",
        "trio",
        "--bind",
        "127.0.0.1:{port}",
        "--graceful-timeout",
        "1",
        "bunqueue_trio.asgi:app",
    )
    with serving(tmp_path, command=command, module="hypercorn") as running, left(running, closed_window()):
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WITHIN_S) == 0, running.log


@pytest.mark.parametrize("express", ["true", "false"], ids=["express", "Hypercorn"])
def test_nothing_is_left_of_clients_that_are_gone(tmp_path: Path, express: str) -> None:
    with serving(tmp_path, env={"EXPRESS": express}) as running, running.client() as client:
        client.post("/queues/large/jobs", json={"data": "x" * 1_000_000, "jobId": "large"})
        for sent in PHASES.values():
            for _ in range(10):
                with contextlib.closing(socket.create_connection(("127.0.0.1", running.port))) as sock:
                    sock.sendall(sent)
                    END["RST"](sock)

        def leftovers() -> dict[str, float]:
            page = client.get("/prometheus").text
            wanted = ("bunqueue_pollers ", 'bunqueue_connections{kind="ws"}', 'bunqueue_connections{kind="sse"}')
            found = {
                name: float(line.split()[-1]) for line in page.splitlines() for name in wanted if line.startswith(name)
            }
            sockets = 0
            for fd in Path(f"/proc/{running.process.pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed while we look
                    sockets += "socket:" in str(fd.readlink())
            return found | {"sockets": max(0, sockets - 8)}

        until(lambda: not any(leftovers().values()), WITHIN_S, lambda: str(leftovers()))


def test_a_hangup_of_the_terminal_stops_in_order_and_a_log_rotator_changes_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as running, running.client() as client:
        running.process.send_signal(signal.SIGUSR1)
        assert client.get("/live").text == "OK"
        assert running.stop(signal.SIGHUP, within_s=WITHIN_S) == 0
        assert "stopping" in running.log
