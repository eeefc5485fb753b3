"""The process of a door: ``python -m bunqueue_trio.doors.process NUMBER LEADER LINK SOCKET...``, started by the leader and by nobody else.

It gets the settings on its standard input, the number of the leader's process, and by their descriptors its end of the link and the sockets that it accepts on.
It ends when the leader says so and its connections have ended, and at once when the leader is gone.
"""

import ctypes
import os
import pickle
import signal
import socket
import sys

import structlog
import trio

from bunqueue_trio.config import LAST_S, Settings
from bunqueue_trio.doors.accepting import Stop, accept
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.link import LocalLink
from bunqueue_trio.errors import StartupError
from bunqueue_trio.logs.lines import configure_logging, flush_logs
from bunqueue_trio.runtime.deadline import LastDeadline
from bunqueue_trio.runtime.memory import keep_freed
from bunqueue_trio.transports.sockets import listen_again, tls_context, wrapped
from bunqueue_trio.transports.tls import handshake_turns

_log = structlog.get_logger()

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
# For the end of a door whose leader is gone: nothing that it still does matters.
_GONE_S = 2.0


def main() -> None:
    """Be a door until the leader ends it, or is gone."""
    # Ctrl-C in a terminal reaches all of a server's processes: the leader decides when its doors stop.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    number, leader, control, *accepting = map(int, sys.argv[1:])
    _end_with(leader)
    given = sys.stdin.buffer.read()
    if not given:
        # The leader was gone before it could say anything.
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


async def _run(settings: Settings, control: int, accepting: list[int], last: LastDeadline) -> None:
    link = LocalLink(trio.socket.from_stdlib_socket(socket.socket(fileno=control)))
    context, turns = tls_context(settings), handshake_turns()
    try:
        sockets = [trio.socket.from_stdlib_socket(listen_again(socket.socket(fileno=number))) for number in accepting]
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


def _end_with(leader: int) -> None:
    """Let the kernel end this process when the one that started it ends, even while it is stopped, where the kernel can."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        # The end of the link says it, to a process that runs.
        pass
    # It was gone before.
    if os.getppid() != leader:
        sys.exit(0)


if __name__ == "__main__":
    main()
