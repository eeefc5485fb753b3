"""What talks to the server: HTTP and WebSocket clients on a connection of the simulated network.

Both are asked in the same words, the names of the commands; the answer is the JSON object that came back.
"""

import itertools
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httptools
import trio

from bunqueue_trio.testing.client import http_request
from tests.sim.wire import End
from tests.stream.ws import CLOSE, HANDSHAKE, PING, PONG, TEXT, frame

Answer = dict[str, Any]


class Lost(Exception):
    """The connection is gone; what was asked may have happened or not."""


class Refused(Exception):
    """The server does not want this connection; the status says why."""


class _Response:
    """What httptools has found so far of one response."""

    def __init__(self) -> None:
        self.done = False
        self.body = bytearray()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


class HttpPeer:
    """One request after the other on one connection."""

    def __init__(self, end: End, token: str | None) -> None:
        self._end = end
        self._head = "Host: sim\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")

    async def ask(self, cmd: str, /, **fields: Any) -> Answer:
        """Send a command as the request it is; return the answer, its ``status`` with it."""
        return await self.request(*http_request(cmd, fields))

    async def request(self, method: str, path: str, body: bytes = b"") -> Answer:
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        response = _Response()
        parser = httptools.HttpResponseParser(response)
        try:
            await self._end.send_all(head.encode() + body)
            while not response.done:
                data = await self._end.receive_some()
                if not data:
                    raise Lost
                parser.feed_data(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Lost from None
        answer: Answer = json.loads(bytes(response.body)) if response.body.startswith(b"{") else {}  # or a page
        return answer | {"status": parser.get_status_code()}

    def close(self) -> None:
        self._end.close()


class Message(NamedTuple):
    """One message of an event stream."""

    id: int
    data: bytes


class EventReader:
    """An event stream; ``last`` is the event after which it asks for the rest, None: only what is new."""

    def __init__(self, end: End, token: str | None, address: str) -> None:
        self._end = end
        # An address of its own: a rate limit that all others use up would keep a reader out for ever.
        self._head = f"Host: sim\r\nX-Forwarded-For: {address}\r\n"
        self._head += f"Authorization: Bearer {token}\r\n" if token else ""

    async def read(self, path: str, last: int | None) -> AsyncIterator[Message]:
        """Yield message after message until the stream ends.

        Raises:
            Lost: the connection broke.
            Refused: the answer is no stream.
        """
        resume = "" if last is None else f"Last-Event-ID: {last}\r\n"
        response = _Response()
        parser = httptools.HttpResponseParser(response)
        try:
            await self._end.send_all(f"GET {path} HTTP/1.1\r\n{self._head}{resume}\r\n".encode())
            while not response.done and (data := await self._end.receive_some()):
                parser.feed_data(data)
                if parser.get_status_code() not in (0, 200):
                    raise Refused(parser.get_status_code())
                *whole, rest = bytes(response.body).split(b"\n\n")
                response.body = bytearray(rest)
                for text in whole:
                    if not text.startswith(b":"):
                        number, _, line = text.partition(b"\n")
                        yield Message(int(number.removeprefix(b"id: ")), line.removeprefix(b"data: "))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Lost from None

    def close(self) -> None:
        self._end.close()


class WsPeer:
    """A WebSocket. Run :meth:`read` beside whoever asks; what is no answer goes to ``heard``."""

    def __init__(self, end: End, token: str | None, address: str | None = None) -> None:
        self._end = end
        self._address = address
        self._token = token
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[trio.Event, list[Answer]]] = {}
        self._stopped: dict[int, bool] = {}
        self._received = bytearray()
        self._sending = trio.Lock()
        self._over = False
        self.mute = False
        """Answers no ping."""
        self.heard: list[bytes] = []
        self.news = trio.Event()

    async def open(self, path: str) -> None:
        """Shake hands."""
        head = HANDSHAKE.format(path=path)
        if self._address:
            head = head.replace("Host: x", f"Host: x\r\nX-Forwarded-For: {self._address}")
        if self._token:
            head = head.replace("Host: x", f"Host: x\r\nAuthorization: Bearer {self._token}")
        try:
            await self._end.send_all(head.encode())
            while b"\r\n\r\n" not in self._received:
                if not (data := await self._end.receive_some()):
                    raise Lost
                self._received += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Lost from None
        answer, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101"):
            raise Refused(int(answer.split()[1]))
        self._received = bytearray(rest)

    async def ask(self, cmd: str, /, **fields: Any) -> Answer:
        number = next(self._numbers)
        answered, answers = trio.Event(), list[Answer]()
        self._waiting[number] = answered, answers
        try:
            await self._send(TEXT, json.dumps({"cmd": cmd, **fields, "reqId": number}).encode())
            if self._over:
                raise Lost
            await answered.wait()
        finally:
            del self._waiting[number]
        if not answers:
            raise Lost
        return answers[0]

    async def pull_impatiently(self, patience_s: float, cmd: str, /, **fields: Any) -> tuple[Answer, bool | None]:
        """Pull, and take it back after a while; return its answer, and what StopPull said: None if it was not needed."""
        number = next(self._numbers)
        answered, answers = self._waiting[number] = trio.Event(), list[Answer]()
        try:
            await self._send(TEXT, json.dumps({"cmd": cmd, **fields, "reqId": number}).encode())
            with trio.move_on_after(patience_s):
                await answered.wait()
            if not answers and not self._over:
                await self._send(TEXT, json.dumps({"cmd": "StopPull", "reqId": number}).encode())
            if self._over:
                raise Lost
            await answered.wait()
        finally:
            del self._waiting[number]
        if not answers:
            raise Lost
        return answers[0], self._stopped.pop(number, None)

    async def say_goodbye(self) -> None:
        """Close in good order, and wait a while for the server to agree."""
        self._end.goodbye = True
        try:
            await self._send(CLOSE, b"\x03\xe8")
        except Lost:
            return
        with trio.move_on_after(5):
            while not self._over:
                await self.news.wait()
                self.news = trio.Event()

    async def read(self) -> None:
        """Take in what comes, until the end."""
        try:
            while True:
                for opcode, payload in self._frames():
                    if opcode == CLOSE:
                        return
                    if opcode == PING and not self.mute:
                        await self._send(PONG, payload)
                    elif opcode == TEXT:
                        self._take(payload)
                if not (data := await self._end.receive_some()):
                    return
                self._received += data
        except (trio.BrokenResourceError, trio.ClosedResourceError, Lost):
            pass  # whoever waits gets the error below
        finally:
            self.close()

    def close(self) -> None:
        self._over = True
        self._end.close()
        for answered, _ in self._waiting.values():
            answered.set()
        self.news.set()

    @property
    def over(self) -> bool:
        return self._over

    def _take(self, payload: bytes) -> None:
        message = json.loads(payload)
        number = message.pop("reqId", None)
        if "stopped" in message:
            self._stopped[number] = message["stopped"]
        elif number is None:
            self.heard.append(payload)
            self.news.set()
        elif number in self._waiting:
            answered, answers = self._waiting[number]
            answers.append(message)
            answered.set()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while (received := self._received) and len(received) >= 2:
            size, begin = received[1] & 127, 2
            if size >= 126:
                begin += 2 if size == 126 else 8
                if len(received) < begin:
                    return
                (size,) = struct.unpack(">H" if size == 126 else ">Q", received[2:begin])
            if len(received) < begin + size:
                return
            opcode, payload = received[0] & 15, bytes(received[begin : begin + size])
            del received[: begin + size]
            yield opcode, payload

    async def _send(self, opcode: int, payload: bytes) -> None:
        try:
            async with self._sending:
                await self._end.send_all(frame(opcode, payload))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Lost from None


Peer = HttpPeer | WsPeer
