"""A door: it accepts the connections of clients and splices each to the leader, which answers as if it had accepted it itself."""

import structlog
import trio

from bunqueue_trio import errors
from bunqueue_trio.config import HEADER_TIMEOUT_S, Settings
from bunqueue_trio.doors.link import Link, LinkLost
from bunqueue_trio.doors.refusals import refusal
from bunqueue_trio.doors.splice import splice
from bunqueue_trio.transports.sockets import connections_that_fit
from bunqueue_trio.transports.wire import address_of, make_buffer, untie

_log = structlog.get_logger()


class Door:
    """What the connections of one door share."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._buffer = make_buffer()
        self._connections_max = connections_that_fit(settings, descriptors=2)
        self.connections: int = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Let the leader serve ``stream``, to its end."""
        self.connections += 1
        try:
            if self.connections > self._connections_max:
                # The kernel takes so little at once.
                with trio.move_on_after(1):
                    await stream.send_all(refusal(errors.TOO_MANY_CONNECTIONS))
                return
            if isinstance(stream, trio.SSLStream):
                # A handshake that does not come to its end is no business of the leader's.
                with trio.fail_after(HEADER_TIMEOUT_S):
                    await stream.do_handshake()
            if not await self.serve_by_leader(stream):
                await self.serve_alone(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # whoever asked has gone
        except Exception:
            _log.exception("connection failed")  # its own trouble; nobody else is disturbed
        finally:
            self.connections -= 1
            await trio.aclose_forcefully(stream)
            untie(stream)

    async def serve_by_leader(self, stream: trio.abc.Stream, unread: bytes = b"") -> bool:
        """Splice ``stream``, of which ``unread`` was read already, to the leader; return whether that could be reached."""
        try:
            leader = await self._link.open(address_of(stream))
        except LinkLost:
            return False
        try:
            await splice(stream, leader, self._buffer, unread)
        finally:
            await trio.aclose_forcefully(leader)
        return True

    async def serve_alone(self, stream: trio.abc.Stream) -> None:
        """Serve a client while the leader cannot be reached: its connection ends."""
