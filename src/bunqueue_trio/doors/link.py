"""The link between a door and the leader of the same machine: a socket pair, over which each connection of a client is handed.

The door makes a pair of sockets for each client, and sends one of them with the address of the client in one message. So
there is no name that somebody else could connect to, nothing to prove, and no file that a crash leaves behind. Whoever is
gone is noticed by the end of the link.
"""

import array
import math
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
import trio

from bunqueue_trio.config import CLIENT_KEY_MAX, MAINTENANCE_TOLD_MS
from bunqueue_trio.doors.up import UP

_log = structlog.get_logger()

STOP = b"stop"
"""What the leader says to a door that is to accept no more."""
LOOK = b"look"
"""What the leader says again and again, to hear whether the door does anything."""
_HERE = b"here"
"""What a door answers that does."""
_CLOSED = b"closed"
"""What a door says that accepts no more."""
_CONNECTION = b"c"
"""How the message begins that brings a connection; the address follows."""
_SOCKET = b"s"
"""What a message of the leader says that brings a socket."""
_MESSAGE_MAX = len(_CLOSED) + CLIENT_KEY_MAX

FRAMES = "frames"
"""Said instead of an address by a connection that brings the requests of many clients."""
ROOM = "room"
"""Said instead of an address by one that asks the leader to end idle connections of this door; ROOM_MADE comes if there were some, then the end."""
ROOM_MADE = b"+"


class LinkLost(Exception):
    """The leader cannot be reached; ``is_refused``: its machine says that nobody listens there."""

    def __init__(self, why: str, *, is_refused: bool = False) -> None:
        super().__init__(why)
        self.is_refused = is_refused


class Link(Protocol):
    """The way of a door to the leader."""

    async def open(self, address: str) -> trio.abc.Stream:
        """Return a connection to the leader's API for a client at ``address``.

        Raises:
            LinkLost: it cannot be reached.
        """
        ...


class LocalLink:
    """The door's end."""

    def __init__(self, control: trio.socket.SocketType) -> None:
        self._control = control
        self._sending = trio.Lock()
        self._is_lost = False
        """The log says that the leader cannot be reached."""
        self._told_until = -math.inf

    async def open(self, address: str) -> trio.SocketStream:
        """Return a connection to the leader's API; see :class:`Link`."""
        try:
            stream = await self._open(address)
        except LinkLost as lost:
            # Some may get through in between: one line a minute, whoever else asks.
            if not self._is_lost and trio.current_time() >= self._told_until:
                self._is_lost, self._told_until = True, trio.current_time() + MAINTENANCE_TOLD_MS / 1000
                _log.warning("the leader cannot be reached, trying again", error=str(lost))
            raise
        if self._is_lost:
            self._is_lost = False
            _log.info("the leader is reached again")
        return stream

    async def _open(self, address: str) -> trio.SocketStream:
        try:
            mine, its = socket.socketpair()
        except OSError as error:
            # There are no descriptors left.
            raise LinkLost(str(error)) from None
        message = _CONNECTION + address.encode("utf-8", "replace")[:CLIENT_KEY_MAX]
        carried = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [its.fileno()]))]
        try:
            with its:
                async with self._sending:
                    await self._control.sendmsg([message], carried)
            return trio.SocketStream(trio.socket.from_stdlib_socket(mine))
        except BaseException as error:
            mine.close()
            if isinstance(error, OSError):
                raise LinkLost(str(error)) from None  # noqa: ASYNC104 - it was no Cancelled
            raise

    async def say_closed(self) -> None:
        """Say that this door accepts no more clients; for those that it has it may still open connections."""
        await self._say(_CLOSED)

    async def _say(self, what: bytes) -> None:
        async with self._sending:
            try:
                await self._control.send(what)
            except OSError:
                # The leader is gone, which is noticed elsewhere.
                pass

    async def hear(self, on_stop: Callable[[], None]) -> None:
        """Wait until the leader is gone, and answer when it looks; call ``on_stop`` when it says that this door is to accept no more."""
        try:
            while said := await self._control.recv(len(STOP)):
                if said == STOP:
                    on_stop()
                elif said == LOOK:
                    await self._say(_HERE)
        except OSError:
            # It is gone.
            pass


async def send_sockets(control: trio.socket.SocketType, sockets: Sequence[socket.socket]) -> None:
    """Give a door the sockets that it accepts on; one that is gone gets none, nor do those of a server that stops."""
    for sock in sockets:
        try:
            await control.sendmsg(
                [_SOCKET], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))]
            )
        except (OSError, trio.ClosedResourceError):
            return


async def receive_connections(
    control: trio.socket.SocketType,
    serve: Callable[[trio.SocketStream, str], None],
    on_closed: Callable[[], None],
    on_here: Callable[[], None],
    on_up: Callable[[], None] = lambda: None,
) -> None:
    """Give each connection that a door hands over, and the address of its client, to ``serve``; return when the door is gone.

    ``on_up`` is called when it says that it wants its sockets, ``on_closed`` when it accepts no more, ``on_here`` when it says anything else.
    """
    room = socket.CMSG_SPACE(array.array("i").itemsize)
    while True:
        try:
            message, carried, _, _ = await control.recvmsg(_MESSAGE_MAX, room, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return
        if not message:
            return
        if message == _CLOSED:
            on_closed()
        elif message == UP:
            on_up()
        else:
            # Its answer to a look stands behind the connections that it hands over: thousands, where all clients come at once.
            on_here()
        for _, _, data in carried:
            for descriptor in array.array("i", data):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=descriptor)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                serve(stream, message.removeprefix(_CONNECTION).decode("utf-8", "replace"))
