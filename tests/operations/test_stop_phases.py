"""A server stops whatever its clients have left it in: each phase of a connection, and each way to leave it."""

import contextlib
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.operations.processes import Running, serving, until
from tests.patience import PATIENCE_S
from trials.lib.phases import END, LARGE, PHASES, handshakes, left

pytestmark = pytest.mark.slow

GRACE_MS = 1500
WITHIN_S = (
    PATIENCE_S  # a hang is what is looked for; how long a stop takes: tests/stream/test_stops.py, trials/bench/stops.py
)


def closed_window() -> bytes:
    """What a client of HTTP/2 says that asks for /live and never opens its window (RFC 9113, 6.5.2)."""
    settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + b"\x00\x04\x00\x00\x00\x00"
    block = b"\x82\x86\x04\x05/live\x41\x01x"
    headers = struct.pack(">I", len(block))[1:] + b"\x01\x05\x00\x00\x00\x01" + block
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers


def stop_in_time(running: Running) -> None:
    assert running.stop(within_s=WITHIN_S) == 0, running.log
    assert "Traceback" not in running.log


def stop_at_once(running: Running) -> None:
    """Send a signal, and a second one when the first has been heard."""
    for _ in range(2):
        running.process.send_signal(signal.SIGTERM)
        running.wait_logged("stopping", within_s=WITHIN_S)
    code = running.process.wait(WITHIN_S)
    assert "second signal" in running.log
    # On a busy machine its last deadline may be over, by its own clock; then it says so.
    assert code == ("it is ended now" in running.log), running.log


@pytest.mark.parametrize("express", ["true", "false"], ids=["express", "Hypercorn"])
def test_a_server_stops_in_whatever_phase_it_was_left(tmp_path: Path, express: str) -> None:
    env = {"SHUTDOWN_GRACE_MS": str(GRACE_MS), "EXPRESS": express}
    with serving(tmp_path, env=env) as running, contextlib.ExitStack() as stack:
        with running.client() as client:
            client.post("/queues/large/jobs", content=LARGE)
        for sent in PHASES.values():
            stack.enter_context(left(running.port, sent))
        stop_in_time(running)


def test_a_second_signal_ends_it_at_once_in_every_phase(tmp_path: Path) -> None:
    with (
        serving(tmp_path, env={"SHUTDOWN_GRACE_MS": "600000"}) as running,
        contextlib.ExitStack() as stack,
    ):
        for sent in PHASES.values():
            stack.enter_context(left(running.port, sent))
        stop_at_once(running)


@pytest.mark.parametrize("stop", [stop_in_time, stop_at_once], ids=["in order", "second signal"])
def test_a_half_done_handshake_of_tls_does_not_hold_a_stop(tmp_path: Path, stop: Callable[[Running], None]) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    grace_ms = GRACE_MS if stop is stop_in_time else 600_000
    env = {"SHUTDOWN_GRACE_MS": str(grace_ms), "TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)}
    with (
        serving(tmp_path, env=env, ready=lambda running: "listening" in running.log) as running,
        contextlib.ExitStack() as stack,
    ):
        for sent in handshakes().values():
            stack.enter_context(left(running.port, sent))
        stop(running)


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
    with serving(tmp_path, command=command, module="hypercorn") as running, left(running.port, closed_window()):
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WITHIN_S) == 0, running.log


@pytest.mark.parametrize("way", ["FIN", "RST"])
@pytest.mark.parametrize("express", ["true", "false"], ids=["express", "Hypercorn"])
def test_nothing_is_left_of_clients_that_are_gone(tmp_path: Path, express: str, way: str) -> None:
    with serving(tmp_path, env={"EXPRESS": express}) as running, running.client() as client:
        client.post("/queues/large/jobs", content=LARGE)
        for sent in PHASES.values():
            for _ in range(10):
                with contextlib.closing(socket.create_connection(("127.0.0.1", running.port))) as sock:
                    sock.sendall(sent)
                    END[way](sock)

        def leftovers() -> dict[str, float]:
            page = client.get("/prometheus").text
            wanted = (
                "bunqueue_pollers ",
                "bunqueue_waits ",
                'bunqueue_connections{kind="ws"}',
                'bunqueue_connections{kind="sse"}',
            )
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
