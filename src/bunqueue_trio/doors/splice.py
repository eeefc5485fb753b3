"""A client's connection and one to the leader, made one: bytes go both ways as they come, and nobody here looks at them.

The leader decides about the client: when it is late, silent, too slow or done, it ends its side, and that is passed on. What
is kept here is one read of each direction; so whoever does not read stops whoever sends.
"""

import select

import trio

from bunqueue_trio.config import LINGER_S, WRITE_TIMEOUT_S
from bunqueue_trio.transports.wire import Wire

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
# A leader that reads on after its last word, so that this is seen, does it for LINGER_S.
_AFTERWARDS_S = LINGER_S + 1


async def splice(client: trio.abc.Stream, leader: trio.abc.Stream, buffer: memoryview, unread: bytes = b"") -> None:
    """Pass on what comes on either stream, ``unread`` first, until both have ended or one is gone; whoever called closes them."""
    from_client, from_leader = Wire(client, buffer), Wire(leader, buffer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_pass_on, from_client, from_leader, unread, nursery.cancel_scope)
        try:
            await _bring_back(from_leader, from_client)
            if isinstance(client, trio.abc.HalfCloseableStream):
                await client.send_eof()
        except (*_GONE, trio.TooSlowError):
            # The client is gone, or as good as that.
            nursery.cancel_scope.cancel()
        if _is_closed(leader):
            nursery.cancel_scope.cancel()
        nursery.cancel_scope.deadline = trio.current_time() + _AFTERWARDS_S


async def _pass_on(client: Wire, leader: Wire, data: bytes, both: trio.CancelScope) -> None:
    is_taken = True
    while True:
        if data and is_taken:
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


async def _bring_back(leader: Wire, client: Wire) -> None:
    while True:
        try:
            data = await leader.receive()
        except _GONE:
            # It has closed without reading all: that is its end, too.
            return
        if not data:
            return
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
