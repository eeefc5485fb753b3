"""A door: it accepts the connections of clients and splices each to the leader, which answers as if it had accepted it itself."""

import structlog
import trio

from bunqueue_trio import errors
from bunqueue_trio.config import HEADER_TIMEOUT_S, LINGER_S, ROOM_ASK_S, ROOM_CONNECTIONS, Settings
from bunqueue_trio.doors.asking import Asked
from bunqueue_trio.doors.link import ROOM, ROOM_MADE, Link, LinkLost
from bunqueue_trio.doors.refusals import Refusals
from bunqueue_trio.doors.splice import splice
from bunqueue_trio.transports.room import Goodbyes, make_room
from bunqueue_trio.transports.sockets import connections_that_fit
from bunqueue_trio.transports.tls import TlsStream
from bunqueue_trio.transports.wire import Wire, address_of, make_buffer, untie

_log = structlog.get_logger()

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Client:
    """A connection of a client."""

    __slots__ = ("asked", "has_waited", "idle", "keep_alive_s", "number", "scope", "since", "stream", "unread", "wire")

    def __init__(self, stream: trio.abc.Stream, buffer: memoryview, keep_alive_s: float) -> None:
        self.stream = stream
        self.wire = Wire(stream, buffer)
        self.keep_alive_s = keep_alive_s
        self.scope: trio.CancelScope = trio.CancelScope()
        self.idle: bool = True
        """Nothing is under way, since then. What is passed on as it is never says so here: the leader knows."""
        self.since: float = trio.current_time()
        self.number: int = -1
        """Of a connection that has requests in frames, and the present one of them."""
        self.asked: Asked | None = None
        self.has_waited: bool = False
        """Its first request is as old as the wait for a leader: who has hung up meanwhile is to get no job."""
        self.unread: bytes = b""
        """The beginning of a request that no leader has seen, because none could be reached."""

    def is_idle(self) -> bool:
        """Return whether nobody misses anything when it ends now."""
        return self.idle

    @property
    def patience_ends(self) -> float:
        """When it will have been silent for too long, if it is idle now."""
        return self.since + self.keep_alive_s


class Door:
    """What the connections of one door share."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._buffer = make_buffer()
        self._connections_max = connections_that_fit(settings, descriptors=2)
        self._keep_alive_s = settings.keep_alive_ms / 1000
        self._clients: dict[Client, None] = {}
        self._goodbyes = Goodbyes()
        self._room = trio.Lock()
        self.refusals: Refusals = Refusals(settings)

    @property
    def connections(self) -> int:
        """How many it has."""
        return len(self._clients)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Let the leader serve ``stream``, to its end."""
        if self.connections >= self._connections_max and not await self._make_room():
            await self._goodbyes.refuse_newcomer(stream, self.refusals.of(errors.TOO_MANY_CONNECTIONS))
            await trio.aclose_forcefully(stream)
            untie(stream)
            return
        client = Client(stream, self._buffer, self._keep_alive_s)
        self._clients[client] = None
        try:
            with client.scope:
                if isinstance(stream, TlsStream):
                    # A handshake that does not come to its end is no business of the leader's.
                    with trio.fail_after(HEADER_TIMEOUT_S):
                        await stream.do_handshake()
                if not await self.serve_by_leader(client):
                    await self.serve_alone(client)
        except (*_GONE, trio.TooSlowError):
            # Whoever asked has gone.
            pass
        except Exception:
            # Its own trouble; nobody else is disturbed.
            _log.exception("connection failed")
        finally:
            del self._clients[client]
            await trio.aclose_forcefully(stream)
            untie(stream)

    async def _make_room(self) -> bool:
        """End some connections that are idle, here or at the leader, where they are passed on; return whether there was one."""
        if make_room(self._clients, self._keep_alive_s):
            return True
        if self._room.statistics().tasks_waiting >= ROOM_CONNECTIONS:
            # Each is a descriptor beyond the limit.
            return False
        async with self._room:
            return self.connections < self._connections_max or await self._ask_for_room()

    async def _ask_for_room(self) -> bool:
        with trio.move_on_after(ROOM_ASK_S):
            try:
                leader = await self._link.open(ROOM)
            except LinkLost:
                return False
            try:
                return bytes(await leader.receive_some(1)) == ROOM_MADE
            except _GONE:
                return False
            finally:
                await trio.aclose_forcefully(leader)
        return False

    async def serve_by_leader(self, client: Client, unread: bytes = b"") -> bool:
        """Splice ``client``, of which ``unread`` was read already, to the leader; return whether that could be reached."""
        client.idle = False
        try:
            leader = await self._link.open(address_of(client.stream))
        except LinkLost:
            client.unread = unread
            return False
        try:
            await splice(client.stream, leader, self._buffer, unread, self.refusals.of(errors.NOT_COMMITTED))
        finally:
            await trio.aclose_forcefully(leader)
        return True

    async def serve_alone(self, client: Client) -> None:
        """Tell a client that the leader cannot be reached."""
        await self._goodbyes.refuse(client.stream, self.refusals.of(errors.OVERLOADED), LINGER_S)
