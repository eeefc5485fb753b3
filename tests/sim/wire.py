"""A network in memory: connections that dawdle, tear, and pass bytes on in pieces of any size.

The server's end is a Trio stream like a socket's, so that the real listener, express lane, WebSocket and
Hypercorn run on it. What is not read fills a buffer, and then whoever writes has to wait.
"""

import errno
import random
import re
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import trio

_IDS = re.compile(rb"id-\d{6,}")
BUFFER_BYTES = 64 * 1024  # what a socket holds for a reader that does not read


class _Way:
    """One direction of a connection."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.torn = False
        self.late: list[bytes | None] = []
        """What is on its way while the network holds it; None stands for the end."""
        self.holds = False
        self._changed = trio.lowlevel.ParkingLot()
        self.on_change: Callable[[], None] = lambda: None

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Pass bytes on."""
        if self.holds:
            self.late.append(bytes(data))
        else:
            self.data += data
            self.note_change()

    def end(self) -> None:
        """Pass on that nothing more comes."""
        if self.holds:
            self.late.append(None)
        else:
            self.ended = True
            self.note_change()

    def room(self) -> int:
        """Return how many bytes it takes now."""
        return BUFFER_BYTES - len(self.data) - sum(len(each or b"") for each in self.late)

    def hold(self) -> None:
        """Let nothing through from now on; whoever sends does not notice."""
        self.holds = True

    def let_go(self) -> None:
        """Let it all through."""
        self.holds = False
        late, self.late = self.late, []
        for each in late if not self.torn else ():
            if each is None:
                self.end()
            else:
                self.put(each)

    async def wait_change(self) -> None:
        await self._changed.park()

    def note_change(self) -> None:
        self._changed.unpark_all()
        self.on_change()


class Pace(NamedTuple):
    """How a connection passes bytes on: chances, and the longest delay in seconds."""

    piecewise: float = 0.1
    dawdle: float = 0.05
    delay_s: float = 0.5


class End(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    family = None  # Hypercorn asks a socket for it
    other: "End"

    def __init__(self, incoming: _Way, outgoing: _Way, rng: random.Random, pace: Pace, number: int = 0) -> None:
        self.number = number
        self._in = incoming
        self._out = outgoing
        self._rng = rng
        self._pace = pace
        self._closed = False
        self.on_send: Callable[[bytes], None] = lambda _: None
        self.goodbye = False
        """Who has this end has begun to say that he leaves in good order."""
        self.socket = self
        self.descriptor = -1
        """Its number at the :class:`Poller` that it was shown to."""

    def getsockname(self) -> tuple[str, int]:
        return ("memory", 1)

    getpeername = getsockname

    def setsockopt(self, *_: object) -> None:
        """There is nothing to set."""

    def __hash__(self) -> int:
        # Not the address in memory, which would give sets of connections an order that no seed knows.
        return self.number

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.on_send(bytes(data))
        await trio.lowlevel.checkpoint()
        if self._rng.random() < self._pace.dawdle:
            await trio.sleep(self._rng.random() * self._pace.delay_s)
        while self._out.room() <= 0 and not (self._closed or self._out.torn):
            await self._out.wait_change()
        if self._closed:
            raise trio.ClosedResourceError
        if self._out.torn or self._out.ended:
            raise trio.BrokenResourceError
        self._out.put(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        way = self._in
        while not (way.data or way.ended or way.torn or self._closed):
            await way.wait_change()
        if self._closed:
            raise trio.ClosedResourceError
        if way.torn:
            raise trio.BrokenResourceError
        size = min(len(way.data), max_bytes or BUFFER_BYTES)
        if size > 1 and self._rng.random() < self._pace.piecewise:
            size = self._rng.randrange(1, size)
        data = bytes(way.data[:size])
        del way.data[:size]
        way.note_change()
        return data

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def readable(self) -> bool:
        way = self._in
        return bool(way.data) or way.ended or way.torn

    @property
    def has_ended(self) -> bool:
        return self._in.ended or self._in.torn

    @property
    def is_broken(self) -> bool:
        return self._in.torn or self._out.torn

    def show(self, descriptor: int, on_change: Callable[[], None]) -> None:
        self.descriptor, self._in.on_change = descriptor, on_change

    def readv(self, buffer: memoryview) -> int:
        """Read as a kernel does."""
        way = self._in
        if self._closed or way.torn:
            raise OSError(errno.EBADF if self._closed else errno.ECONNRESET, "no more")
        if not way.data and not way.ended:
            raise BlockingIOError
        size = min(len(way.data), len(buffer))
        if size > 1 and self._rng.random() < self._pace.piecewise:
            size = self._rng.randrange(1, size)
        buffer[:size] = way.data[:size]
        del way.data[:size]
        way.note_change()
        return size

    def write(self, data: bytes) -> int:
        """Write as a kernel does: what there is room for, or less."""
        way = self._out
        if self._closed or way.torn or way.ended:
            raise OSError(errno.EBADF if self._closed else errno.EPIPE, "no more")
        size = min(len(data), way.room())
        if size <= 0:
            raise BlockingIOError
        self.on_send(data)
        if size > 1 and self._rng.random() < self._pace.piecewise:
            size = self._rng.randrange(1, size)
        way.put(data[:size])
        return size

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        self._out.end()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Say the end; what is still coming is lost."""
        self._closed = True
        self._in.torn = True
        self._in.data.clear()
        self._in.note_change()
        self._out.end()
        self._out.note_change()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


class Connection:
    """Both ends of one connection, for whoever wants to cut it."""

    def __init__(self, rng: random.Random, pace: Pace, number: int = 0) -> None:
        self._up, self._down = _Way(), _Way()
        self.client = End(self._down, self._up, rng, pace, 2 * number)
        self.server = End(self._up, self._down, rng, pace, 2 * number + 1)
        self.client.other, self.server.other = self.server, self.client

    @property
    def over(self) -> bool:
        return self._up.torn or (self._up.ended and self._down.ended)

    @property
    def ways(self) -> tuple[_Way, _Way]:
        """What the client sends, and what the server sends."""
        return self._up, self._down

    def cut(self) -> None:
        """Tear it: neither side gets anything more."""
        for way in (self._up, self._down):
            way.data.clear()
            way.torn = True
            way.note_change()

    def orphan(self) -> None:
        """The server's process is gone: what it has sent still arrives, and then the end."""
        self._up.torn = True
        self._up.data.clear()
        self._down.ended = True
        for way in (self._up, self._down):
            way.note_change()


class Poller:
    """Stands for the kernel's: the smallest free number for each stream, in turns those that have something to read."""

    def __init__(self) -> None:
        self._ends: dict[int, End] = {}
        self.watched: dict[int, End] = {}
        self._only_ends: set[int] = set()
        self._only_breaks: set[int] = set()
        """Of those."""
        self._changed = trio.lowlevel.ParkingLot()
        self.waits = False
        self.closed = False

    def descriptor_of(self, stream: trio.abc.Stream) -> int:
        if not isinstance(stream, End) or stream.closed:
            return -1
        if stream.descriptor < 0:
            number = next(n for n in count(3) if n not in self._ends or self._ends[n].closed)
            self._ends[number] = stream
            stream.show(number, self._changed.unpark_all)
        return stream.descriptor

    def watch(self, descriptor: int) -> None:
        self._only_ends.discard(descriptor)
        self._only_breaks.discard(descriptor)
        if self.closed or self._ends[descriptor].closed or self._is_watched(descriptor):
            raise OSError(errno.EBADF, "cannot watch")
        self.watched[descriptor] = self._ends[descriptor]
        self._changed.unpark_all()

    def watch_end(self, descriptor: int) -> None:
        self.watch(descriptor)
        self._only_ends.add(descriptor)

    def watch_break(self, descriptor: int) -> None:
        self.watch_end(descriptor)
        self._only_breaks.add(descriptor)

    def ignore(self, descriptor: int) -> None:
        if self._is_watched(descriptor):
            del self.watched[descriptor]
            self._only_ends.discard(descriptor)
            self._only_breaks.discard(descriptor)

    def ready(self, most: int) -> list[int]:
        found = self.left_out()[:most]
        for number in found:
            self.watched[number] = self.watched.pop(number)
        return found

    def left_out(self) -> list[int]:
        """Who has something to read, or has hung up, and is watched for that."""
        return [n for n, end in self.watched.items() if self._tells(n, end) and self._is_watched(n)]

    def _tells(self, number: int, end: End) -> bool:
        if number in self._only_breaks:
            return end.is_broken
        return end.has_ended if number in self._only_ends else end.readable

    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()
        self.waits = True
        try:
            while not self.left_out():
                await self._changed.park()
        finally:
            self.waits = False

    async def wait_for(self, descriptor: int) -> None:
        end = self._ends[descriptor]
        await trio.lowlevel.checkpoint()
        while not (end.readable or end.closed):
            await end._in.wait_change()
        if end.closed:
            raise trio.ClosedResourceError

    def readv(self, descriptor: int, buffers: Sequence[memoryview]) -> int:
        return self._ends[descriptor].readv(buffers[0])

    def write(self, descriptor: int, data: bytes) -> int:
        return self._ends[descriptor].write(data)

    def close(self) -> None:
        self.closed = True

    def _is_watched(self, descriptor: int) -> bool:
        """A closed one is forgotten by the kernel."""
        end = self.watched.get(descriptor)
        return end is not None and not end.closed and end is self._ends[descriptor]


class Listener(trio.abc.Listener[End]):
    """Where a server accepts connections."""

    def __init__(self) -> None:
        self._offer, self._offered = trio.open_memory_channel[End](1024)
        self.open = True

    def offer(self, end: End) -> None:
        self._offer.send_nowait(end)

    async def accept(self) -> End:
        return await self._offered.receive()

    async def aclose(self) -> None:
        self.open = False
        await trio.lowlevel.checkpoint()


class Network:
    """All connections to the server that runs now."""

    def __init__(self, rng: random.Random, pace: Pace) -> None:
        self._rng = rng
        self._pace = pace
        self._connections: list[Connection] = []
        self.listener: Listener | None = None
        self.told: set[str] = set()
        """Every id and token that a server has begun to send."""

    def connect(self) -> End:
        """Return the client's end of a new connection.

        Raises:
            ConnectionRefusedError: no server listens.
        """
        if self.listener is None or not self.listener.open:
            raise ConnectionRefusedError
        connection = Connection(self._rng, self._pace)
        self._connections = [other for other in self._connections if not other.over]
        self._connections.append(connection)
        connection.server.on_send = self._note_sent
        self.listener.offer(connection.server)
        return connection.client

    def _note_sent(self, data: bytes) -> None:
        self.told.update(found.decode() for found in _IDS.findall(data))

    def cut_one(self) -> None:
        """Tear one connection, if there is any."""
        if self._connections:
            self._rng.choice(self._connections).cut()

    def cut_all(self) -> None:
        for connection in self._connections:
            connection.cut()

    def lose_server(self) -> None:
        """The process at the other end has died, this instant."""
        self.listener = None
        ends: tuple[Callable[[Connection], None], ...] = (Connection.cut, Connection.orphan)
        for connection in self._connections:
            self._rng.choice(ends)(connection)
        self._connections = []
