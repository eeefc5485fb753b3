"""The process of a door, behind its first step (``start.py``).

It gets the settings on its standard input, its end of the link by its descriptor, and over that the sockets that it accepts on.
It ends when the leader says so and its connections have ended, and at once when the leader is gone.
"""

import pickle
import signal
import socket
import sys

import structlog
import trio

from bunqueue_trio.config import LAST_S, Settings
from bunqueue_trio.doors.accepting import Stop, accept
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.link import STOP, LocalLink
from bunqueue_trio.errors import StartupError
from bunqueue_trio.logs.lines import configure_logging, flush_logs
from bunqueue_trio.runtime.deadline import LastDeadline
from bunqueue_trio.runtime.memory import keep_freed
from bunqueue_trio.transports.sockets import listen_again, tls_context, wrapped
from bunqueue_trio.transports.tls import handshake_turns

_log = structlog.get_logger()

# For the end of a door whose leader is gone: nothing that it still does matters.
_GONE_S = 2.0


def main() -> None:
    """Be a door until the leader ends it, or is gone."""
    number, control = int(sys.argv[1]), socket.socket(fileno=int(sys.argv[3]))
    given = sys.stdin.buffer.read()
    if not given:
        # The leader was gone before it could say anything.
        return
    accepting = accepted_on(control, sys.argv[4:])
    if accepting is None:
        return
    settings: Settings = pickle.loads(given)  # noqa: S301 - from our parent, by a pipe of its own
    configure_logging(settings.log_level, settings.log_format, door=number)
    try:
        with LastDeadline() as last:
            trio.run(_run, settings, control, accepting, last)
    except StartupError as error:
        _log.critical(str(error))
        sys.exit(2)
    finally:
        flush_logs()


def accepted_on(control: socket.socket, said: list[str]) -> list[socket.socket] | None:
    """Return the sockets to accept on, which the leader sends or, if it is of an older version, has handed down; None: it stops, or is gone."""
    if not said[0].startswith("+"):
        return [socket.socket(fileno=int(number)) for number in said]
    sockets: list[socket.socket] = []
    while len(sockets) < int(said[0]):
        try:
            message, descriptors, _, _ = socket.recv_fds(control, len(STOP), 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return None
        if message in (b"", STOP):
            return None
        # Else it only looks.
        sockets += [socket.socket(fileno=descriptor) for descriptor in descriptors]
    return sockets


async def _run(settings: Settings, control: socket.socket, accepting: list[socket.socket], last: LastDeadline) -> None:
    link = LocalLink(trio.socket.from_stdlib_socket(control))
    context, turns = tls_context(settings), handshake_turns()
    try:
        sockets = [trio.socket.from_stdlib_socket(listen_again(each)) for each in accepting]
    except OSError as error:
        raise StartupError(f"cannot listen: {error.strerror}") from None
    listeners = [wrapped(trio.SocketListener(each), context, turns) for each in sockets]
    stop = Stop()
    async with trio.open_nursery() as whole:

        async def watch() -> None:
            await link.hear(stop.in_hurry)
            last.set(_GONE_S, 1)
            whole.cancel_scope.cancel()

        async def hear_signals() -> None:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                # The leader starts doors with it blocked.
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                async for _ in signals:
                    stop.wanted.set()

        whole.start_soon(watch)
        whole.start_soon(hear_signals)
        keep_freed()
        _log.debug("door is open", sockets=len(listeners))
        await accept(listeners, FramingDoor(link, settings), stop, settings.shutdown_grace_ms / 1000, link.say_closed)
        last.set(LAST_S, 1)
        whole.cancel_scope.cancel()
