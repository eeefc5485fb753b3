"""The socket below TLS: it lets others run when it waits, and not once more for each small read and write that succeeds."""

import os

import trio

from bunqueue_trio.transports.newcomers import Eager
from bunqueue_trio.transports.tls import TlsStream

# What is more than a response usually has is sent Trio's way, which lets others run: a large download must not shut them out.
_SMALL_BYTES = 32 * 1024


class Brisk(trio.abc.HalfCloseableStream):
    """A socket stream for ``TlsStream``."""

    def __init__(self, stream: trio.SocketStream, buffer: memoryview) -> None:
        self.socket: trio.socket.SocketType = stream.socket
        self._stream = stream
        self._buffer = buffer

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``; see ``trio.abc.SendStream``."""
        if len(data) <= _SMALL_BYTES:
            try:
                sent = os.write(self._descriptor(), data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise trio.BrokenResourceError(f"cannot write: {error}") from error
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has come; see ``trio.abc.ReceiveStream``."""
        buffer = self._buffer[:max_bytes]
        while True:
            # It may have come already, but the kernel is asked to say so: then others have run.
            await trio.lowlevel.wait_readable(self._descriptor())
            try:
                return bytes(buffer[: os.readv(self._descriptor(), (buffer,))])
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"cannot read: {error}") from error

    def _descriptor(self) -> int:
        descriptor = self.socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError("this end is closed")
        return descriptor

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room; see ``trio.abc.SendStream``."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Say that nothing more comes; see ``trio.abc.HalfCloseableStream``."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()


def socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """Return the socket that the bytes of ``stream`` go through, with TLS above it or not; None: there is none."""
    if isinstance(stream, TlsStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream | Brisk) else None


class BriskListener(trio.abc.Listener[Brisk]):
    """Accepts as ``listener`` does; all that it accepts read by way of one ``buffer``, from which bytes are copied at once."""

    def __init__(self, listener: Eager | trio.SocketListener, buffer: memoryview) -> None:
        self._listener = listener
        self.socket: trio.socket.SocketType = listener.socket
        self._buffer = buffer

    async def accept(self) -> Brisk:
        """Return the next connection."""
        return Brisk(await self._listener.accept(), self._buffer)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()
