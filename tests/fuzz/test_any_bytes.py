"""Any bytes at a real server, on both lanes, with a good client beside them."""

import random
from collections.abc import Iterator

import pytest

from tests.fuzz import harness
from tests.wire import raw
from tests.wire.client import Client
from tests.wire.conftest import start_server as start_server
from tests.wire.server import Server, StartServer

pytestmark = pytest.mark.slow  # servers of their own, and silences to be waited for

SEEDS = 150
PARTS = [
    b"POST /queues/q/jobs HTTP/1.1\r\n", b"GET /jobs/x HTTP/1.1\r\n", b"GET /audit HTTP/1.1\r\n", b"Host: x\r\n", b"host: x\r\n",
    b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n", b"\r\n", b"\r\n", b"\r\n\r\n", b'{"data":1}', b'a\r\n{"data":1}\r\n',
    b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", harness.HANDSHAKE, b"\x81\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xe8",
]  # fmt: skip


@pytest.fixture(scope="module", params=["express", "hypercorn"])
def lane(request: pytest.FixtureRequest, start_server: StartServer) -> Iterator[Server]:
    server = start_server({"EXPRESS": "true" if request.param == "express" else "false"})
    yield server
    assert server.terminate() == 0  # a thread writes the log: now it has
    log = server.log_path.read_text(errors="replace")
    assert "Traceback" not in log, log[-3000:]


def test_any_bytes_are_answered_as_documented_or_end_the_connection(lane: Server):
    with Client(lane.url) as good:
        for seed in range(SEEDS):
            rng = random.Random(seed)
            sent = b"".join(rng.choices(PARTS, k=rng.randrange(1, 9)))
            for _ in range(rng.choice((0, 0, 1, 3))):
                at = rng.randrange(len(sent))
                sent = sent[:at] + bytes([rng.randrange(256)]) + sent[at + 1 :]
            came = raw.what_comes_back(lane.address, sent, half_close=True)
            statuses = {int(line.split(b" ")[1]) for line in came.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")}
            assert statuses <= harness.DOCUMENTED | {100, 501}, (sent, came[:300])
            assert 500 not in statuses
            queue = f"good-{seed}"
            job_id = good.push(queue)
            assert good.take(queue).id == job_id
            good.ack(job_id)
