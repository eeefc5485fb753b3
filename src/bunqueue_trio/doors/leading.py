"""The leader's side of its doors: their sockets, their processes, and what they hand over.

A door is a supervised task that is a process. It listens on sockets that this process has opened and keeps open: what waits
in one while its door is started anew is served then. At a stop doors are told first, accept no more, and end with
their last connection; whatever happens to this process, its end of each link ends with it, and so do the doors.
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import cast

import structlog
import trio

from bunqueue_trio.config import DRAIN_S
from bunqueue_trio.doors.link import STOP, receive_connections
from bunqueue_trio.doors.remote import RemoteDoors, announced, open_link
from bunqueue_trio.errors import DoorLost
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import Child, supervise
from bunqueue_trio.storage.store import Announcer, AwaitedStore
from bunqueue_trio.transports.listener import Doors, Http
from bunqueue_trio.transports.sockets import close_all, open_listeners

_log = structlog.get_logger()

Serve = Callable[[trio.abc.Stream, str], Awaitable[None]]

_CLOSED_WITHIN_S = DRAIN_S + 1  # a door that does not hear in that time is busy, or hangs


_REAPED_WITHIN_S = 2  # what was killed ends at once, unless the kernel hangs


class _Door:
    """One door, over all its processes."""

    def __init__(self, number: int, sockets: list[socket.socket]) -> None:
        self.number = number
        self.sockets = sockets
        self.closed = trio.Event()
        """It accepts no more, and has handed over all that it had accepted."""
        self.ended = trio.Event()


class DoorProcesses:
    """The doors of one server; see :class:`bunqueue_trio.transports.listener.Doors`."""

    def __init__(self, server: Server, sockets: list[list[socket.socket]]) -> None:
        self._server = server
        self._doors = [_Door(number, its) for number, its in enumerate(sockets, 1)]

    async def run(self, serve: Serve, connections: trio.Nursery) -> None:
        """Start the doors, and keep them running until the server stops.

        Raises:
            DoorLost: one has ended too often.
        """
        async with trio.open_nursery() as nursery:
            for door in self._doors:
                child = Child(f"door {door.number}", partial(self._run, door, serve, connections))
                self._server.serving.append(child)
                nursery.start_soon(self._keep, door, child)

    async def wait_closed(self) -> None:
        """Wait until no door accepts any more; not for long."""
        with trio.move_on_after(_CLOSED_WITHIN_S):
            for door in self._doors:
                await door.closed.wait()

    async def wait_ended(self) -> None:
        """Wait until all doors have ended."""
        for door in self._doors:
            await door.ended.wait()

    async def _keep(self, door: _Door, child: Child) -> None:
        try:
            await supervise(child)
        except DoorLost as lost:
            raise DoorLost(f"{lost}, and so did those before it; the server ends") from None
        finally:
            door.closed.set()
            door.ended.set()
            close_all(door.sockets)

    async def _run(self, door: _Door, serve: Serve, connections: trio.Nursery) -> None:
        """Run one process of a door to its end, which is to be that of the server.

        Raises:
            DoorLost: it came earlier.
        """
        stop = self._server.stop
        if stop.is_set():
            return
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, process = trio.socket.from_stdlib_socket(mine), None
        try:
            with its:
                process = await self._start(door, its)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, process, door, control)
                nursery.start_soon(self._receive, door, control, serve, connections)
                await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            control.close()
            if process is not None:
                process.kill()
                with trio.move_on_after(_REAPED_WITHIN_S) as reaping:
                    reaping.shield = True
                    await process.wait()
        if not stop.is_set():
            raise DoorLost(f"door {door.number}: its process {_ending(process.returncode)}")

    async def _start(self, door: _Door, control: socket.socket) -> trio.Process:
        descriptors = [control.fileno(), *(sock.fileno() for sock in door.sockets)]
        command = [sys.executable, "-P", "-m", "bunqueue_trio.doors.process", str(door.number), *map(str, descriptors)]
        return await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, pass_fds=descriptors, env=os.environ | {"PYTHONPATH": _code_paths()}
        )

    async def _tell(self, process: trio.Process, door: _Door, control: trio.socket.SocketType) -> None:
        """Give a door the settings, and tell it when the server stops."""
        assert process.stdin is not None
        try:
            async with process.stdin:
                await process.stdin.send_all(pickle.dumps(self._server.settings))
            await self._server.stop.wait()
            close_all(door.sockets)
            await control.send(STOP)
        except (OSError, trio.BrokenResourceError):
            pass  # it has ended, which is noticed elsewhere

    async def _receive(
        self, door: _Door, control: trio.socket.SocketType, serve: Serve, connections: trio.Nursery
    ) -> None:
        doors = self._server.doors
        doors.connected += 1

        async def counted(stream: trio.SocketStream, address: str) -> None:
            doors.connections += 1
            try:
                await serve(stream, address)
            finally:
                doors.connections -= 1

        def start(stream: trio.SocketStream, address: str) -> None:
            connections.start_soon(counted, stream, address)

        try:
            await receive_connections(control, start)
        finally:
            doors.connected -= 1
        if self._server.stop.is_set():
            door.closed.set()


def _code_paths() -> str:
    """Return where a door is to find its code: where this process does, and nowhere in the working directory that this one does not."""
    return os.pathsep.join(str(Path(path).absolute()) for path in sys.path)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with {code}"


async def http(  # noqa: ASYNC128 - `run` calls started, when the listeners are accepting
    server: Server, *, task_status: trio.TaskStatus[list[str]]
) -> None:
    """Serve HTTP on the addresses of the settings until the server stops, by doors if they want some.

    Raises:
        StartupError: an address cannot be listened on, or TLS is not set up right.
        DoorLost: a door has ended too often.
        StoreError: where this server is reached could not be told.
    """
    sockets: list[list[socket.socket]] = [[] for _ in range(server.settings.doors)]
    listeners, addresses = await open_listeners(server.settings, sockets)
    doors: list[Doors] = [DoorProcesses(server, sockets)] if sockets else []
    if not server.store.at_once:
        doors += await _open_to_others(server, cast("AwaitedStore", server.store).announcer())
    async with trio.open_nursery() as connections:
        transport = Http(server, connections, express=server.settings.express)
        await transport.run(listeners, partial(task_status.started, addresses), doors)


async def _open_to_others(server: Server, announcer: Announcer) -> list[Doors]:
    """Listen for servers that wait to lead, and tell them where."""
    try:
        listeners = await open_link(server.settings)
        if not listeners:
            return []
        key = await announcer.key()
        await announcer.tell(announced(listeners, announcer.own_host()))
        return [RemoteDoors(server, listeners, key)]
    finally:
        announcer.close()
