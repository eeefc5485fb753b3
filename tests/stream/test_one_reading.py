"""A path has one reading: however it is written, and whichever lane it comes by, it leads to the same place."""

import re
import socket
from contextlib import closing, suppress
from typing import Any

import pytest

from bunqueue_trio.protocol.routes import ROUTES, Route
from tests.patience import PATIENCE_S
from tests.wire.server import Server, StartServer

pytestmark = pytest.mark.slow  # two servers of their own

SPELLINGS = {
    "plain": lambda path: path,
    "encoded": lambda path: path[:1] + f"%{ord(path[1]):02x}" + path[2:],
    "encoded at the end": lambda path: path[:-1] + f"%{ord(path[-1]):02X}",
    "absolute": lambda path: "http://x" + path,
    "absolute and encoded": lambda path: "HTTP://x:80" + path[:1] + f"%{ord(path[1]):02x}" + path[2:],
}
HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.fixture(scope="module")
def lanes(start_server: StartServer) -> dict[str, Server]:
    """The same server twice: with and without the express lane."""
    return {"express": start_server({}), "Hypercorn": start_server({"EXPRESS": "false"})}


def ask(server: Server, method: str, target: str, headers: bytes = b"", body: bytes = b"") -> tuple[bytes, bytes]:
    """Return the status line, and the beginning of a stream where there is one."""
    request = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode() + headers
    if not headers:
        request += b"Connection: close\r\n"
    with closing(socket.create_connection(server.address, PATIENCE_S)) as sock:
        sock.sendall(request + b"\r\n" + body)
        answer = b""
        while b"\r\n\r\n" not in answer and (data := sock.recv(65536)):
            answer += data
    kind = re.search(rb"(?i)content-type: ([a-z/-]+)", answer)
    return answer.split(b"\r\n")[0], kind[1] if kind else b""


def example(route: Route) -> str:
    return re.sub(r":\w+", "nobody", route.path)


def by_turns() -> list[Any]:
    """Each route in one spelling, each of them as often as the others; in a long check each route in all."""
    others = [name for name in SPELLINGS if name != "plain"]
    return [
        pytest.param(route, spelling, marks=[] if number % len(others) == turn else pytest.mark.long)
        for number, route in enumerate(ROUTES)
        for turn, spelling in enumerate(others)
    ]


@pytest.mark.parametrize(
    ("route", "spelling"), by_turns(), ids=lambda each: each if isinstance(each, str) else f"{each.method} {each.path}"
)
def test_every_route_is_found_however_it_is_written(lanes: dict[str, Server], route: Route, spelling: str) -> None:
    path = example(route)
    answers = {
        (lane, name): ask(server, route.method, SPELLINGS[name](path))
        for lane, server in lanes.items()
        for name in ("plain", spelling)
    }
    if route.path.startswith("/storage/"):
        # One at a time: the second may meet the first.
        assert {status for status, _ in answers.values()} <= {b"HTTP/1.1 200 OK", b"HTTP/1.1 409 Conflict"}, answers
    else:
        assert len(set(answers.values())) == 1, answers
    status, kind = answers["express", spelling]
    assert status != b"HTTP/1.1 404 Not Found" or any(name in route.path for name in (":id", ":name", ":rerun"))
    assert (kind == b"text/event-stream") is (route.target == "events")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", ["/ws", "/ws/queues/q"])
def test_a_websocket_is_found_however_it_is_written(lanes: dict[str, Server], path: str, spelling: str) -> None:
    for server in lanes.values():
        assert ask(server, "GET", SPELLINGS[spelling](path), HANDSHAKE)[0].startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("target", ["?x", "jobs", "x:80", "http:/live", "://x/live", "%2Flive"])
def test_what_is_no_path_is_refused_by_both_lanes(lanes: dict[str, Server], target: str) -> None:
    for server in lanes.values():
        assert ask(server, "GET", target) == (b"HTTP/1.1 400 Bad Request", b"application/json")


@pytest.mark.parametrize(
    "upgrade", [HANDSHAKE, b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"]
)
def test_an_upgrade_that_is_not_wanted_is_ignored_and_the_request_served(
    lanes: dict[str, Server], upgrade: bytes
) -> None:
    for server in lanes.values():
        assert ask(server, "POST", "/queues/q/jobs", upgrade, b'{"data":1}')[0] == b"HTTP/1.1 200 OK"
        assert ask(server, "GET", "/live", upgrade)[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("body", [b"hello"])
def test_a_handshake_with_a_body_is_refused_in_words(lanes: dict[str, Server], body: bytes) -> None:
    for server in lanes.values():
        assert ask(server, "GET", "/ws", HANDSHAKE, body) == (b"HTTP/1.1 400 Bad Request", b"application/json")


def test_a_handshake_without_a_key_is_refused_in_the_documented_format(lanes: dict[str, Server]) -> None:
    handshake = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    for server in lanes.values():
        assert ask(server, "GET", "/ws", handshake) == (b"HTTP/1.1 400 Bad Request", b"application/json")


@pytest.mark.parametrize("lines", [(b"Upgrade", b"keep-alive"), (b"keep-alive", b"Upgrade")], ids=["first", "last"])
def test_a_connection_field_may_come_in_lines(lanes: dict[str, Server], lines: tuple[bytes, bytes]) -> None:
    fields = b"".join(b"Connection: %s\r\n" % line for line in lines) + HANDSHAKE.partition(b"\r\n")[2]
    answers = {ask(server, "GET", "/ws", fields)[0] for server in lanes.values()}
    assert answers == {b"HTTP/1.1 101 Switching Protocols"}


def test_http_2_is_not_spoken(lanes: dict[str, Server]) -> None:
    for server in lanes.values():
        with closing(socket.create_connection(server.address, PATIENCE_S)) as sock:
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_method_is_read_as_it_is_written(lanes: dict[str, Server]) -> None:
    for server in lanes.values():
        assert b" 405 " in ask(server, "get", "/live")[0] or b" 400 " in ask(server, "get", "/live")[0]


@pytest.mark.parametrize(
    ("target", "length", "status"), [("/queues/q/jobs", 99_999_999, b"413"), ("/nowhere", 10, b"404")]
)
def test_nobody_is_asked_to_send_a_body_that_is_not_read(
    lanes: dict[str, Server], target: str, length: int, status: bytes
) -> None:
    for server in lanes.values():
        with closing(socket.create_connection(server.address, PATIENCE_S)) as sock:
            request = f"POST {target} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            sock.sendall(request.encode())
            assert sock.recv(65536).startswith(b"HTTP/1.1 " + status)


PUSH = b'{"data":1}'
LAST = {
    "close": b"Connection: close\r\nContent-Length: 10\r\n\r\n" + PUSH,
    "close among others": b"Connection: foo, Close\r\nContent-Length: 10\r\n\r\n" + PUSH,
    "close after chunks": b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" + PUSH + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("follows", [b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", b"\0 garbage\r\n\r\n", b"x" * 20_000])
@pytest.mark.parametrize("how", LAST)
def test_what_follows_a_last_request_changes_nothing_of_its_answer(
    lanes: dict[str, Server], how: str, follows: bytes
) -> None:
    """The push was committed, and its client told 400."""
    for server in lanes.values():
        answer = everything(server, b"POST /queues/last/jobs HTTP/1.1\r\nHost: x\r\n" + LAST[how] + follows)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b'{"ok":true,"id":' in answer


@pytest.mark.parametrize("length", [b"", b"Content-Length: 0\r\n"])
@pytest.mark.parametrize(
    ("line", "said"),
    [(b"GET /ping", b'"pong":true'), (b"GET /queues/none/jobs", b'"ok":true'), (b"POST /queues/none/pause", b'"ok":true')],
)  # fmt: skip
@pytest.mark.parametrize("follows", [b"", b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_whoever_expects_to_be_asked_for_no_body_gets_the_whole_answer(
    lanes: dict[str, Server], follows: bytes, line: bytes, said: bytes, length: bytes
) -> None:
    request = line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n" + length + b"\r\n"
    for lane, server in lanes.items():
        answer = everything(server, request + follows)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), (lane, answer)
        assert said in answer


def everything(server: Server, request: bytes) -> bytes:
    """Return all that comes until the server closes; it may close while it is still being sent to."""
    answer = b""
    with closing(socket.create_connection(server.address, PATIENCE_S)) as sock, suppress(ConnectionError):
        sock.sendall(request)
        while data := sock.recv(65536):
            answer += data
    return answer
