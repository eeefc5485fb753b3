"""The express lane, Hypercorn and a door answer the same bytes to the same bytes."""

import re
import socket
from contextlib import closing
from itertools import count
from typing import BinaryIO, NamedTuple

import pytest

from bunqueue_trio.config import HEADER_BYTES_MAX
from bunqueue_trio.protocol.routes import ROUTES, Route
from tests.patience import PATIENCE_S
from tests.wire.server import Server, StartServer

pytestmark = pytest.mark.slow  # three servers of their own

UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(rb"\b1[0-9]{12}\b")
DATE = re.compile(rb"\r\ndate: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT\r\n", re.IGNORECASE)
VARIES = ("/workers", "/storage", "/health", "/stats", "/heapstats", "/gc", "/prometheus", "/tasks", "/metrics")
"""Pages whose figures are those of a process: their heads are compared."""


class Answer(NamedTuple):
    """What came back: each response whole, and whether the server ended the connection."""

    responses: tuple[tuple[bytes, bytes], ...]
    ended: bool


def head(method: str, target: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *headers, "", ""]).encode("latin-1")


def get(target: str, *headers: str) -> bytes:
    return head("GET", target, *headers)


def post(target: str, body: bytes = b"", *headers: str) -> bytes:
    return head("POST", target, *headers, f"Content-Length: {len(body)}") + body


def chunked(target: str, *chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return head("POST", target, "Transfer-Encoding: chunked") + body


def bare(route: Route) -> list[bytes]:
    """A request to a route that holds nothing but its path; and its body, if it has one, cut short."""
    path = re.sub(r":\w+", "nobody", route.path)
    if route.method == "GET":
        return [get(path)]
    return [head(route.method, path, f"Content-Length: {len(body)}") + body for body in (b"", b"{")]


JOB = b'{"data":{"a":1}}'
PUSH = post("/queues/q/jobs", JOB)

PLAIN: list[bytes] = [
    # every route
    PUSH,
    post("/queues/q/jobs", b'{"data":1,"jobId":"one","priority":5}'),
    get("/jobs/one"),
    get("/jobs/one/state"),
    get("/jobs/one/result"),
    post("/queues/q/jobs/bulk", b'{"jobs":[{"data":1},{"data":2,"delay":60000}]}'),
    get("/queues/q/jobs"),
    post("/jobs/one/heartbeat"),
    post("/jobs/one/progress", b'{"progress":50}'),
    post("/jobs/one/ack", b'{"result":{"x":1}}'),
    post("/jobs/one/ack"),
    get("/jobs/one/result"),
    post("/queues/q/jobs/pull-batch", b'{"count":10}'),
    post("/queues/q/jobs", b'{"data":1,"jobId":"two"}'),
    get("/queues/q/jobs?timeout=10"),
    get("/queues/q/jobs?timeout=30"),
    post("/jobs/two/extend-lock", b'{"token":"no","duration":1000}'),
    post("/jobs/two/release", b'{"token":"no"}'),
    post("/jobs/two/fail", b'{"error":"no"}'),
    head("DELETE", "/jobs/two"),
    head("DELETE", "/jobs/two"),
    post("/jobs/ack-batch", b'{"ids":["one","two"]}'),
    post("/jobs/heartbeat-batch", b'{"ids":["one","two"]}'),
    get("/ping"),
    *map(get, VARIES),
    post("/gc"),
    get("/healthz"),
    get("/live"),
    get("/ready"),
    get("/openapi.json"),
    get("/docs"),
    # ... with nothing there, and with a body that is none
    *(request for route in ROUTES if not isinstance(route.target, str) for request in bare(route)),
    # errors
    get("/"),
    get("/nowhere"),
    get("/queues/q/jobs/"),
    get("//queues/q/jobs"),
    get("/jobs/no"),
    get("/queues/a%20b/jobs"),
    get("/queues/%zz/jobs"),
    get("/queues/%ff/jobs"),
    get("/queues/q/jobs?timeout=x"),
    get("/queues/q/jobs?timeout=60001"),
    get("/queues/q/jobs?timeout=%zz"),
    post("/queues/q/jobs"),
    post("/queues/q/jobs", b"{"),
    post("/queues/q/jobs", b"[]"),
    post("/queues/q/jobs", b'{"data":1,"priority":"x"}'),
    post("/queues/q/jobs", b"\xff"),
    post("/queues/q/jobs", b"[" * 5000),
    post("/nowhere", b"a body that nobody reads"),
    post("/healthz"),
    head("PUT", "/queues/q/jobs", "Content-Length: 3") + b"{} ",
    head("PATCH", "/jobs/one"),
    head("DELETE", "/queues/q/jobs"),
    get("/ws"),
    get("/ws/queues/q"),
    get("/events/queues/a%20b"),
    # HEAD and OPTIONS
    head("HEAD", "/healthz"),
    head("HEAD", "/jobs/one"),
    head("HEAD", "/jobs/no"),
    head("HEAD", "/queues/q/jobs"),
    head("HEAD", "/nowhere"),
    head("HEAD", "/events"),
    head("OPTIONS", "/queues/q/jobs", "Origin: https://x.example", "Access-Control-Request-Method: POST"),
    head("OPTIONS", "/nowhere"),
    head("OPTIONS", "*"),
    # bodies and connections
    chunked("/queues/q/jobs", b'{"data"', b":", b"7}"),
    chunked("/queues/q/jobs", b"{"),
    chunked("/jobs/no/ack"),
    head("POST", "/queues/q/jobs", "Expect: 100-continue", f"Content-Length: {len(JOB)}") + JOB,
    get("/healthz", "Content-Length: 0"),
    get("/jobs/one", "Content-Length: 4") + b"body",
    get("/healthz", "Connection: keep-alive"),
    # odd and legal
    get("/jobs/one", "x-empty:", "x-spaces:    a   ", "X-ODD!#$%&'*+-.^_`|~: 1"),
    get("/jobs/one", "accept: a", "Accept: b", "ACCEPT: c"),
    get("/jobs/one", "x-latin: \xe9"),
    get("/jobs/one?x=1&y"),
    get("/jobs/one?"),
    get("/jobs/%6fne"),
    get("http://x/jobs/one"),
    post("/queues/q/jobs", JOB, "Content-Encoding: gzip"),
    post("/queues/q/jobs", JOB, "Content-Type: text/plain; charset=utf-16"),
    get("/jobs/one", "Origin: https://x.example"),
    get("/jobs/one", "x-long: " + "x" * 10_000),
    get("/jobs/one", "x: " + "x" * (HEADER_BYTES_MAX - len(get("/jobs/one", "x: ")))),
]

TOO_LONG = get("/healthz", "x: " + "x" * (HEADER_BYTES_MAX + 1 - len(get("/healthz", "x: "))))

ENDING: list[bytes] = [
    get("/healthz", "Connection: close"),
    get("/nowhere", "Connection: close"),
    post("/queues/q/jobs", JOB, "Connection: Close"),
    head("HEAD", "/healthz", "Connection: close"),
    head("OPTIONS", "/jobs/one", "Connection: close"),
    b"GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n",
    b"GET /jobs/one HTTP/1.0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n\r\n",  # no Host
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GARBAGE\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nx",
    b"POST /jobs/no/ack HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    b"POST /jobs/no/ack HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /jobs/no/ack HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
    TOO_LONG,
    get("/healthz", "x: " + "x" * 100_000),
    get("/healthz", "x: " + "x" * 300_000),
    get("/healthz", "x-control: a\x00b"),
]

_ASKS = ("Upgrade: websocket", "Connection: Upgrade")
_KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
_VERSION = "Sec-WebSocket-Version: 13"

PLAIN += [
    get("/ws"),
    get("/ws", "Connection: Upgrade", _KEY, _VERSION),
    get("/ws", "Upgrade: websocket", _KEY, _VERSION),
    get("/ws", "Upgrade: h2c", "Connection: Upgrade", _KEY, _VERSION),
    get("/live", *_ASKS, _KEY, _VERSION),
]

ENDING += [
    get("/ws", *_ASKS, _VERSION),
    get("/ws", *_ASKS, _KEY),
    get("/ws", *_ASKS, _KEY, "Sec-WebSocket-Version: 8"),
    get("/ws", *_ASKS, _VERSION, "Sec-WebSocket-Key: short"),
    get("/ws", *_ASKS, _VERSION, _KEY, _KEY),
    get("/ws", *_ASKS, _VERSION, _KEY, "Content-Length: 2") + b"{}",
    get("/ws/queues/a%20b", *_ASKS, _KEY, _VERSION),
    get("/ws", *_ASKS, _KEY, _VERSION).replace(b"HTTP/1.1", b"HTTP/1.0"),
]

DIALOGUES: list[list[bytes]] = [
    [PUSH * 5],
    [PUSH + get("/queues/q/jobs") + get("/nowhere") + head("HEAD", "/healthz") + get("/live")],
    [post("/nowhere", b"x" * 100) + get("/live")],
    [get("/queues/none/jobs?timeout=50") + get("/live")],
    [PUSH + chunked("/queues/q/jobs", JOB) + PUSH],
    [PUSH[:10], PUSH[10:60], PUSH[60:] + PUSH[:5], PUSH[5:]],
    [post("/queues/q/jobs", b"{") + PUSH, get("/live")],
]


@pytest.fixture(scope="module")
def lanes(start_server: StartServer) -> tuple[Server, ...]:
    """The same server, with and without the express lane, and behind a door."""
    return start_server({}), start_server({"EXPRESS": "false"}), start_server({"DOORS": "1"})


def talk(server: Server, pieces: list[bytes], *, responses: int | None) -> Answer:
    """Send ``pieces`` and return this many responses, or all until the server ends the connection."""
    with closing(socket.create_connection(server.address, PATIENCE_S)) as sock, sock.makefile("rb") as stream:
        for piece in pieces:
            sock.sendall(piece)
        methods = re.findall(rb"(?:^|\r\n\r\n|\})([A-Z]+) [^\r\n]+ HTTP/1", b"".join(pieces))
        found: list[tuple[bytes, bytes]] = []
        for number in count():
            if number == responses:
                # The last one has come on a connection that those before it have left open.
                return Answer(tuple(found), ended=False)
            is_head = number < len(methods) and methods[number] == b"HEAD"
            response = read(stream, is_head=is_head)
            if response is None:
                return Answer(tuple(found), ended=True)
            found.append(response)
    raise AssertionError


def read(stream: BinaryIO, *, is_head: bool) -> tuple[bytes, bytes] | None:
    lines = [stream.readline()]
    if lines == [b""]:
        return None
    while lines[-1] not in {b"\r\n", b""}:
        lines.append(stream.readline())
    # Their order means nothing, nor how their names are written.
    first, *fields = lines[:-1]
    text = (
        first
        + b"".join(
            sorted(name.lower() + sign + value for name, sign, value in (field.partition(b":") for field in fields))
        )
        + lines[-1]
    )
    length = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)\r\n", text)
    body = stream.read(int(length[1])) if length and not is_head else b""
    return normal(text), normal(body)


def normal(text: bytes) -> bytes:
    return DATE.sub(b"\r\ndate: D\r\n", TIME.sub(b"T", UUID.sub(b"U", text)))


def compare(one: Answer, other: Answer, request: bytes) -> None:
    if any(b" " + page.encode() + b" " in request for page in VARIES):
        assert [re.sub(rb"content-length: \d+", b"", h) for h, _ in one.responses] == [
            re.sub(rb"content-length: \d+", b"", h) for h, _ in other.responses
        ]
        return
    assert one == other


@pytest.mark.parametrize("request_", PLAIN, ids=lambda r: r[:50].split(b"\r\n")[0].decode("latin-1"))
def test_a_request_and_the_next_on_the_same_connection(lanes: tuple[Server, ...], request_: bytes) -> None:
    responses = 3 if b"Expect" in request_ else 2
    one, *others = (talk(server, [request_, get("/ready")], responses=responses) for server in lanes)
    for other in others:
        compare(one, other, request_)
    assert not one.ended


@pytest.mark.parametrize("request_", ENDING, ids=lambda r: r[:40].decode("latin-1").replace("\r\n", " ").strip())
def test_a_request_that_ends_its_connection(lanes: tuple[Server, ...], request_: bytes) -> None:
    one, *others = (talk(server, [request_], responses=None) for server in lanes)
    assert others == [one, one]
    assert (b" 431 " in one.responses[0][0]) is (len(request_) > HEADER_BYTES_MAX)


@pytest.mark.parametrize("pieces", DIALOGUES, ids=str)
def test_pipelined_and_broken_up(lanes: tuple[Server, ...], pieces: list[bytes]) -> None:
    responses = b"".join(pieces).count(b" HTTP/1.1\r\n")
    one, *others = (talk(server, pieces, responses=responses) for server in lanes)
    assert others == [one, one]


def test_where_the_express_lane_is_kinder(lanes: tuple[Server, ...]) -> None:
    """An empty line before a request, and bytes after the last one: Hypercorn answers 400."""
    answer = talk(lanes[0], [b"\r\n" + get("/live")], responses=1)
    assert answer.responses[0][1] == b"OK"
    answer = talk(lanes[0], [get("/live", "Connection: close") + get("/live")], responses=None)
    assert [body for _, body in answer.responses] == [b"OK"]
