"""A command begins when its request is there whole, also where nobody needs its body: no lease runs while a client still sends."""

import socket
from contextlib import closing

import pytest

from tests.wire.client import Client
from tests.wire.server import Server, StartServer

pytestmark = pytest.mark.slow  # two servers of their own

FRAMINGS = {
    "a length": (b"Content-Length: 11\r\n", b'{"count":1}'),
    "chunks": (b"Transfer-Encoding: chunked\r\n", b'b\r\n{"count":1}\r\n0\r\n\r\n'),
}
PULLS = {"one": "GET /queues/{}/jobs", "many": "POST /queues/{}/jobs/pull-batch"}


@pytest.fixture(scope="module")
def lanes(start_server: StartServer) -> dict[str, Server]:
    return {"express": start_server({}), "Hypercorn": start_server({"EXPRESS": "false"})}


def until(sock: socket.socket, end: bytes) -> bytes:
    answer = b""
    while end not in answer and (data := sock.recv(65536)):
        answer += data
    return answer


@pytest.mark.parametrize("lane", ["express", "Hypercorn"])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("pull", PULLS)
def test_a_pull_takes_no_job_before_its_body_has_ended(
    lanes: dict[str, Server], lane: str, framing: str, pull: str
) -> None:
    """The server asks for the body, and has taken nothing yet."""
    server, queue = lanes[lane], f"{pull}-{len(framing)}-{lane}"
    how, body = FRAMINGS[framing]
    with Client(server.url) as client, closing(socket.create_connection(server.address, 60)) as sock:
        job_id = client.push(queue)
        head = f"{PULLS[pull].format(queue)} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n".encode()
        sock.sendall(head + how + b"\r\n")
        assert until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        assert client.state(job_id) == "waiting"
        sock.sendall(body)
        answer = until(sock, b"}")
        assert client.state(job_id) == "active"
    assert answer.startswith(b"HTTP/1.1 200")
