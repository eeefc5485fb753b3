"""What the hot loop asks of the kernel: which sockets have something to read, and their bytes, without waiting.

A test gives it sockets that are none (``tests/sim/wire.py``).
"""

import os
import select
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Protocol

import trio

from bunqueue_trio.config import ENDS_A_TURN

# Whose client has hung up: it may have said something before.
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
# That many of them are looked through for requests at once: 0.2 ms.
_LOOKED = 1024


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
    """The kernel's own: an epoll inside that of Trio. It says of a socket that it is readable as long as it is.

    The kernel names those who are ready in the order in which they became so: a request behind thousands who hang up at once would
    wait for all of these. So only some of them are named at a time, behind all requests; and clients that wait are in another one inside it.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ends = select.epoll()
        self._ending: set[int] = set()
        """The descriptors in there."""
        self._epoll.register(self._ends.fileno(), select.EPOLLIN)
        self.readv: Callable[[int, Sequence[memoryview]], int] = os.readv
        self.write: Callable[[int, bytes], int] = os.write
        self.wait_for: Callable[[int], Awaitable[None]] = trio.lowlevel.wait_readable

    def descriptor_of(self, stream: trio.abc.Stream) -> int:
        """Return the descriptor of a socket without TLS; see :class:`Poller`."""
        return stream.socket.fileno() if isinstance(stream, trio.SocketStream) else -1

    def watch(self, descriptor: int) -> None:
        """Look at it from now on; see :class:`Poller`."""
        if descriptor in self._ending:
            raise OSError("cannot watch: its end is looked for")
        self._register(self._epoll, descriptor, select.EPOLLIN | select.EPOLLRDHUP)

    def watch_end(self, descriptor: int) -> None:
        """Look from now on whether its client has hung up; see :class:`Poller`."""
        self._register(self._ends, descriptor, select.EPOLLRDHUP)
        self._ending.add(descriptor)

    def watch_break(self, descriptor: int) -> None:
        """Look from now on whether its connection is broken; see :class:`Poller`."""
        # The kernel reports that in any case.
        self._register(self._ends, descriptor, 0)
        self._ending.add(descriptor)

    def _register(self, epoll: select.epoll, descriptor: int, mask: int) -> None:
        try:
            epoll.register(descriptor, mask)
        except ValueError as error:
            # This, or the descriptor, is closed.
            raise OSError(f"cannot watch: {error}") from error

    def ignore(self, descriptor: int) -> None:
        """Look at it no more; see :class:`Poller`. Not even at its end, which a mask of nothing would go on to report."""
        epoll = self._epoll
        if descriptor in self._ending:
            epoll = self._ends
            self._ending.discard(descriptor)
        try:
            epoll.unregister(descriptor)
        except (OSError, ValueError):
            # It was closed, and is forgotten; or this was.
            pass

    def ready(self, most: int) -> list[int]:
        """Return those that have something to read; see :class:`Poller`."""
        found = dict(self._epoll.poll(0, most))
        gone = any(mask & _GONE for mask in found.values())
        if gone and len(found) == most:
            # Behind these may be requests. The kernel names the first ones again when all others have been named.
            found.update(self._epoll.poll(0, _LOOKED))
        ready = [descriptor for descriptor, mask in found.items() if not mask & _GONE]
        if self._ending and (ends := self._ends.fileno()) in ready:
            ready.remove(ends)
            ready += [descriptor for descriptor, _ in self._ends.poll(0, ENDS_A_TURN)]
        if gone:
            ready += islice((descriptor for descriptor, mask in found.items() if mask & _GONE), ENDS_A_TURN)
        return ready

    async def wait(self) -> None:
        """Wait until there is one; see :class:`Poller`."""
        await trio.lowlevel.wait_readable(self._epoll.fileno())

    def close(self) -> None:
        """Look at none any more; see :class:`Poller`."""
        self._ends.close()
        self._epoll.close()
