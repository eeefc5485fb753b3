"""What a door opens to the leader: a stream of frames, a question for room, or the connection of one client."""

import structlog
import trio

from bunqueue_trio.doors.answering import Answering
from bunqueue_trio.doors.link import FRAMES, ROOM, ROOM_MADE
from bunqueue_trio.errors import InvariantBroken, leaves
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.transports.listener import Http

_log = structlog.get_logger()


async def serve_opened(
    server: Server, http: Http, stream: trio.abc.Stream, address: str, door: object, *, name: str = "",
    looks: bool = False,
) -> None:  # fmt: skip
    """Serve a connection that ``door`` has opened: for one client at ``address``, or with the requests of many.

    ``name``: how the door is called, for people. ``looks``: whether the door is to answer now and then, because nobody else looks whether it hangs.
    """
    if address == FRAMES:
        try:
            await Answering(server, http.shared, stream, name).run(looks=looks)
        except Exception as error:
            # Ours, not what a library asserts of what a client has sent.
            if any(isinstance(leaf, InvariantBroken) for leaf in leaves(error)):
                raise
            # It opens the next stream.
            _log.exception("the requests of a door cannot be answered")
        finally:
            await trio.aclose_forcefully(stream)
    elif address == ROOM:
        try:
            if http.make_room(door):
                await stream.send_all(ROOM_MADE)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # It has not waited for it.
            pass
        finally:
            await trio.aclose_forcefully(stream)
    else:
        server.doors.connections += 1
        try:
            await http.serve(stream, address, door)
        finally:
            server.doors.connections -= 1
