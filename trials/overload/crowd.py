"""Many connections at once, for `overload.py`: opened, fed, read and closed by one Trio process."""

import math
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from trials.overload.server import Target

MIB = 2**20
HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)
OPENING_MAX = 200  # connects under way: well below the backlog, so that a held connection is an accepted one
HANG_UPS = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Failed(Exception):
    """The server did not hold what it promises; the message says what."""


class Attack:
    """What an attack has at hand: the server under attack, the size of the attack, and a place for its findings."""

    def __init__(self, target: Target, *, quick: bool) -> None:
        self.target = target
        self.quick = quick
        self.notes: list[str] = []

    def size(self, full: int, quick: int) -> int:
        """Return how many, or for how many seconds."""
        return quick if self.quick else full

    def check(self, holds: object, what: str) -> None:
        """Raise ``Failed`` with ``what`` unless it holds."""
        if not holds:
            raise Failed(what)

    async def connect(self) -> trio.SocketStream:
        """Open one connection."""
        return await trio.open_tcp_stream(*self.target.address)

    @asynccontextmanager
    async def crowd(self, count: int, first: bytes = b"") -> AsyncIterator[list[trio.SocketStream]]:
        """Hold ``count`` connections, on each of which ``first`` was sent."""
        streams: list[trio.SocketStream] = []

        async def open_one(_: int) -> None:
            stream = await self.connect()
            streams.append(stream)
            if first:
                await stream.send_all(first)

        try:
            await spread(range(count), open_one)
            yield streams
        finally:
            for stream in streams:
                stream.socket.close()

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Make one request on a connection of its own; return status and body, (0, b"") when it was cut."""
        stream = await self.connect()
        async with stream:
            with trio.move_on_after(60):
                try:
                    await stream.send_all(request_bytes(method, path, body, close=True))
                    return await read_answer(stream)
                except HANG_UPS:
                    # Whoever has hung up gave no answer.
                    pass
        return 0, b""


async def spread(
    items: Sequence[object] | range, work: Callable[[int], Awaitable[None]], at_once: int = OPENING_MAX
) -> None:
    """Do ``work`` for the index of each item, `at_once` together; one that is hung up on is no failure."""
    limit = trio.CapacityLimiter(at_once)

    async def one(index: int) -> None:
        try:
            await work(index)
        except HANG_UPS:
            pass  # refused or cut: what the attack came for
        finally:
            limit.release_on_behalf_of(index)

    async with trio.open_nursery() as nursery:
        for index in range(len(items)):
            await limit.acquire_on_behalf_of(index)
            nursery.start_soon(one, index)


async def pipelined(attack: Attack, requests: list[bytes], lines: int = 4) -> None:
    """Send many requests on a few connections, reading the answers as they come."""

    async def one(index: int) -> None:
        stream = await attack.connect()
        mine = requests[index::lines]
        async with stream, trio.open_nursery() as nursery:

            async def send() -> None:
                for start in range(0, len(mine), 500):
                    await stream.send_all(b"".join(mine[start : start + 500]))

            nursery.start_soon(send)
            answered = 0
            while answered < len(mine):
                data = await stream.receive_some(1 << 20)
                attack.check(data, "the server hung up")
                answered += bytes(data).count(b"HTTP/1.1 ")

    async with trio.open_nursery() as nursery:
        for index in range(lines):
            nursery.start_soon(one, index)


async def repeat(attack: Attack, requests: list[bytes], clients: int, seconds: float) -> tuple[dict[int, int], float]:
    """Let clients make requests, one after the other, on connections that they keep.

    Return how many answers of each status there were (0: none came), and the seconds of the slowest.
    """
    statuses: dict[int, int] = {}
    slowest = 0.0
    end = trio.current_time() + seconds

    async def one(index: int) -> None:
        nonlocal slowest
        while trio.current_time() < end:
            try:
                async with await attack.connect() as stream:
                    while trio.current_time() < end:
                        begun = trio.current_time()
                        await stream.send_all(requests[index % len(requests)])
                        status, _ = await read_answer(stream)
                        statuses[status] = statuses.get(status, 0) + 1
                        if not status:
                            break
                        slowest = max(slowest, trio.current_time() - begun)
                        if status == 503:
                            await trio.sleep(0.05)  # ruder than Retry-After asks for
            except HANG_UPS:
                await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        for index in range(clients):
            nursery.start_soon(one, index)
    return statuses, slowest


def told(statuses: dict[int, int]) -> str:
    """Return how many answers of each status there were, in words."""
    return ", ".join(f"{n} × {status or 'cut'}" for status, n in sorted(statuses.items()))


async def feed(streams: list[trio.SocketStream], seconds: float, piece: bytes) -> int:
    """Send ``piece`` on every connection each second; return how many the server has ended."""
    ended: set[trio.SocketStream] = set()
    for _ in range(math.ceil(seconds)):
        next_at = trio.current_time() + 1
        for stream in streams:
            if stream not in ended and not send_now(stream, piece):
                ended.add(stream)
        await trio.sleep_until(next_at)
    return len(ended)


def send_now(stream: trio.SocketStream, piece: bytes) -> bool:
    """Send without waiting; return False when the connection is at its end."""
    try:
        return bool(stream.socket._sock.send(piece))  # type: ignore[attr-defined]  # noqa: SLF001
    except BlockingIOError:
        return True
    except OSError:
        return False


def request_bytes(
    method: str, path: str, body: bytes = b"", *, close: bool = False, length: int | None = None
) -> bytes:
    """Return one request."""
    size = len(body) if length is None else length
    end = "Connection: close\r\n" if close else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{end}\r\n".encode() + body


async def read_answer(stream: trio.abc.Stream) -> tuple[int, bytes]:
    """Return status and what came of the body until the end of a short answer; (0, b"") at the end."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = await stream.receive_some(65536)
        if not piece:
            return 0, b""
        data += piece
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        piece = await stream.receive_some(1 << 20)
        if not piece:
            break
        body += piece
    return int(head.split(b" ", 2)[1]), body


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True, bits: int = 0, length: int | None = None) -> bytes:
    """Return one masked WebSocket frame; with ``length`` it says so whatever it carries."""
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | bits | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload  # masked with zeros: as it is


async def open_websocket(attack: Attack, path: bytes = b"/ws", extra: bytes = b"") -> trio.SocketStream:
    """Return an upgraded connection.

    Raises:
        OSError: it was refused.
    """
    stream = await attack.connect()
    await stream.send_all(HANDSHAKE % (path, extra))
    head = bytes(await stream.receive_some(4096))
    if b" 101 " not in head:
        stream.socket.close()
        raise OSError("no upgrade")
    return stream


def random_bytes(count: int) -> bytes:
    """Return noise."""
    return os.urandom(count)
