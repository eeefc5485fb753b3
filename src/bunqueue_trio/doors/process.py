"""The process of a door: ``python -m bunqueue_trio.doors.process NUMBER LINK SOCKET...``, started by the leader and by nobody else.

It gets the settings on its standard input, and by their descriptors its end of the link and the sockets that it accepts on.
It ends when the leader says so and its connections have ended, and at once when the leader is gone.
"""

import pickle
import signal
import socket
import sys
from functools import partial

import structlog
import trio

from bunqueue_trio.config import DRAIN_S, LAST_S, Settings
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.link import LocalLink
from bunqueue_trio.errors import StartupError
from bunqueue_trio.logs.lines import configure_logging, flush_logs
from bunqueue_trio.runtime.deadline import LastDeadline
from bunqueue_trio.transports.sockets import Listener, tls_context, wrapped

_log = structlog.get_logger()

_GONE_S = 2.0  # for the end of a door whose leader is gone: nothing that it still does matters


def main() -> None:
    """Be a door until the leader ends it, or is gone."""
    # Ctrl-C in a terminal reaches all of a server's processes: the leader decides when its doors stop.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)
    number, control, *accepting = map(int, sys.argv[1:])
    given = sys.stdin.buffer.read()
    if not given:
        return  # the leader was gone before it could say anything
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
    context = tls_context(settings)
    listeners = [
        wrapped(trio.SocketListener(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))), context)
        for descriptor in accepting
    ]
    stop = trio.Event()
    async with trio.open_nursery() as whole:

        async def watch() -> None:
            await link.hear(stop.set)
            last.set(_GONE_S, 1)
            whole.cancel_scope.cancel()

        async def hear_signals() -> None:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    stop.set()

        whole.start_soon(watch)
        whole.start_soon(hear_signals)
        _log.debug("door is open", sockets=len(listeners))
        await accept(listeners, link, settings, stop)
        last.set(LAST_S, 1)
        whole.cancel_scope.cancel()


async def accept(listeners: list[Listener], link: LocalLink, settings: Settings, stop: trio.Event) -> None:
    """Accept on ``listeners`` until ``stop``, and serve what was accepted until it ends, within the grace."""
    door = FramingDoor(link, settings)
    async with trio.open_nursery() as asking:
        asking.start_soon(door.run)
        await _accept(listeners, link, settings, stop, door)
        asking.cancel_scope.cancel()


async def _accept(
    listeners: list[Listener], link: LocalLink, settings: Settings, stop: trio.Event, door: FramingDoor
) -> None:
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(partial(trio.serve_listeners, door.serve, [listener], handler_nursery=connections))
            await stop.wait()
            await trio.sleep(DRAIN_S)  # what the kernel has accepted for us is not to be reset
            nursery.cancel_scope.cancel()
        for listener in listeners:
            await listener.aclose()
        await link.close_sending()
        door.stop()
        connections.cancel_scope.deadline = trio.current_time() + settings.shutdown_grace_ms / 1000


if __name__ == "__main__":
    main()
