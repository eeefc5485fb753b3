"""The bytes of one connection, read and written with the fewest switches of tasks.

Trio's own stream lets others run after each read and each write that succeed. Here a write that the
kernel takes whole returns at once, and each read lets others run before it looks: once a request is enough.
"""

import os
import select

import trio

from bunqueue_trio.api.access import UNKNOWN
from bunqueue_trio.config import RECEIVE_BYTES
from bunqueue_trio.transports.brisk import socket_of
from bunqueue_trio.transports.tls import TlsStream

# Reads that wait for the kernel at once, after one that looked and found nothing.
_SLOW_READS = 16


def make_buffer() -> memoryview:
    """Return the buffer that all wires of one event loop read into; bytes are copied from it at once.

    A read with a buffer of its own would cut that to the size of what came, and leave a hole in the heap that the
    next read does not fit in: 64 KiB for each small head that is kept for a while.
    """
    return memoryview(bytearray(RECEIVE_BYTES))


def address_of(stream: trio.abc.Stream) -> str:
    """Return from where a connection comes, without the port; ``unix`` of a Unix socket, ``unknown`` where nobody knows."""
    bare = socket_of(stream)
    if bare is None:
        return UNKNOWN
    try:
        name = bare.getpeername()
    except OSError:
        # It is gone already.
        return UNKNOWN
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else "unix"


def untie(stream: trio.abc.Stream) -> None:
    """Let go of a closed stream, whether it had TLS or not."""
    if isinstance(stream, TlsStream):
        stream.untie()


class NothingSent(trio.BrokenResourceError):
    """The client was gone before the kernel took a byte."""


class Wire:
    """A stream; sockets without TLS take the short way."""

    def __init__(self, stream: trio.abc.Stream, buffer: memoryview) -> None:
        self._stream = stream
        self._buffer = buffer
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._raw = socket_of(stream)
        self._slow_reads = 0
        self._looks: select.poll | None = None
        """Looks whether there is something to read, or the end; made when it is first asked."""

    async def receive(self, limit: int = RECEIVE_BYTES) -> bytes:
        """Return what has come, at most ``limit`` bytes of it, b"" at the end.

        Raises:
            trio.BrokenResourceError: the client is gone.
            trio.ClosedResourceError: this end was closed meanwhile.
        """
        if self._socket is None:
            return bytes(await self._stream.receive_some(limit))
        # Hypercorn reads on behind its own end; the kernel would not be asked politely.
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError("this end is closed")
        try:
            # A busy client has sent its next request by the time that others have run, and asking the
            # kernel to wake us costs more than that. With an idle one the look is for nothing.
            if self._slow_reads:
                self._slow_reads -= 1
                await trio.lowlevel.wait_readable(descriptor)
            else:
                await trio.lowlevel.checkpoint()
            while True:
                try:
                    count = os.readv(self._socket.fileno(), (self._buffer[:limit],))
                    return bytes(self._buffer[:count])
                except BlockingIOError:
                    self._slow_reads = _SLOW_READS
                    await trio.lowlevel.wait_readable(self._socket)
        except OSError as error:
            raise trio.BrokenResourceError(f"cannot read: {error}") from error

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of ``data``; lets others run only if it has to wait for the client.

        Raises:
            trio.BrokenResourceError: the client is gone.
            trio.ClosedResourceError: this end was closed meanwhile.
        """
        sent = 0
        if self._socket is not None:
            try:
                sent = os.write(self._socket.fileno(), data)
            except BlockingIOError:
                # The kernel takes nothing now: all of it is left to be sent below.
                pass
            except OSError as error:
                raise NothingSent(f"cannot write: {error}") from error
        if sent < len(data):
            await self._stream.send_all(memoryview(data)[sent:])

    def has_ended(self) -> bool:
        """Return whether the other side has said that it sends no more, read or not; False where nobody can tell."""
        return self._found() & ~select.POLLIN != 0

    def is_broken(self) -> bool:
        """Return whether the connection is broken, so that no answer arrives; False where nobody can tell."""
        return self._found() & (select.POLLHUP | select.POLLERR) != 0

    def is_readable(self) -> bool:
        """Return whether there is something to read, an end at least; False where nobody can tell."""
        return self._found() != 0

    def _found(self) -> int:
        if self._raw is None or (descriptor := self._raw.fileno()) < 0:
            return 0
        if self._looks is None:
            self._looks = select.poll()
            self._looks.register(descriptor, select.POLLIN | select.POLLRDHUP)
        found = self._looks.poll(0)
        return found[0][1] if found else 0

    def send_nowait(self, data: bytes) -> int:
        """Send what the kernel takes of ``data`` at once; return how much that was, 0 if that is not known."""
        if self._socket is None:
            return 0
        try:
            return os.write(self._socket.fileno(), data)
        except OSError:
            # Full, broken or closed: `send` waits, or says it.
            return 0

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; over TLS, which has no half of an end, end it."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            await self._stream.aclose()
