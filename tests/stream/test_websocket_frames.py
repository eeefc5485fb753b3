"""The WebSocket, byte by byte: size of messages, fragments, pings, closes, and what breaks the protocol."""

import json
import socket
import uuid
from typing import Any

import pytest

from tests.stream.quiet_peer import ws as ws
from tests.stream.ws import CLOSE, PING, PONG, TEXT, Peer, bare, frame, peer
from tests.wire.client import Client, eventually
from tests.wire.server import Server, StartServer

# --- the protocol ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_message_too_big_is_1009_and_nobody_else_is_disturbed(start_server: StartServer) -> None:
    server = start_server({"BODY_MAX_BYTES": "2000"})
    with peer(server, quiet=True) as other, bare(server) as big:
        fits = json.dumps({"cmd": "Ping", "pad": "x" * 2000})[:1999].encode()
        big.frame(TEXT, fits)
        assert big.reply() == {"ok": False, "error": "Invalid JSON", "code": "invalid-json"}
        big.frame(TEXT, b"x" * 2001)
        assert big.close_code() == 1009
        with bare(server) as pieces:
            for n in range(3):
                pieces.frame(TEXT if n == 0 else 0, b"x" * 900, fin=False)
            assert pieces.close_code() == 1009
        assert other.ask("Ping")["ok"] is True


@pytest.mark.slow
def test_a_message_of_ten_mebibytes_is_fine(server: Server, ws: Peer, queue: str) -> None:
    payload = "x" * (10 * 1024 * 1024 - 200)
    ws.done("PUSH", queue=queue, data=payload, removeOnComplete=True)
    pulled = ws.done("PULL", queue=queue)
    assert pulled["job"]["data"] == payload
    ws.done("ACK", id=pulled["job"]["id"])


def test_fragments_are_one_message(server: Server) -> None:
    message = json.dumps({"cmd": "Nope é", "reqId": "ü"}, ensure_ascii=False).encode()
    with bare(server) as socket_:
        for n in range(len(message)):
            if n == 5:
                socket_.frame(PING, b"between")
            socket_.frame(TEXT if n == 0 else 0, message[n : n + 1], fin=False)
        socket_.frame(0, b"", fin=True)
        assert socket_.read() == (PONG, b"between")
        assert socket_.reply() == {
            "ok": False,
            "error": "Unknown command: Nope é",
            "code": "unknown-command",
            "reqId": "ü",
        }
        socket_.frame(TEXT, b'{"cmd":', fin=False)
        socket_.frame(0, b'"Ping"}')
        assert socket_.reply()["ok"] is True


def test_a_frame_that_comes_with_the_handshake_is_not_lost(server: Server) -> None:
    with bare(server, first=frame(TEXT, b'{"cmd":"Ping","reqId":1}')) as socket_:
        assert socket_.reply()["reqId"] == 1


def test_a_frame_byte_by_byte(server: Server) -> None:
    with bare(server) as socket_:
        for byte in frame(TEXT, b'{"cmd":"Ping"}'):
            socket_.sock.sendall(bytes([byte]))
        assert socket_.reply()["ok"] is True


def test_a_ping_is_answered(server: Server) -> None:
    with bare(server) as socket_:
        socket_.frame(PING, b"hello")
        assert socket_.read() == (PONG, b"hello")


@pytest.mark.parametrize("payload", [b"\xff", b'{"cmd":"\xc3"}', b"\xed\xa0\x80"])
def test_text_that_is_not_utf_8_is_1007(server: Server, payload: bytes) -> None:
    with bare(server) as socket_:
        socket_.frame(TEXT, payload)
        assert socket_.close_code() == 1007


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b'{"cmd":"Ping"}', masked=False), 1002),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 1002),
        (b"\xff" * 100, 1002),
        (frame(3, b""), 1002),
        (frame(TEXT, b"{}", reserved=64), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(0, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(CLOSE, b"\x03\xe8"), 1000),
        (frame(CLOSE, b"\x03\xe8bye"), 1000),
        (frame(CLOSE), 1005),
    ],
)
def test_what_breaks_the_protocol_ends_that_socket_alone(server: Server, ws: Peer, sent: bytes, code: int) -> None:
    with bare(server) as broken:
        broken.sock.sendall(sent)
        opcode, payload = broken.read()
        assert opcode == CLOSE
        assert (int.from_bytes(payload[:2]) if payload else 1005) == code
        broken.sock.shutdown(socket.SHUT_WR)
        assert broken.stream.read() == b""
    assert ws.ask("Ping")["ok"] is True


def test_commands_before_a_close_are_carried_out(server: Server, client: Client, queue: str) -> None:
    push = frame(TEXT, json.dumps({"cmd": "PUSH", "queue": queue, "data": 1}).encode())
    with bare(server) as socket_:
        socket_.sock.sendall(push * 3 + frame(CLOSE, b"\x03\xe8"))
        while socket_.read()[0] != CLOSE:
            pass
    assert len(client.drain(queue)) == 3


def test_frames_after_a_close_are_not_carried_out(server: Server, client: Client, queue: str) -> None:
    push = frame(TEXT, json.dumps({"cmd": "PUSH", "queue": queue, "data": 1}).encode())
    with bare(server) as socket_:
        socket_.sock.sendall(frame(CLOSE, b"\x03\xe8") + push)
        while socket_.read()[0] != CLOSE:
            pass
    assert client.drain(queue) == []


@pytest.mark.slow
def test_a_hundred_peers_that_crash_leave_nothing(start_server: StartServer) -> None:
    fresh = start_server({"STALLS_MAX": "1000"})
    with Client(fresh.url) as client:
        a_hundred_crash(fresh, client)


def a_hundred_crash(fresh: Server, fresh_client: Client) -> None:
    for n in range(100):
        with bare(fresh, "/ws") as crash:
            command: dict[str, Any] = {"cmd": "PULL", "queue": "q", "timeout": 30_000 * (n % 2)}
            fresh_client.push("q", uniqueKey=str(uuid.uuid4()))
            crash.frame(TEXT, json.dumps(command).encode())
            crash.reset()
    eventually(lambda: fresh_client.get("/health").json()["connections"]["ws"], 0)
    eventually(lambda: fresh_client.get("/health").json()["queues"]["active"], 0)
    assert len(fresh_client.drain("q")) == 100
