"""The phases of a connection in which a client may leave a server, and the ways to leave it there."""

import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterator

EACH = 50
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HUGE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b'{"jobId":"large","data":"' + b"x" * 1_000_000 + b'"}'
"""A job of the queue `large`, which one phase asks for."""


def _text(command: dict[str, object]) -> bytes:
    data = json.dumps(command).encode()
    return bytes([0x81, 0x80 | len(data)]) + bytes(4) + data


PHASES: dict[str, bytes] = {
    "before a request": b"",
    "during the head": b"GET /live HT",
    "after the headers": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
    "during the body": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "during a large body": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    + b"x" * 100_000,
    "during a chunk": b"POST /queues/q/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "in a waiting pull": b"GET /queues/none/jobs?timeout=50000 HTTP/1.1\r\nHost: x\r\n\r\n",
    "waiting for the end of a job": b'POST /jobs/large/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"timeout":50000}',
    "with answers unread": HUGE * 5,
    "with a download unread": b"GET /export/jobs?queue=large HTTP/1.1\r\nHost: x\r\n\r\n" * 5,
    "with an answer of the other lane unread": HUGE.replace(b" HTTP/1.1", b" HTTP/1.0") + HUGE,
    "with events unread": b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
    "with a WebSocket unread": HANDSHAKE + _text({"cmd": "GetJob", "id": "large"}) * 20,
    "during a frame": HANDSHAKE + _text({"cmd": "Ping"})[:4],
    "with a WebSocket's pull waiting": HANDSHAKE + _text({"cmd": "PULL", "queue": "none", "timeout": 50_000}),
}


def handshakes() -> dict[str, bytes]:
    """Return the phases in which a client may leave a server with TLS that has not shown yet that it speaks it."""
    hello = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    return {"in half a handshake of TLS": hello.read(), "in a record of TLS": b"\x16\x03\x01"}


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


END: dict[str, Callable[[socket.socket], object]] = {
    "FIN": lambda sock: sock.shutdown(socket.SHUT_WR),
    "RST": _reset,
    "silence": lambda _: None,
}


@contextlib.contextmanager
def left(port: int, sent: bytes, each: int = EACH) -> Iterator[None]:
    """Leave connections in a phase: a third of them at an end, a third reset, a third open."""
    with contextlib.ExitStack() as stack:
        for n in range(each * len(END)):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.sendall(sent)
            list(END.values())[n % len(END)](sock)
        yield
