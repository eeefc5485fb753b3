"""Room for new connections where there are too many: those idle longest end, and who finds no room gets an answer that says so. It counts nobody."""

from collections.abc import Iterable
from heapq import nsmallest
from typing import Protocol

import trio

from bunqueue_trio.config import LINGER_S, LINGERING_MAX, RECEIVE_BYTES, ROOM_CONNECTIONS, ROOM_IDLE_S
from bunqueue_trio.transports.tls import TlsStream


class Guest(Protocol):
    """A connection that may make room."""

    scope: trio.CancelScope

    def is_idle(self) -> bool:
        """Return whether nobody misses anything when it ends now."""
        ...

    @property
    def patience_ends(self) -> float:
        """When its client will be late, if it is idle now."""
        ...


def make_room(guests: Iterable[Guest], keep_alive_s: float) -> bool:
    """End some of the longest idle connections; return whether there was one."""
    latest = trio.current_time() + keep_alive_s - ROOM_IDLE_S
    idle = [g for g in guests if g.is_idle() and not g.scope.cancel_called and g.patience_ends < latest]
    for guest in nsmallest(ROOM_CONNECTIONS, idle, key=lambda g: g.patience_ends):
        guest.scope.cancel()
    return bool(idle)


class Goodbyes:
    """Ends connections whose clients may still be sending."""

    def __init__(self) -> None:
        self.lingering: dict[int, int] = {LINGERING_MAX: 0, ROOM_CONNECTIONS: 0}
        """Connections that were answered with their end, and are still read, by the limit that they are under."""

    async def refuse(
        self, stream: trio.abc.Stream, answer: bytes, patience_s: float, lingering_max: int = LINGERING_MAX
    ) -> None:
        """Say ``answer`` to a client that takes it in time, and nothing more."""
        with trio.move_on_after(patience_s):
            try:
                await stream.send_all(answer)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # It did not wait for the answer.
                return
            await self.end(stream, lingering_max)

    async def refuse_newcomer(self, stream: trio.abc.Stream, answer: bytes) -> None:
        """Say ``answer`` to who finds no room: it holds a descriptor beyond the limit, as only few may."""
        # No handshake for it.
        patience_s = 0 if isinstance(stream, TlsStream) else 1
        await self.refuse(stream, answer, patience_s, ROOM_CONNECTIONS)

    async def end(self, stream: trio.abc.Stream, lingering_max: int = LINGERING_MAX) -> None:
        """Send the end, and read what is still coming: a reset would take the last answer with it."""
        if self.lingering[lingering_max] >= lingering_max:
            return
        self.lingering[lingering_max] += 1
        try:
            if isinstance(stream, trio.SocketStream):
                await stream.send_eof()
            with trio.move_on_after(LINGER_S):
                while await stream.receive_some(RECEIVE_BYTES):
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # It is gone already.
            pass
        finally:
            self.lingering[lingering_max] -= 1
