"""What the hot loop asks of the kernel: which sockets have something to read, and their bytes, without waiting.

A test gives it sockets that are none (``tests/sim/wire.py``).
"""

import os
import select
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio


class Poller(Protocol):
    """Sockets by their descriptors, and those among them that have something to read."""

    readv: Callable[[int, Sequence[memoryview]], int]
    """As ``os.readv``: ``BlockingIOError`` when there is nothing, 0 at the end."""
    write: Callable[[int, bytes], int]
    """As ``os.write``: ``BlockingIOError`` when the client takes nothing now."""
    wait_for: Callable[[int], Awaitable[None]]
    """As ``trio.lowlevel.wait_readable``, of one that need not be watched."""

    def descriptor_of(self, stream: trio.abc.Stream) -> int:
        """Return the descriptor behind ``stream``; -1 where its bytes are not the stream's, or it is closed."""
        ...

    def watch(self, descriptor: int) -> None:
        """Look at it from now on.

        Raises:
            OSError: the kernel cannot.
        """
        ...

    def watch_end(self, descriptor: int) -> None:
        """Look from now on whether its client has hung up, and at nothing else.

        Raises:
            OSError: the kernel cannot.
        """
        ...

    def watch_break(self, descriptor: int) -> None:
        """Look from now on whether its connection is broken, and at nothing else: who says no more may wait for an answer.

        Raises:
            OSError: the kernel cannot.
        """
        ...

    def ignore(self, descriptor: int) -> None:
        """Look at it no more."""
        ...

    def ready(self, most: int) -> list[int]:
        """Return those that have something to read, or have hung up, ``most`` of them at most; others come first the next time."""
        ...

    async def wait(self) -> None:
        """Wait until there is one, and let others run in any case."""
        ...

    def close(self) -> None:
        """Close the poller: no descriptor is watched any more."""
        ...


class Epoll:
    """The kernel's own: an epoll inside that of Trio. It says of a socket that it is readable as long as it is."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.readv: Callable[[int, Sequence[memoryview]], int] = os.readv
        self.write: Callable[[int, bytes], int] = os.write
        self.wait_for: Callable[[int], Awaitable[None]] = trio.lowlevel.wait_readable

    def descriptor_of(self, stream: trio.abc.Stream) -> int:
        """Return the descriptor of a socket without TLS; see :class:`Poller`."""
        return stream.socket.fileno() if isinstance(stream, trio.SocketStream) else -1

    def watch(self, descriptor: int) -> None:
        """Look at it from now on; see :class:`Poller`."""
        self._register(descriptor, select.EPOLLIN)

    def watch_end(self, descriptor: int) -> None:
        """Look from now on whether its client has hung up; see :class:`Poller`."""
        self._register(descriptor, select.EPOLLRDHUP)

    def watch_break(self, descriptor: int) -> None:
        """Look from now on whether its connection is broken; see :class:`Poller`."""
        # The kernel reports that in any case.
        self._register(descriptor, 0)

    def _register(self, descriptor: int, mask: int) -> None:
        try:
            self._epoll.register(descriptor, mask)
        except ValueError as error:
            # This, or the descriptor, is closed.
            raise OSError(f"cannot watch: {error}") from error

    def ignore(self, descriptor: int) -> None:
        """Look at it no more; see :class:`Poller`. Not even at its end, which a mask of nothing would go on to report."""
        try:
            self._epoll.unregister(descriptor)
        except (OSError, ValueError):
            # It was closed, and is forgotten; or this was.
            pass

    def ready(self, most: int) -> list[int]:
        """Return those that have something to read; see :class:`Poller`."""
        return [descriptor for descriptor, _ in self._epoll.poll(0, most)]

    async def wait(self) -> None:
        """Wait until there is one; see :class:`Poller`."""
        await trio.lowlevel.wait_readable(self._epoll.fileno())

    def close(self) -> None:
        """Look at none any more; see :class:`Poller`."""
        self._epoll.close()
