"""A client's connection and one to the leader, made one: bytes go both ways as they come, and nobody here looks at them.

The leader decides about the client: when it is late, silent, too slow or done, it ends its side, and that is passed on. What
is kept here is one read of each direction; so whoever does not read stops whoever sends. A leader that is lost with something that
it has not answered says nothing any more: then what is said in its place is that nobody knows what became of it.
"""

import select

import trio

from bunqueue_trio.config import LINGER_S, WRITE_TIMEOUT_S
from bunqueue_trio.transports.wire import Wire

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
# A leader that reads on after its last word, so that this is seen, does it for LINGER_S.
_AFTERWARDS_S = LINGER_S + 1


class _Talk:
    """What can be seen of who has the word."""

    __slots__ = ("ends", "owes")

    def __init__(self) -> None:
        self.owes = False
        """The client has said something since the leader's last word."""
        self.ends = False
        """It is no HTTP any more, or the last answer was the last one."""

    def heard(self, data: bytes) -> None:
        """Note what the leader says."""
        self.owes = False
        if data.startswith(b"HTTP/1."):
            head = data.partition(b"\r\n\r\n")[0].lower()
            self.ends = head[9:12] == b"101" or b"\r\nconnection: close" in head


async def splice(
    client: trio.abc.Stream, leader: trio.abc.Stream, buffer: memoryview, unread: bytes = b"", lost: bytes = b""
) -> None:
    """Pass on what comes on either stream, ``unread`` first, until both have ended or one is gone; whoever called closes them.

    ``lost``: what a client is answered whose request the leader has not answered at its end.
    """
    from_client, from_leader = Wire(client, buffer), Wire(leader, buffer)
    talk = _Talk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_pass_on, from_client, from_leader, unread, nursery.cancel_scope, talk)
        is_lost = False
        try:
            await _bring_back(from_leader, from_client, talk)
            is_lost = bool(lost) and talk.owes and not talk.ends
            if is_lost:
                with trio.fail_after(WRITE_TIMEOUT_S):
                    await from_client.send(lost)
            if isinstance(client, trio.abc.HalfCloseableStream):
                await client.send_eof()
        except (*_GONE, trio.TooSlowError):
            # The client is gone, or as good as that.
            nursery.cancel_scope.cancel()
        # Whoever gets that answer reads it only if it can still send.
        if _is_closed(leader) and not is_lost:
            nursery.cancel_scope.cancel()
        nursery.cancel_scope.deadline = trio.current_time() + _AFTERWARDS_S


async def _pass_on(client: Wire, leader: Wire, data: bytes, both: trio.CancelScope, talk: _Talk) -> None:
    is_taken = True
    while True:
        if data and is_taken:
            talk.owes = True
            try:
                await leader.send(data)
            except _GONE:
                # It has said its last word, which a client sees only if it can still send.
                is_taken = False
        try:
            data = await client.receive()
        except _GONE:
            # Without a goodbye: the leader is to see the same.
            both.cancel()
            return
        if not data:
            break
    if is_taken:
        try:
            await leader.send_eof()
        except _GONE:
            # It has ended, and what it said last is on its way.
            pass


async def _bring_back(leader: Wire, client: Wire, talk: _Talk) -> None:
    while True:
        try:
            data = await leader.receive()
        except _GONE:
            # It has closed without reading all: that is its end, too.
            return
        if not data:
            return
        talk.heard(data)
        with trio.fail_after(WRITE_TIMEOUT_S):
            await client.send(data)


def _is_closed(leader: trio.abc.Stream) -> bool:
    """Return whether the leader neither sends nor reads any more; between two machines nobody can tell."""
    if not isinstance(leader, trio.SocketStream):
        return False
    if leader.socket.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(leader.socket.fileno(), 0)
    return any(what & select.POLLHUP for _, what in poll.poll(0))
