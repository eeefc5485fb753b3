"""What a server does while another one leads its store: it is a door to that one, as long as it reaches it.

When it does not, it says that it lives, is not ready, and can do nothing yet: one answer to a connection, which ends with it.
Requests wait a while for that, since the next leader may be about to serve; probes do not.
"""

import math
from functools import partial

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import (
    LINK_PATIENCE_S,
    LINK_PATIENT_MAX,
    RECEIVE_BYTES,
    WAITING_ROOM_ASKING,
    WAITING_ROOM_S,
    Settings,
)
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.refusals import refusal
from bunqueue_trio.doors.remote import RemoteLink
from bunqueue_trio.transports.sockets import open_listeners

_HEAD_BYTES = 16 * 1024  # as of any request
_ALIVE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
_PROBES = (b"/healthz", b"/live", b"/ready")


async def waiting_room(
    settings: Settings, link: RemoteLink, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer on the addresses of the settings until cancelled, through ``link`` where that is possible.

    Raises:
        StartupError: an address cannot be listened on.
    """
    listeners, _ = await open_listeners(settings)
    async with trio.open_nursery() as connections:
        door = WaitingRoom(link, settings)
        connections.start_soon(door.run)
        await connections.start(partial(trio.serve_listeners, door.serve, listeners, handler_nursery=connections))
        task_status.started()


class WaitingRoom(FramingDoor):
    """The door of a server that waits; without ``EXPRESS`` it has no frames, as the leader has none then."""

    def __init__(self, link: RemoteLink, settings: Settings) -> None:
        super().__init__(link, settings)
        self._remote = link
        self._asking = trio.CapacityLimiter(WAITING_ROOM_ASKING)
        self._patient = 0

    async def run(self) -> None:
        """Watch the link, and ask the leader whenever it can be reached; who has waited too long for that gets an answer."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._remote.watch)
            while True:
                await self._remote.wait_up(math.inf)
                await super().run()
                if not await self._remote.wait_up(LINK_PATIENCE_S):
                    self.asking.give_up(refusal(errors.STANDBY))

    async def serve_by_leader(self, stream: trio.abc.Stream, unread: bytes = b"") -> bool:
        """Do it while the leader can be reached."""
        return self._remote.is_up and await super().serve_by_leader(stream, unread)

    async def serve_alone(self, stream: trio.abc.Stream) -> None:
        """Answer one request, if there is one soon; it waits for the leader, unless it is a probe."""
        head = b""
        with trio.move_on_after(WAITING_ROOM_S):
            async with self._asking:
                head = await _head(stream)
                if head and (answer := _answer(head)):
                    await stream.send_all(answer)
                    await _hear_out(stream)
                    return
        if head and not (await self._wait_up() and await self.serve_by_leader(stream, head)):
            with trio.move_on_after(WAITING_ROOM_S):
                await stream.send_all(refusal(errors.STANDBY, is_head=head.startswith(b"HEAD ")))
                await _hear_out(stream)

    async def _wait_up(self) -> bool:
        """Return whether the leader can be reached now, or soon."""
        if self._patient >= LINK_PATIENT_MAX:
            return False
        self._patient += 1
        try:
            return await self._remote.wait_up(LINK_PATIENCE_S)
        finally:
            self._patient -= 1


async def _head(stream: trio.abc.Stream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
        more = await stream.receive_some(RECEIVE_BYTES)
        if not more:
            return b""
        head += more
    return head


async def _hear_out(stream: trio.abc.Stream) -> None:
    """Read what else comes: an end before that could take the answer along."""
    if isinstance(stream, trio.SocketStream):
        await stream.send_eof()
    left = _HEAD_BYTES
    while left > 0 and (more := await stream.receive_some(RECEIVE_BYTES)):
        left -= len(more)


def _answer(head: bytes) -> bytes:
    """Return what a probe is answered; nothing of other requests."""
    method, _, rest = head.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    if target not in _PROBES or method not in (b"GET", b"HEAD"):
        return b""
    if target == b"/ready":
        return refusal(errors.STANDBY, is_head=method == b"HEAD")
    return _ALIVE + (b"OK" if method == b"GET" else b"")
