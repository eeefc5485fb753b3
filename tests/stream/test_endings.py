"""How a WebSocket ends, on both lanes, and what that means for the jobs it held: back, and whether a stall counts."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.replies import PushReply
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server as InProcess
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http
from tests.patience import PATIENCE_S
from tests.stream.two_lanes import client as client
from tests.stream.two_lanes import facts
from tests.stream.two_lanes import lane as lane
from tests.stream.two_lanes import ws as ws
from tests.stream.ws import CLOSE, HANDSHAKE, PING, TEXT, Bare, bare, frame, peer
from tests.wire import raw
from tests.wire.client import Client, done, eventually, ok
from tests.wire.server import SOURCE, Server, StartServer

Ending = Callable[[Bare], None]


def close(code: int | None) -> Ending:
    return lambda owner: owner.frame(CLOSE, b"" if code is None else struct.pack(">H", code))


ORDERLY = {str(code or "no code"): close(code) for code in (1000, 1001, None, 3000, 4999)}

DROPS: dict[str, Ending] = {str(code): close(code) for code in (1002, 1003, 1007, 1009, 1011)} | {
    "hang up": lambda owner: owner.sock.shutdown(socket.SHUT_RDWR),
    "half a close": lambda owner: owner.sock.shutdown(socket.SHUT_WR),
    "reset": Bare.reset,
    "breaks the protocol": lambda owner: owner.frame(TEXT, b"{}", reserved=0x40),
    "breaks it, and then says goodbye": lambda owner: owner.sock.sendall(
        frame(TEXT, b"{}", reserved=0x40) + frame(CLOSE, b"\x03\xe8")
    ),
    "no text": lambda owner: owner.frame(TEXT, b"\xff"),
}


def pulls(owner: Bare, queue: str, count: int) -> dict[str, Any]:
    owner.frame(TEXT, json.dumps({"cmd": "PULLB", "queue": queue, "count": count}).encode())
    while (message := owner.read())[0] == PING:  # Hypercorn begins with one
        pass
    value: dict[str, Any] = json.loads(message[1])
    return value


@pytest.mark.slow
@pytest.mark.parametrize("how", ORDERLY)
def test_an_orderly_end_gives_back_and_counts_nothing(lane: Server, client: Client, queue: str, how: str) -> None:
    ids = [client.push(queue, n) for n in range(3)]
    with client.events(queue) as wait, bare(lane, f"/ws/queues/{queue}x") as owner:
        pulls(owner, queue, 2)
        ORDERLY[how](owner)
        for job_id in ids[:2]:
            assert wait("retried", job_id)["prev"] == "active"
    assert [facts(client, job_id) for job_id in ids] == [("waiting", 0, 0)] * 3
    assert client.drain(queue) == ids


@pytest.mark.thorough
@pytest.mark.parametrize("count", [1, 300])
@pytest.mark.parametrize("half", [True, False])
def test_what_was_asked_before_a_goodbye_is_replied_to_before_that_is_answered(
    lane: Server, client: Client, queue: str, count: int, half: bool
) -> None:
    """Also where the client says at once that it will send no more. A pull that still waits gets none."""
    asked = [json.dumps({"cmd": "PUSH", "queue": queue, "data": n, "reqId": n}).encode() for n in range(count)]
    waits = json.dumps({"cmd": "PULL", "queue": f"{queue}y", "timeout": 60_000, "reqId": "waits"}).encode()
    said = b"".join(frame(TEXT, text) for text in (*asked, waits)) + frame(CLOSE, b"\x03\xe8bye")
    with bare(lane, f"/ws/queues/{queue}x") as owner:
        owner.sock.sendall(said)
        if half:
            owner.sock.shutdown(socket.SHUT_WR)
        assert [owner.reply()["reqId"] for _ in range(count)] == list(range(count))
        assert owner.close_code() == 1000
        assert owner.stream.read() == b""
    assert len(client.drain(queue)) == count


BROKEN = {
    "2 bytes for a length of 1": b"\x81\xfe\x00\x7d" + b"\x00" * 4 + b"1" * 125,
    "8 bytes for a length of 2": b"\x81\xff" + (65_535).to_bytes(8, "big") + b"\x00" * 4 + b"1" * 65_535,
    "8 bytes for a length of 1": b"\x82\xff" + (2).to_bytes(8, "big") + b"\x00" * 4 + b"{}",
    "a reserved bit": frame(TEXT, b"{}", reserved=0x40),
    "no mask": frame(TEXT, b"{}", masked=False),
    "no such frame": frame(3, b"{}"),
    "a close frame of one byte": frame(CLOSE, b"1"),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("behind", [b"", frame(TEXT, b'{"cmd": "Ping"}'), frame(CLOSE, b"\x03\xe8")])
def test_who_breaks_a_rule_of_frames_gets_a_close_frame_that_says_so(lane: Server, how: str, behind: bytes) -> None:
    with bare(lane) as owner:
        owner.frame(TEXT, b'{"cmd": "Ping"}')
        assert owner.reply()["ok"] is True
        owner.sock.sendall(BROKEN[how] + behind)
        assert owner.close_code() == 1002


@pytest.mark.slow
@pytest.mark.parametrize("how", DROPS)
def test_a_drop_gives_back_and_counts_a_stall(lane: Server, client: Client, queue: str, how: str) -> None:
    ids = [client.push(queue, n) for n in range(3)]
    with client.events(queue) as wait, bare(lane, f"/ws/queues/{queue}x") as owner:
        pulls(owner, queue, 2)
        DROPS[how](owner)
        for job_id in ids[:2]:
            wait("stalled", job_id)
    assert [facts(client, job_id) for job_id in ids] == [("waiting", 0, 1)] * 2 + [("waiting", 0, 0)]
    assert client.drain(queue) == ids


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "target", "body"),
    [("GET", "/health", b""), ("POST", "/queues/{}/jobs", b'{"data":1}'), ("GET", "/nowhere", b"")],
)
def test_who_has_asked_and_says_no_more_is_answered(
    lane: Server, queue: str, method: str, target: str, body: bytes
) -> None:
    asked = raw.request_bytes(method, target.format(queue), body)
    answer = raw.what_comes_back(lane.address, asked, half_close=True)
    assert answer.startswith(b"HTTP/1.1 404" if target == "/nowhere" else b"HTTP/1.1 200")


PULLS = {
    "GET": ("GET", "/queues/{}/jobs?lockTtl=60000&%74imeout={}", b""),
    "POST": ("POST", "/queues/{}/jobs/pull-batch", b'{"count":1,"timeout":%d}'),
}


def ask_and_say_no_more(lane: Server, queue: str, how: str, timeout: int) -> bytes:
    method, target, body = PULLS[how]
    asked = raw.request_bytes(method, target.format(queue, timeout), body % timeout if body else b"")
    return raw.what_comes_back(lane.address, asked, half_close=True)


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [0, 30_000])
@pytest.mark.parametrize("how", PULLS)
def test_a_pull_that_finds_a_job_is_answered_whole(
    lane: Server, client: Client, queue: str, how: str, timeout: int
) -> None:
    job_id = client.push(queue, 0)
    body = json.loads(ask_and_say_no_more(lane, queue, how, timeout).partition(b"\r\n\r\n")[2])
    assert (body["job"] if how == "GET" else body["jobs"][0])["id"] == job_id


@pytest.mark.parametrize("how", PULLS)
def test_a_waiting_pull_ends_when_its_client_says_no_more(lane: Server, client: Client, queue: str, how: str) -> None:
    """It looks like one that has gone: a job that comes would be lost on it."""
    assert ask_and_say_no_more(lane, queue, how, 30_000) == b""
    job_id = client.push(queue, 0)
    assert facts(client, job_id) == ("waiting", 0, 0)


@pytest.mark.slow
def test_what_was_never_sent_counts_no_stall(lane: Server, client: Client, queue: str) -> None:
    """A waiting pull whose client is gone, and one whose answer was still in line behind what nobody reads."""
    with bare(lane, f"/ws/queues/{queue}x") as gone:
        gone.frame(TEXT, json.dumps({"cmd": "PULL", "queue": queue, "timeout": 30_000}).encode())
        pulls(gone, f"{queue}-empty", 1)  # so that it waits by now
        gone.reset()
    job_id = client.push(queue, "x")
    eventually(lambda: ok(client.get("/health"))["connections"]["ws"], 0)
    assert facts(client, job_id) == ("waiting", 0, 0)
    large = client.push(f"{queue}-large", "x" * 7_500_000)  # more than the kernel takes, not more than the line
    with bare(lane, f"/ws/queues/{queue}x") as owner:
        owner.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        owner.frame(TEXT, json.dumps({"cmd": "GetJob", "id": large}).encode())
        owner.frame(TEXT, json.dumps({"cmd": "PULL", "queue": queue}).encode())
        eventually(lambda: client.state(job_id), "active")
        owner.reset()
    eventually(lambda: client.state(job_id), "waiting")
    assert facts(client, job_id) == ("waiting", 0, 0)
    done(client.cancel(large))


def pull_frame(timeout_ms: int) -> bytes:
    return frame(TEXT, json.dumps({"cmd": "PULL", "queue": "q", "timeout": timeout_ms}).encode())


class Near:
    """A socket to a server in this process, so that a test can choose what happens in one step."""

    def __init__(self, server: InProcess, http: Http, nursery: trio.Nursery) -> None:
        self.core = server.core
        self.server = server
        self.http = http
        self._ours, theirs = socket.socketpair()
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._ours))
        nursery.start_soon(http.serve, trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))

    async def open(self) -> None:
        await self.stream.send_all(HANDSHAKE.format(path="/ws").encode())
        assert b" 101 " in await self.stream.receive_some()

    async def pull(self, timeout_ms: int) -> None:
        await self.open()
        await self.stream.send_all(pull_frame(timeout_ms))

    def push(self) -> str:
        reply = self.core.begin(c.Push(queue="q", data=c.Raw(b"1"))).reply
        assert isinstance(reply, PushReply)
        return reply.id

    async def until(self, look: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not look():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)

    def leave(self, last: bytes = b"") -> None:
        self._ours.sendall(last)
        self.stream.socket.close()

    async def ended(self, job_id: str) -> tuple[str, int]:
        await self.until(lambda: not self.http._connections)
        job = self.server.engine.jobs[job_id]
        return job.state.value, job.stalls


@pytest.fixture
async def near(nursery: trio.Nursery) -> AsyncIterator[Callable[[], Near]]:
    async def transport(server: InProcess, *, task_status: trio.TaskStatus[list[str]]) -> None:
        task_status.started([])
        await server.stop.wait()

    server = InProcess(Settings(), MemoryStore(), Clock())
    await nursery.start(serve, server, [transport])
    http = Http(server, nursery, express=True)
    yield lambda: Near(server, http, nursery)
    nursery.cancel_scope.cancel()


async def test_a_job_that_came_as_its_client_had_gone_counts_no_stall(near: Callable[[], Near]) -> None:
    for _ in range(20):  # reader and writer hear of it in any order
        client = near()
        await client.pull(60_000)
        await client.until(lambda core=client.core: core.pulls_waiting == 1)  # type: ignore[misc]
        client.leave()
        job_id = client.push()  # to the pull that still waits
        assert await client.ended(job_id) == ("waiting", 0)
        await client.core.execute(c.Cancel(id=job_id))


async def test_a_job_for_who_asked_and_left_counts_no_stall(near: Callable[[], Near]) -> None:
    for _ in range(20):
        client = near()
        job_id = client.push()
        await client.open()
        client.leave(pull_frame(0))
        assert await client.ended(job_id) == ("waiting", 0)
        await client.core.execute(c.Cancel(id=job_id))


@pytest.mark.parametrize(("said", "stalls"), [(b"\x03\xe8", 0), (b"\x03\xf1", 1)])
async def test_a_last_word_counts_though_nothing_can_be_sent_any_more(
    near: Callable[[], Near], said: bytes, stalls: int
) -> None:
    for _ in range(20):
        client = near()
        job_id = client.push()
        await client.pull(0)
        await client.until(lambda client=client, job_id=job_id: client.server.engine.jobs[job_id].state == "active")  # type: ignore[misc]
        await client.stream.receive_some()
        client.leave(frame(CLOSE, said))
        other = client.push()  # of which it would hear
        assert await client.ended(job_id) == ("waiting", stalls)
        for each in (job_id, other):
            await client.core.execute(c.Cancel(id=each))


# --- poison ---------------------------------------------------------------------------------------

WORKER = """
import json, os, sys, urllib.request
url, queue = sys.argv[1:3]
body = json.dumps({"count": 1, "timeout": 10_000, "lockTtl": 50}).encode()
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/queues/{queue}/jobs/pull-batch", body).read()
os.kill(os.getpid(), 9)
"""

TRIO_WORKER = """
import os, sys
import trio
from bunqueue_trio import Worker

worker = Worker(sys.argv[2], sys.argv[1])

@worker.handler
async def die(job):
    os.kill(os.getpid(), 9)

trio.run(worker.run)
"""


def runs(script: str, *arguments: str) -> int:
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, timeout=PATIENCE_S, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("script", [WORKER, TRIO_WORKER], ids=["HTTP lease", "WebSocket"])
def test_a_job_that_kills_its_workers_is_dead_after_the_fourth(
    lane: Server, client: Client, queue: str, script: str
) -> None:
    job_id = client.push(queue, "poison")
    for stalls in range(1, 5):
        assert client.state(job_id) == "waiting"
        assert runs(script, lane.url, queue) == -signal.SIGKILL
        eventually(lambda: facts(client, job_id), ("failed" if stalls == 4 else "waiting", 0, stalls))
    assert ok(client.get(f"/jobs/{job_id}/state"))["error"] == "Job stalled 4 times"


LEAVING = """
import sys
import threading
import time
import trio
from bunqueue_trio import Client, Worker

url, queue, how = sys.argv[1:4]
worker = Worker(queue, url, grace=0.1)

@worker.handler
async def hold(job):
    if how == "stops":
        worker.stop()
    elif how == "cancelled":
        scope.cancel()
    await trio.sleep(60)

scope = trio.CancelScope()

async def main():
    if how == "client":
        async with Client(url) as client:
            assert await client.pull(queue, timeout=10)
        return
    with scope:
        await worker.run()

trio.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stops", "cancelled", "client"])
def test_our_own_clients_say_goodbye(lane: Server, client: Client, queue: str, how: str) -> None:
    job_id = client.push(queue, 1)
    assert runs(LEAVING, lane.url, queue, how) == 0
    eventually(lambda: facts(client, job_id), ("waiting", 0, 0))
    assert client.take(queue).id == job_id


# --- the server stops -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("express", ["true", "false"])
def test_a_socket_that_never_pauses_does_not_hold_up_a_stop(start_server: StartServer, express: str) -> None:
    server = start_server({"EXPRESS": express, "SHUTDOWN_GRACE_MS": "100000"})
    push, over = frame(TEXT, b'{"cmd":"PUSH","queue":"q","data":1}'), threading.Event()
    with bare(server) as producer:
        producer.frame(TEXT, b'{"cmd":"Unsubscribe"}')
        answered: list[bool] = []

        def send() -> None:
            with contextlib.suppress(OSError):
                while not over.is_set():
                    producer.sock.sendall(push)

        def receive() -> None:
            with contextlib.suppress(OSError, struct.error, ValueError):
                while (message := producer.read())[0] != CLOSE:
                    answered.append(message[0] == TEXT and b'"id"' in message[1])
            over.set()
            with contextlib.suppress(OSError):
                producer.frame(CLOSE, b"\x03\xe9")

        threads = [threading.Thread(target=what) for what in (send, receive)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(answered) > 100, True)
        assert server.stop(within_s=120) == 0
        assert "the grace is over" not in server.log
        for thread in threads:
            thread.join()
    server.start()
    with Client(server.url) as client:
        assert ok(client.get("/health"))["queues"]["waiting"] >= sum(answered)


def test_the_handshake_says_how_long_a_message_may_be(lane: Server) -> None:
    with peer(lane) as ws:
        assert ws.connection.response is not None
        assert ws.connection.response.headers["X-Message-Max"] == str(10 * 1024 * 1024)
