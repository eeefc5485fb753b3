"""What a server does while another one leads its store: it is a door to that one, as long as it reaches it.

When it does not, it says that it lives, is not ready, and can do nothing yet: one answer to a connection, which ends with it.
Requests wait a while for that, since the next leader may be about to serve; probes do not.
"""

import structlog
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
from bunqueue_trio.doors.accepting import Stop, accept
from bunqueue_trio.doors.door import Client
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.remote import Certificate, RemoteLink, link_certificate
from bunqueue_trio.protocol.again import repeatable
from bunqueue_trio.runtime.cluster import DoorFigures
from bunqueue_trio.transports.sockets import Opened, open_listeners

_log = structlog.get_logger()

# How often somebody looks who has waited for too long, while there is no leader.
_GIVE_UP_S = 0.2
# As of any request.
_HEAD_BYTES = 16 * 1024
_ALIVE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
_READS = (b"GET", b"HEAD")


class Waiting:
    """A server that waits, as whoever has started it sees it. When it leads itself it may still owe clients something: see :meth:`leave`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.link: RemoteLink = RemoteLink()
        self._stop = Stop()
        self._closed = trio.Event()
        self._over = trio.Event()
        self._room: WaitingRoom | None = None
        self._keeps = False
        self.kept: Opened | None = None
        """What is listened on already, for the server that this is now: who connects meanwhile waits for that."""
        self.certificate: Certificate | None = link_certificate(settings)
        """Of the link: by the time that this server leads, its files may be away or broken."""

    @property
    def has_begun(self) -> bool:
        """Whether it may have clients."""
        return self._room is not None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer on the addresses of the settings, through the leader where that is possible, until :meth:`stop` or :meth:`leave`.

        Raises:
            StartupError: an address cannot be listened on.
        """
        opened = await open_listeners(self._settings)
        _log.info("waiting to lead", addresses=opened.addresses)
        self._room, self._opened = WaitingRoom(self.link, self._settings), opened
        task_status.started()
        grace_s = self._settings.shutdown_grace_ms / 1000
        try:
            await accept(opened.listeners, self._room, self._stop, grace_s, self._note_closed, lambda: self._keeps)
        finally:
            self._closed.set()
            self._over.set()

    async def _note_closed(self) -> None:
        self._closed.set()
        await trio.lowlevel.checkpoint()

    async def stop(self) -> None:
        """Accept no more, and answer what is under way; return when that is done."""
        self._stop.in_hurry()
        if self._room is not None:
            await self._over.wait()

    async def leave(self) -> None:
        """Accept no more, so that this server can itself; what clients have asked of a leader that died is for the next one."""
        self._keeps = True
        self._stop.wanted.set()
        if self._room is not None:
            await self._closed.wait()
            self.kept = self._opened

    def note_leader(self, where: str | None, key: bytes) -> DoorFigures:
        """Note where the leader is reached; return how this door to it is doing."""
        self.link.note_leader(where, key)
        if self._room is None:
            return DoorFigures()
        return DoorFigures(self.link.is_up, self._room.connections, self._room.asking.busy, self.link.is_gone)

    def note_served(self, where: str | None, key: bytes) -> None:
        """Ask what clients still wait for of this server, which is reached at ``where`` like any leader; None: it is not."""
        if where is not None:
            self.link.note_leader(where, key, is_own=True)
        elif self._room is not None:
            self._room.asking.give_up(self._room.refusals.of(errors.STANDBY))


class WaitingRoom(FramingDoor):
    """The door of a server that waits; without ``EXPRESS`` it speaks no frames, since the leader does not either."""

    def __init__(self, link: RemoteLink, settings: Settings) -> None:
        super().__init__(link, settings, repeatable)
        self._remote = link
        self._asking = trio.CapacityLimiter(WAITING_ROOM_ASKING)
        self._patient = 0
        # Who has died keeps others from leading for as long as its lease: the next leader is worth waiting for.
        self._patience_s = settings.store_lease_ms / 1000 + LINK_PATIENCE_S

    async def run(self) -> None:
        """Watch the link, and ask the leader whenever it can be reached; who has waited too long for that gets an answer."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._remote.watch)
            while True:
                if await self._remote.wait_up(_GIVE_UP_S):
                    await self.ask_leader()
                self.asking.give_up(self.refusals.of(errors.STANDBY), trio.current_time() - self._patience_s)

    async def serve_by_leader(self, client: Client, unread: bytes = b"") -> bool:
        """Do it while the leader can be reached."""
        client.unread = unread
        return self._remote.is_up and await super().serve_by_leader(client, unread)

    def own_answer(self, request: bytes) -> bytes:
        """Say that it lives, whatever the leader does."""
        return _answer_live(request)

    async def serve_alone(self, client: Client) -> None:
        """Answer one request, if there is one soon; it waits for the leader, unless it is a probe."""
        head, begun = b"", client.unread
        with trio.move_on_after(WAITING_ROOM_S):
            async with self._asking:
                head = await _head(client.stream, begun)
        client.idle, client.has_waited = False, True
        if head and (answer := self._answer_probe(head)):
            await self._goodbyes.refuse(client.stream, answer, WAITING_ROOM_S)
        elif head and not (await self._wait_up() and await self.serve_by_leader(client, head)):
            answer = self.refusals.of(errors.STANDBY, is_head=head.startswith(b"HEAD "))
            await self._goodbyes.refuse(client.stream, answer, WAITING_ROOM_S)

    def _answer_probe(self, head: bytes) -> bytes:
        """Return what a probe is answered while there is no leader; nothing of other requests."""
        method, target = _asked_for(head)
        if target == b"/ready" and method in _READS:
            return self.refusals.of(errors.STANDBY, is_head=method == b"HEAD")
        return _answer_live(head)

    async def _wait_up(self) -> bool:
        """Return whether the leader can be reached now, or soon."""
        if self._patient >= LINK_PATIENT_MAX:
            return False
        self._patient += 1
        try:
            return await self._remote.wait_up(self._patience_s)
        finally:
            self._patient -= 1


async def _head(stream: trio.abc.Stream, head: bytes) -> bytes:
    while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
        more = await stream.receive_some(RECEIVE_BYTES)
        if not more:
            return b""
        head += more
    return head


def _asked_for(head: bytes) -> tuple[bytes, bytes]:
    method, _, rest = head.partition(b" ")
    return method, rest.partition(b" ")[0].partition(b"?")[0]


def _answer_live(head: bytes) -> bytes:
    method, target = _asked_for(head)
    if target not in (b"/healthz", b"/live") or method not in _READS:
        return b""
    return _ALIVE + (b"OK" if method == b"GET" else b"")
