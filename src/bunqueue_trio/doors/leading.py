"""The leader's side of its doors: their sockets, their processes, and what they hand over.

A door is a supervised task that is a process. It listens on sockets that this process has opened and keeps open: what waits
in one while its door is started anew is served then. At a stop doors learn it first, accept no more, and end with
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
from bunqueue_trio.doors.answering import serve_opened
from bunqueue_trio.doors.link import STOP, receive_connections
from bunqueue_trio.doors.remote import RemoteDoors, announced, open_link
from bunqueue_trio.errors import DoorLost
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import Child, supervise
from bunqueue_trio.storage.awaited import Announcer, AwaitedStore
from bunqueue_trio.transports.listener import Doors, Http
from bunqueue_trio.transports.sockets import close_all, open_listeners

_log = structlog.get_logger()

_CLOSED_WITHIN_S = DRAIN_S + 1  # a door that does not hear in that time is busy, or hangs


_EXIT_S = 0.5  # a process that has died ends its link a moment before it is gone
_REAPED_WITHIN_S = 2  # what was killed ends at once, unless the kernel hangs


class _Door:
    """A door, over all its processes."""

    def __init__(self, number: int, sockets: list[socket.socket]) -> None:
        self.number = number
        self.sockets = sockets


class _Process:
    """One process of a door."""

    def __init__(self) -> None:
        self.over: trio.Event = trio.Event()
        """Set when it accepts no more, and has handed over what it had accepted. It may still have connections."""
        self.code: int | None = None
        """How it has ended, if it has."""


class DoorProcesses:
    """The doors of one server; see :class:`bunqueue_trio.transports.listener.Doors`."""

    def __init__(self, server: Server, sockets: list[list[socket.socket]]) -> None:
        self._server = server
        self._doors = [_Door(number, its) for number, its in enumerate(sockets, 1)]
        self._processes: dict[_Process, None] = {}
        self._ended = trio.Event()

    async def run(self, http: Http, connections: trio.Nursery) -> None:
        """Start the doors, and keep them running until the server stops.

        Raises:
            DoorLost: one has ended too often.
        """
        async with trio.open_nursery() as processes:
            for door in self._doors:
                live = partial(processes.start, self._live, door, http, connections)
                child = Child(f"door {door.number}", partial(self._run, door, live))
                self._server.serving.append(child)
                processes.start_soon(self._keep, door, child)
        self._ended.set()

    async def wait_closed(self) -> None:
        """Wait until no door accepts any more; not for long."""
        with trio.move_on_after(_CLOSED_WITHIN_S):
            for process in list(self._processes):
                await process.over.wait()

    async def wait_ended(self) -> None:
        """Wait until all doors have ended."""
        await self._ended.wait()

    async def _keep(self, door: _Door, child: Child) -> None:
        try:
            await supervise(child)
        except DoorLost as lost:
            raise DoorLost(f"{lost}, and so did those before it; the server ends") from None
        finally:
            close_all(door.sockets)

    async def _run(self, door: _Door, live: Callable[[], Awaitable[_Process]]) -> None:
        """Have a process of a door, and the next one when that ends by itself, until the server stops.

        Raises:
            DoorLost: one has ended otherwise, or could not be started.
        """
        stop = self._server.stop
        while not stop.is_set():
            try:
                process = await live()
            except OSError as error:
                raise DoorLost(f"door {door.number}: its process could not be started: {error}") from None
            await process.over.wait()
            if stop.is_set():
                return
            if process.code:
                raise DoorLost(f"door {door.number}: its process {_ending(process.code)}")
            _log.info("a door ends by itself, starting the next", door=door.number)

    async def _live(
        self, door: _Door, http: Http, connections: trio.Nursery, *, task_status: trio.TaskStatus[_Process]
    ) -> None:
        """Be with one process of a door from its start to its end; it does not outlive this."""
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, process, told = trio.socket.from_stdlib_socket(mine), None, _Process()
        self._processes[told] = None
        try:
            with its:
                process = await self._start(door, its)
            task_status.started(told)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, process, door, control)
                nursery.start_soon(self._receive, process, told, control, http, connections)
                told.code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            told.over.set()
            del self._processes[told]
            control.close()
            if process is not None:
                process.kill()
                with trio.move_on_after(_REAPED_WITHIN_S) as reaping:
                    reaping.shield = True
                    await process.wait()

    async def _start(self, door: _Door, control: socket.socket) -> trio.Process:
        descriptors = [control.fileno(), *(sock.fileno() for sock in door.sockets)]
        command = [sys.executable, "-P", "-m", "bunqueue_trio.doors.process", str(door.number), *map(str, descriptors)]
        return await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
            env=os.environ | {"PYTHONPATH": _code_paths()},
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
        self, process: trio.Process, told: _Process, control: trio.socket.SocketType, http: Http,
        connections: trio.Nursery,
    ) -> None:  # fmt: skip
        doors = self._server.doors
        doors.connected += 1

        def start(stream: trio.SocketStream, address: str) -> None:
            connections.start_soon(serve_opened, self._server, http, stream, address)

        try:
            await receive_connections(control, start)
        finally:
            doors.connected -= 1
        with trio.move_on_after(_EXIT_S):
            told.code = await process.wait()
        told.over.set()


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
        StoreError: it could not be written where this server is reached.
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
