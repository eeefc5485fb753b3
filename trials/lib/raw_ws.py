"""WebSocket load: one connection, a fixed number of commands in flight, frames made once and only counted on return.

The `websockets` library makes the handshake. After that a parser that builds no objects counts the replies: a full one
would cost more than the servers and would measure itself.
"""

import socket
import time

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from trials.lib.raw_http import TIMEOUT_S, push_body

OK = b'{"ok":true'
_QUIET = "/ws/queues/nobody-pushes-here"
"""A socket that gets no events of the queue that is measured: replies only, on both servers."""


class UpgradeRefusedError(Exception):
    """The server does not speak WebSocket (yet)."""


class WebSocket:
    """A connection that sends the same text again and again."""

    def __init__(self, host: str, port: int, message: bytes) -> None:
        """Connect; `message` is the command to send.

        Raises:
            UpgradeRefusedError: the server answered something else.
        """
        client = ClientProtocol(parse_uri(f"ws://{host}:{port}{_QUIET}"))
        self._socket = socket.create_connection((host, port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client.send_request(client.connect())
            self._socket.sendall(b"".join(client.data_to_send()))
            while client.state is State.CONNECTING and client.handshake_exc is None:
                data = self._socket.recv(1 << 16)
                if not data:
                    client.receive_eof()
                    break
                client.receive_data(data)
            if client.state is not State.OPEN:
                raise UpgradeRefusedError(str(client.handshake_exc or "the connection was closed"))
        except BaseException:
            self._socket.close()
            raise
        self._frame = Frame(Opcode.TEXT, message).serialize(mask=True)
        self._read = b""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def run(self, in_flight: int, seconds: float) -> tuple[int, int, float]:
        """Keep `in_flight` commands on their way for `seconds`; return good replies, bad ones, and the seconds taken."""
        good = bad = 0
        begun = time.perf_counter()
        deadline = begun + seconds
        waiting = in_flight
        self._socket.sendall(self._frame * in_flight)
        while waiting:
            fresh_good, fresh_bad = self._replies()
            good, bad = good + fresh_good, bad + fresh_bad
            waiting -= fresh_good + fresh_bad
            if time.perf_counter() < deadline:
                self._socket.sendall(self._frame * (fresh_good + fresh_bad))
                waiting += fresh_good + fresh_bad
        return good, bad, time.perf_counter() - begun

    def _replies(self) -> tuple[int, int]:
        """Read once and count the replies that are complete; anything but whole text frames is an error."""
        data = self._socket.recv(1 << 18)
        if not data:
            raise OSError("the server closed the WebSocket")
        data = self._read + data
        good = bad = at = 0
        while len(data) >= at + 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if len(data) < start + length or start > len(data):
                break
            if data[at] == 0x81:  # a whole text message
                if data.startswith(OK, start):
                    good += 1
                else:
                    bad += 1
            elif data[at] != 0x89:  # a ping needs no answer within the seconds that this lasts
                raise OSError(f"a frame that begins with {data[at]:#x}")
            at = start + length
        self._read = data[at:]
        return good, bad


def push_message() -> bytes:
    """Return the command that pushes one job."""
    return b'{"cmd":"PUSH","queue":"ws","reqId":"r",' + push_body()[1:]


def bulk_message(count: int) -> bytes:
    """Return the command that pushes several."""
    return b'{"cmd":"PUSHB","queue":"ws","reqId":"r","jobs":[%b]}' % b",".join([push_body()] * count)
