"""Who sends no more behind a request, as ``nc -N`` and scripts do, has not hung up: whatever was asked is done, and answered. But for a pull that waits."""

import json
import socket
from typing import Any

import pytest

from tests.stream.two_lanes import client as client
from tests.stream.ws import CLOSE, TEXT, bare, frame
from tests.wire import raw
from tests.wire.client import Client, done, eventually, ok
from tests.wire.server import Server, StartServer


@pytest.fixture(scope="module", params=["express", "slow lane", pytest.param("doors", marks=pytest.mark.thorough)])
def lane(request: pytest.FixtureRequest, start_server: StartServer) -> Server:
    settings = {"express": {}, "slow lane": {"EXPRESS": "false"}, "doors": {"DOORS": "2"}}
    return start_server(settings[request.param])


def ask_half(lane: Server, method: str, target: str, body: Any = None) -> socket.socket:
    said = b"" if body is None else json.dumps(body).encode()
    sock = socket.create_connection(lane.address)
    sock.settimeout(60)
    sock.sendall(raw.request_bytes(method, target, said))
    sock.shutdown(socket.SHUT_WR)
    return sock


def answer(sock: socket.socket) -> dict[str, Any]:
    with sock:
        received = b""
        while piece := sock.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), received[:200]
    value: dict[str, Any] = json.loads(body)
    return value


@pytest.mark.parametrize("what", ["obliterate", "act", "clean"])
def test_what_is_done_in_slices_is_done_to_the_end(lane: Server, client: Client, queue: str, what: str) -> None:
    ok(client.post(f"/queues/{queue}/jobs/bulk", {"jobs": [{"data": n} for n in range(350)]}))
    target, body = {
        "obliterate": (f"/queues/{queue}/obliterate", {}),
        "act": ("/jobs/act", {"filter": {"queue": queue}, "action": "cancel"}),
        "clean": (f"/queues/{queue}/clean", {"state": "waiting", "grace": 0}),
    }[what]
    assert answer(ask_half(lane, "POST", target, body))["count"] == 350


@pytest.mark.parametrize("count", [600, 2000])
def test_a_bulk_push_is_answered_and_need_not_be_repeated(lane: Server, client: Client, queue: str, count: int) -> None:
    said = answer(ask_half(lane, "POST", f"/queues/{queue}/jobs/bulk", {"jobs": [{"data": n} for n in range(count)]}))
    assert len(said["ids"]) == count
    assert ok(client.get(f"/queues/{queue}"))["queue"]["counts"]["waiting"] == count


def test_a_search_is_answered(lane: Server, client: Client, queue: str) -> None:
    client.push(queue, "needle")
    said = answer(ask_half(lane, "GET", f"/jobs?queue={queue}&text=needle"))
    assert len(said["jobs"]) == 1


def test_a_download_is_sent_to_its_end(lane: Server, client: Client, queue: str) -> None:
    ok(client.post(f"/queues/{queue}/jobs/bulk", {"jobs": [{"data": "x" * 100} for _ in range(1000)]}))
    with ask_half(lane, "GET", f"/export/jobs?queue={queue}") as sock:
        received = b""
        while piece := sock.recv(65536):
            received += piece
    assert received.count(b'"data":"xxx') == 1000


@pytest.mark.parametrize("asks", [("GET", "result?timeout=30000", None), ("POST", "wait", {"timeout": 30_000})])
def test_who_waits_for_the_end_of_a_job_hears_of_it(
    lane: Server, client: Client, queue: str, asks: tuple[str, str, Any]
) -> None:
    job_id = client.push(queue, 1)
    assert client.drain(queue) == [job_id]
    method, path, body = asks
    sock = ask_half(lane, method, f"/jobs/{job_id}/{path}", body)
    eventually(lambda: b"bunqueue_waits 1" in client.get("/prometheus").content, True)
    done(client.ack(job_id))
    assert answer(sock)["ok"] is True


def test_an_act_before_a_goodbye_is_done_to_the_end(lane: Server, client: Client, queue: str) -> None:
    ok(client.post(f"/queues/{queue}/jobs/bulk", {"jobs": [{"data": n} for n in range(350)]}))
    act = {"cmd": "ActOnJobs", "filter": {"queue": queue}, "action": "cancel"}
    with bare(lane, f"/ws/queues/{queue}x") as owner:
        owner.sock.sendall(frame(TEXT, json.dumps(act).encode()) + frame(CLOSE, b"\x03\xe8bye"))
        owner.sock.shutdown(socket.SHUT_WR)
        assert owner.reply()["count"] == 350
        assert owner.close_code() == 1000
