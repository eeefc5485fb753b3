"""What Hypercorn's WebSockets do here that they do not by themselves: how they end, and what of a size goes out together.

It takes the place of some methods of Hypercorn, for all of its servers in this process.
"""

from collections.abc import Generator
from typing import Any

import trio
from hypercorn.protocol import events, ws_stream
from hypercorn.protocol.events import Data
from hypercorn.protocol.ws_stream import WSStream
from wsproto.connection import Connection, ConnectionState
from wsproto.events import CloseConnection, Event, TextMessage

from bunqueue_trio.config import GOODBYE_S, RECEIVE_BYTES, SESSION_SEND_BYTES
from bunqueue_trio.transports.frames import text_frames

GONE = 1006
# In a scope: what its WebSocket's client said when it closed it.
CLOSE_CODE = "bunqueue.close-code"
# In the scope of a WebSocket that still answers earlier commands: how its client has ended it, if it has.
GOODBYE = "bunqueue.goodbye"

# Hypercorn has no setting for it, and unpacks a whole frame before it looks at its size: 64 KiB become 64 MiB.
ws_stream.server_extensions_handshake = lambda *_: None  # type: ignore[attr-defined]
_send_event = WSStream._send_wsproto_event  # noqa: SLF001 - nothing else tells the code
_take_event = WSStream.handle


class Goodbye(bytes):
    """Comes to the application behind the last message of a client that has closed; it is answered when that is ``over``."""

    over: trio.Event

    @classmethod
    def make(cls) -> "Goodbye":
        """Return one that is not over."""
        # Quart takes an empty body for a missing one.
        goodbye = cls(b"goodbye")
        goodbye.over = trio.Event()
        return goodbye


class _Connection(Connection):
    """Says by a close frame which rule of the protocol a client has broken; Hypercorn would just hang up."""

    broken = False

    def events(self) -> Generator[Event, None, None]:
        for event in super().events():
            if isinstance(event, CloseConnection) and self.state is ConnectionState.OPEN:
                self.broken = True
                # Of a close frame, which Hypercorn answers with its code.
                self._state = ConnectionState.REMOTE_CLOSING
            yield event


async def _send_in_order(stream: WSStream, event: Event) -> None:
    """Answer the close frame of a client when it has the replies to what it asked before, and keep its code.

    Hypercorn would drop these, and says 1006 of every end to the application.
    """
    scope: Any = stream.scope
    connection: Any = stream.connection
    if connection.state is ConnectionState.REMOTE_CLOSING and isinstance(event, CloseConnection):
        scope[CLOSE_CODE] = event.code
        if GOODBYE in scope and not connection.broken:
            assert stream.app_put is not None
            scope[GOODBYE] = goodbye = Goodbye.make()
            with trio.move_on_after(GOODBYE_S):
                await stream.app_put({"type": "websocket.receive", "bytes": goodbye, "text": None})
                await goodbye.over.wait()
    elif isinstance(event, TextMessage) and _takes_text(connection, len(event.data)):
        for frame in text_frames(event.data.encode(), SESSION_SEND_BYTES):
            await stream.send(Data(stream_id=stream.stream_id, data=frame))
        return
    await _send_event(stream, event)


def _takes_text(connection: _Connection, size: int) -> bool:
    """Return whether a text goes past the library: one that it would drop, or would copy several times in one step."""
    if connection.state is ConnectionState.REMOTE_CLOSING:
        return not connection.broken
    return connection.state is ConnectionState.OPEN and size > RECEIVE_BYTES


async def _take_and_tell(stream: WSStream, event: events.Event) -> None:
    """Tell the application, too, when what a client says before it is let in ends its connection.

    Hypercorn refuses that client and says no more of it, not even that it is gone: its session would last for ever.
    """
    was_closed = stream.closed
    await _take_event(stream, event)
    if stream.closed and not was_closed and stream.app_put is not None and not isinstance(event, events.StreamClosed):
        await stream.app_put({"type": "websocket.disconnect", "code": GONE, "reason": None})


ws_stream.Connection = _Connection  # type: ignore[attr-defined]
WSStream._send_wsproto_event = _send_in_order  # type: ignore[assignment, method-assign]  # noqa: SLF001 - see above
WSStream.handle = _take_and_tell  # type: ignore[assignment, method-assign]
