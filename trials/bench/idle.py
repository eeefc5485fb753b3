"""What idle readers cost: memory each, and how much slower pushes get; and what a command over WebSocket costs.

Starts a server of its own on a temporary file. Fails when the push rate with the idle connections is below
80% of the rate without them.
"""

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from websockets.sync.client import connect

from bunqueue_trio.testing.process import SERVE, ServerProcess

RATE_MIN = 0.8
CONNECTIONS = 1000
WS_REQUEST = (
    b"GET /ws/queues/idle HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SSE_REQUEST = b"GET /events/queues/idle HTTP/1.1\r\nHost: x\r\n\r\n"
PUSH = json.dumps({"cmd": "PUSH", "queue": "busy", "data": {"to": "user@test.com"}})
BODY = b'{"data":{"to":"user@test.com"}}'
WINDOW = 64  # requests under way on the one connection


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def push_over_http(port: int, seconds: float) -> tuple[int, float]:
    """Push over one pipelined connection; return how many, and in how many seconds."""
    request = b"POST /queues/busy/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
    done, begun = 0, time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while time.monotonic() - begun < seconds:
            sock.sendall(request * WINDOW)
            answered = 0
            while answered < WINDOW:
                data = sock.recv(1 << 20)
                if not data:
                    raise RuntimeError("the server hung up")
                answered += data.count(b'{"ok":true')
            done += WINDOW
    return done, time.monotonic() - begun


def push_over_websocket(port: int, seconds: float) -> tuple[int, float]:
    """Push over one pipelined WebSocket; return how many, and in how many seconds."""
    done, begun = 0, time.monotonic()
    with connect(f"ws://127.0.0.1:{port}/ws", proxy=None, compression=None) as ws:
        ws.send('{"cmd":"Unsubscribe"}')
        ws.recv()
        while time.monotonic() - begun < seconds:
            for _ in range(WINDOW):
                ws.send(PUSH)
            for _ in range(WINDOW):
                ws.recv()
            done += WINDOW
    return done, time.monotonic() - begun


def opened(port: int, request: bytes, count: int) -> list[socket.socket]:
    """Open connections, each after the answer to the one before."""
    sockets = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(request)
        if not sock.recv(4096):
            raise RuntimeError("refused")
        sockets.append(sock)
    return sockets


def measure(port: int, pid: int, count: int, seconds: float) -> bool:
    """Print the figures; return whether the rate holds."""
    push_over_http(port, 1)  # warm
    without = report("HTTP, one pipelined connection", push_over_http, port, pid, seconds)
    before = rss_kib(pid)
    streams = opened(port, SSE_REQUEST, count)
    middle = rss_kib(pid)
    websockets = opened(port, WS_REQUEST, count)
    after = rss_kib(pid)
    print(
        f"idle SSE: {(middle - before) / count:.1f} KiB each; idle WebSocket: {(after - middle) / count:.1f} KiB each"
    )
    ratio = report(f"HTTP with {2 * count} idle connections", push_over_http, port, pid, seconds) / without
    for sock in streams + websockets:
        sock.close()
    time.sleep(1)
    again = report("HTTP after they have gone", push_over_http, port, pid, seconds) / without
    report("WebSocket, one pipelined", push_over_websocket, port, pid, seconds)
    print(f"with idle connections {ratio:.0%} of the rate without, after them {again:.0%}")
    return ratio >= RATE_MIN


def report(what: str, push: Callable[[int, float], tuple[int, float]], port: int, pid: int, seconds: float) -> float:
    """Print and return the rate of ``push``."""
    cpu = cpu_s(pid)
    pushed, took = push(port, seconds)
    print(f"{what}: {pushed / took:,.0f}/s, {(cpu_s(pid) - cpu) / pushed * 1e6:.0f} µs CPU each")
    return pushed / took


def run(count: int, seconds: float) -> int:
    """Start a server, measure, stop it; return 1 when the rate does not hold."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder, "q.db"), command=(*SERVE, "--log-level", "warning")) as server,
    ):
        holds = measure(server.port, server.process.pid, count, seconds)
        server.stop()
    return 0 if holds else 1
