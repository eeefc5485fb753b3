"""A waiting pull that is taken back over a WebSocket, on both lanes: StopPull, and what it leaves alone."""

import json
from typing import Any

import pytest

from bunqueue_trio.config import SESSION_POLLS_MAX
from tests.stream.two_lanes import client as client
from tests.stream.two_lanes import facts
from tests.stream.two_lanes import lane as lane
from tests.stream.two_lanes import ws as ws
from tests.stream.ws import TEXT, Peer, frame, peer
from tests.wire.client import Client
from tests.wire.server import Server


def both(ws: Peer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the next two replies: that of a StopPull, and that of its pull."""
    replies = [ws.reply(), ws.reply()]
    replies.sort(key=lambda reply: "stopped" not in reply)
    return replies[0], replies[1]


@pytest.mark.parametrize(
    ("cmd", "more", "empty"),
    [("PULL", {}, {"job": None, "token": None}), ("PULLB", {"count": 3}, {"jobs": [], "tokens": []})],
)
def test_a_waiting_pull_is_taken_back(
    ws: Peer, client: Client, queue: str, cmd: str, more: dict[str, Any], empty: dict[str, Any]
) -> None:
    req_id = {"my": [1]}
    ws.send(cmd, queue=queue, timeout=60_000, reqId=req_id, **more)
    ws.done("Ping")
    ws.send("StopPull", reqId=req_id)
    assert both(ws) == ({"ok": True, "stopped": True, "reqId": req_id}, {"ok": True, **empty, "reqId": req_id})
    job_id = client.push(queue, 1)
    assert client.take(queue).id == job_id


def test_a_pull_is_taken_back_in_the_same_breath(ws: Peer, client: Client, queue: str) -> None:
    messages = [{"cmd": "PULL", "queue": queue, "timeout": 60_000, "reqId": 1}, {"cmd": "StopPull", "reqId": 1}]
    ws.connection.socket.sendall(b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages))
    stop, pulled = both(ws)
    assert (stop, pulled) == (
        {"ok": True, "stopped": True, "reqId": 1},
        {"ok": True, "job": None, "token": None, "reqId": 1},
    )
    job_id = client.push(queue, 1)
    assert client.take(queue).id == job_id


def test_a_pull_that_has_its_job_keeps_it(ws: Peer, client: Client, queue: str) -> None:
    ws.send("PULL", queue=queue, timeout=60_000, reqId=1)
    for _ in range(2):  # the first may be answered in the very step that takes the pull in, before it stands in line
        ws.done("Ping")
    messages = [{"cmd": "PUSH", "queue": queue, "data": 7, "reqId": 2}, {"cmd": "StopPull", "reqId": 1}]
    ws.connection.socket.sendall(b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages))
    replies = [ws.reply() for _ in range(3)]
    assert {"ok": True, "stopped": False, "reqId": 1} in replies
    (pulled,) = [reply for reply in replies if "job" in reply]
    assert (pulled["job"]["data"], pulled["reqId"]) == (7, 1)
    assert ws.ask("Release", id=pulled["job"]["id"], token=pulled["token"]) == {"ok": True}
    assert facts(client, pulled["job"]["id"]) == ("waiting", 0, 0)


def test_only_the_pull_that_is_named_is_taken_back(ws: Peer, client: Client, queue: str) -> None:
    for req_id in ("a", "b", 1, "1"):
        ws.send("PULL", queue=queue, timeout=60_000, reqId=req_id)
        ws.done("Ping")
    for unknown in ("c", 2, None):
        ws.send("StopPull", reqId=unknown)
        assert ws.reply() == {"ok": True, "stopped": False, "reqId": unknown}
    ws.send("StopPull")
    assert ws.reply() == {"ok": False, "error": "reqId is required", "code": "invalid-field"}
    for named in ("1", "a"):
        ws.send("StopPull", reqId=named)
        assert both(ws)[1] == {"ok": True, "job": None, "token": None, "reqId": named}
        ws.send("StopPull", reqId=named)
        assert ws.reply() == {"ok": True, "stopped": False, "reqId": named}
    ids = [client.push(queue, n) for n in range(2)]
    assert [(reply["job"]["id"], reply["reqId"]) for reply in (ws.reply(), ws.reply())] == [(ids[0], "b"), (ids[1], 1)]


def test_another_sockets_pull_is_not_taken_back(lane: Server, ws: Peer, client: Client, queue: str) -> None:
    ws.send("PULL", queue=queue, timeout=60_000, reqId="mine")
    ws.done("Ping")
    with peer(lane, quiet=True) as other:
        other.send("StopPull", reqId="mine")
        assert other.reply() == {"ok": True, "stopped": False, "reqId": "mine"}
    job_id = client.push(queue, 1)
    assert ws.reply()["job"]["id"] == job_id


@pytest.mark.slow
def test_more_pulls_than_may_wait_at_once_leave_none_waiting_when_each_is_taken_back(
    lane: Server, ws: Peer, client: Client
) -> None:
    for n in range(SESSION_POLLS_MAX + 10):
        ws.send("PULL", queue="nobody-pushes", timeout=60_000, reqId=n)
        ws.send("StopPull", reqId=n)
        assert both(ws)[0]["stopped"] is True
    assert "bunqueue_pollers 0\n" in client.get("/prometheus").text
