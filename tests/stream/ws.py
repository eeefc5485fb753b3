"""A WebSocket peer that keeps replies and events apart, and a bare one that may break the protocol."""

import itertools
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from bunqueue_trio.protocol.faults import FAULTS
from tests.patience import PATIENCE_S
from tests.wire.server import Server

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Peer:
    """One connection; what is no reply is kept in ``events``."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)

    def send(self, cmd: str, /, **fields: Any) -> None:
        self.connection.send(json.dumps({"cmd": cmd, **fields}))

    def message(self, timeout: float = PATIENCE_S) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.connection.recv(timeout))
        return value

    def reply(self) -> dict[str, Any]:
        """Return the next message that is no event."""
        while "eventType" in (message := self.message()):
            self.events.append(message)
        return message

    def event(self) -> dict[str, Any]:
        """Return the next event, one that was kept first."""
        if self.events:
            return self.events.pop(0)
        message = self.message()
        assert "eventType" in message, message
        return message

    def ask(self, cmd: str, /, **fields: Any) -> dict[str, Any]:
        """Send a command and return the reply to it, without its reqId."""
        req_id = f"r{next(self._numbers)}"
        self.send(cmd, **fields, reqId=req_id)
        reply = self.reply()
        assert reply.pop("reqId") == req_id, reply
        return reply

    def done(self, cmd: str, /, **fields: Any) -> dict[str, Any]:
        reply = self.ask(cmd, **fields)
        assert reply.pop("ok") is True, reply
        return reply

    def refused(self, cmd: str, /, **fields: Any) -> str:
        reply = self.ask(cmd, **fields)
        assert set(reply) - {"code"} == {"ok", "error"}, reply
        assert reply.get("code", "not-found") in FAULTS, reply
        assert reply["ok"] is False, reply
        error: str = reply["error"]
        return error


@contextmanager
def peer(server: Server, path: str = "/ws", *, quiet: bool = False, **headers: str) -> Iterator[Peer]:
    """Connect; a ``quiet`` peer wants no events."""
    url = f"ws://{server.address[0]}:{server.port}{path}"
    options: Any = {"max_size": None, "proxy": None, "compression": None, "open_timeout": PATIENCE_S}
    with connect(url, additional_headers=headers, close_timeout=1, **options) as connection:
        opened = Peer(connection)
        if quiet:
            opened.done("Unsubscribe")
        yield opened


class Bare:
    """An upgraded socket on which anything can be written."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.stream = sock.makefile("rb")

    def frame(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0
    ) -> None:
        self.sock.sendall(frame(opcode, payload, fin=fin, masked=masked, reserved=reserved))

    def read(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        first, second = self.stream.read(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack(">H", self.stream.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.stream.read(8))
        return first & 15, self.stream.read(length)

    def reply(self) -> dict[str, Any]:
        opcode, payload = self.read()
        while opcode == PING:
            opcode, payload = self.read()
        assert opcode == TEXT, (opcode, payload)
        value: dict[str, Any] = json.loads(payload)
        return value

    def close_code(self) -> int:
        """Return the code of the close frame that comes next."""
        opcode, payload = self.read()
        assert opcode == CLOSE, (opcode, payload[:100])
        (code,) = struct.unpack(">H", payload[:2])
        return int(code)

    def reset(self) -> None:
        """End the connection as a crash does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.close()
        self.sock.close()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    size = len(payload)
    mask_bit = 128 if masked else 0
    if size < 126:
        head = struct.pack(">BB", (128 if fin else 0) | reserved | opcode, mask_bit | size)
    elif size < 65536:
        head = struct.pack(">BBH", (128 if fin else 0) | reserved | opcode, mask_bit | 126, size)
    else:
        head = struct.pack(">BBQ", (128 if fin else 0) | reserved | opcode, mask_bit | 127, size)
    if not masked:
        return head + payload
    key = b"\x37\xfa\x21\x3d"  # any four bytes do; the same in every run
    mask = (key * (size // 4 + 1))[:size]
    return head + key + (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)


@contextmanager
def bare(server: Server, path: str = "/ws/queues/quiet", *, first: bytes = b"") -> Iterator[Bare]:
    """Upgrade a raw socket, which hears of no queue that others use; ``first`` is sent in one piece with the handshake."""
    with closing(socket.create_connection(server.address, PATIENCE_S)) as sock:
        opened = Bare(sock)
        with opened.stream:
            sock.sendall(HANDSHAKE.format(path=path).encode() + first)
            status = opened.stream.readline()
            assert status.startswith(b"HTTP/1.1 101"), status
            while opened.stream.readline() != b"\r\n":
                pass
            yield opened
