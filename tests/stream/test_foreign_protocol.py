"""A client of the original's binary protocol is answered, in that protocol, with what is spoken here."""

import socket
from contextlib import closing

import msgspec
import pytest

from bunqueue_trio.transports.msgpack import SPEAKS, is_msgpack, refusal_in_msgpack
from tests.patience import PATIENCE_S
from tests.wire.server import Server


def frame(message: object) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


@pytest.mark.slow
@pytest.mark.parametrize("req_id", ["r-1", 7, None])
def test_a_frame_gets_one_frame_and_the_end(fresh: Server, req_id: str | int | None) -> None:
    message = {"cmd": "PUSH", "queue": "q", "data": {"x": 1}} | ({} if req_id is None else {"reqId": req_id})
    for _ in range(3):
        with closing(socket.create_connection(fresh.address, PATIENCE_S)) as sock:
            sock.sendall(frame(message))
            answer = b""
            while data := sock.recv(65536):
                answer += data
        assert answer[:4] == len(answer[4:]).to_bytes(4, "big")
        told = msgspec.msgpack.decode(answer[4:])
        assert told == {"ok": False, "error": SPEAKS} | ({} if req_id is None else {"reqId": req_id})
    assert fresh.terminate() == 0  # a thread writes the log: now it has
    assert fresh.log.count("binary protocol") == 1


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1", b"GET /", b"\0\0\0\1\xc0", b"\x16\x03\x01\0\x80"])
def test_what_is_no_frame_is_not_taken_for_one(data: bytes) -> None:
    assert not is_msgpack(data)


@pytest.mark.parametrize(
    "data", [b"\0\0\0\x09\x81\xa5reqI", b"\0\0\0\x02\x81\xc1", frame({"reqId": [1]}), frame({"reqId": {}})]
)
def test_a_frame_that_cannot_be_read_is_answered_all_the_same(data: bytes) -> None:
    assert is_msgpack(data)
    assert msgspec.msgpack.decode(refusal_in_msgpack(data)[4:]) == {"ok": False, "error": SPEAKS}
