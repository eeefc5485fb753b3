"""Accepting: all that have come since the last time, not one in a round of all tasks. It serves nobody."""

import math
import resource
import socket
from collections import deque

import trio

from bunqueue_trio.config import ACCEPTS_MAX, DESCRIPTORS_KEPT


class Eager(trio.abc.Listener[trio.SocketStream]):
    """Accepts as ``listener`` does, and whoever else is in the kernel's line already, some of them, in the same step.

    A round of all tasks takes as long as others have work for, and the line may be long.
    """

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.socket: trio.socket.SocketType = listener.socket
        self._accepted: deque[trio.SocketStream] = deque()

    async def accept(self) -> trio.SocketStream:
        """Return the next connection; lets others run only if none is here already."""
        # Who accepts calls again in the same step: nobody is kept here while others run, nor when that is cancelled.
        if not self._accepted:
            self._accepted.append(await self._listener.accept())
            self._accept_more()
        return self._accepted.popleft()

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()

    def _accept_more(self) -> None:
        ours = self._listener.socket
        # Near the limit those that make room for others are closed in a later step: no faster than they are.
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = math.inf if soft == resource.RLIM_INFINITY else soft - DESCRIPTORS_KEPT
        same = socket.socket(ours.family, ours.type, ours.proto, fileno=ours.fileno())
        try:
            last = self._accepted[0].socket.fileno()
            while len(self._accepted) < ACCEPTS_MAX and last < most:
                accepted, _ = same.accept()
                last = accepted.fileno()
                self._accepted.append(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))
        except OSError:
            # There are no more; or something is wrong, which the next look finds again, and says.
            pass
        finally:
            # It is Trio's.
            same.detach()
