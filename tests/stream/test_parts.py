"""Large answers leave in parts, whatever carries them: nothing that copies, frames or encrypts one does so with all of it at once."""

import json
from typing import Any

import pytest

from bunqueue_trio.config import SESSION_SEND_BYTES
from bunqueue_trio.transports.quart_app import _send_parts
from tests.patience import PATIENCE_S
from tests.wire.server import Server

TEXT = "x" * (3 * SESSION_SEND_BYTES)


@pytest.mark.parametrize("size", [0, 1, SESSION_SEND_BYTES, SESSION_SEND_BYTES + 1, 3 * SESSION_SEND_BYTES])
async def test_a_host_gets_a_large_body_in_parts(size: int):
    body = bytes(i % 251 for i in range(size))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await _send_parts(send, {"type": "http.response.body", "body": body, "more_body": True})
    assert b"".join(message["body"] for message in sent) == body
    assert len(sent) == max(1, -(-size // SESSION_SEND_BYTES))
    assert {(message["type"], message["more_body"]) for message in sent} == {("http.response.body", True)}


@pytest.mark.slow
@pytest.mark.parametrize("express", ["true", "false"])
def test_a_large_reply_over_a_websocket_is_whole(express: str, tmp_path: Any):
    """On the slow lane it comes in several frames, between which pings may be."""
    websockets = pytest.importorskip("websockets.sync.client")
    with (
        Server(tmp_path / "q.db", {"EXPRESS": express, "LOG_LEVEL": "warning"}) as server,
        websockets.connect(
            "ws://{}:{}/ws".format(*server.address),
            max_size=None,
            compression=None,
            proxy=None,
            open_timeout=PATIENCE_S,
        ) as peer,
    ):
        ask(peer, {"cmd": "PUSH", "queue": "q", "jobId": "j", "data": TEXT}, 1)
        reply = ask(peer, {"cmd": "GetJob", "id": "j"}, 2)
        assert f'"data":"{TEXT}"' in reply


def ask(peer: Any, command: dict[str, Any], number: int) -> str:
    """Return the reply to a command; events are passed over."""
    peer.send(json.dumps(command | {"reqId": number}))
    while not (said := str(peer.recv(timeout=PATIENCE_S))).endswith(f'"reqId":{number}}}'):
        pass
    return said
