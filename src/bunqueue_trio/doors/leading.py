"""The leader's side of its doors: their sockets, their processes, and what they hand over.

A door is a supervised task that is a process. It listens on sockets that this process has opened and keeps open: what waits
in one while its door is started anew is served then. At a stop doors learn it first, accept no more, and end with
their last connection; whatever happens to this process, its end of each link ends with it, and so do the doors.
"""

import math
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import cast

import structlog
import trio

from bunqueue_trio.config import (
    DOOR_LOOK_S,
    DOOR_LOOKS,
    DOOR_START_LOOKS,
    DOOR_STARTS_S,
    DRAIN_S,
    MAINTENANCE_TOLD_MS,
)
from bunqueue_trio.doors.link import LOOK, STOP, receive_connections, send_sockets
from bunqueue_trio.doors.opened import serve_opened
from bunqueue_trio.doors.remote import RemoteDoors, announced, newest_certificate, open_link
from bunqueue_trio.doors.waiting_room import Waiting
from bunqueue_trio.errors import DoorLost
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import Child, supervise
from bunqueue_trio.storage.awaited import AwaitedStore
from bunqueue_trio.transports.listener import Doors, Http
from bunqueue_trio.transports.sockets import Opened, close_all, deal_out, listen_no_more, open_listeners

_log = structlog.get_logger()

# A door that takes longer to hear is busy, or hangs.
_CLOSED_WITHIN_S = DRAIN_S + 1


# A process that has died ends its link a moment before it is gone.
_EXIT_S = 0.5
# The first failure is mostly a passing one: who waits in the socket of a door is still served by the next try.
_TRIES_UNSEEN = 1


class _Door:
    """A door, over all its processes."""

    def __init__(self, number: int, sockets: list[socket.socket]) -> None:
        self.number = number
        self.sockets = sockets


class _Process:
    """One process of a door."""

    def __init__(self) -> None:
        self.over: trio.Event = trio.Event()
        """Set when it accepts no more. It may still have connections, and pass them on."""
        self.ended: trio.Event = trio.Event()
        self.code: int | None = None
        """How it has ended, if it has."""
        self.looks: int = -DOOR_START_LOOKS
        """How often it was looked at since it last answered; one that starts may take longer."""
        self.hung: bool = False
        """It did not answer for so long that it was ended."""
        self.is_open: bool = False
        """It has accepted connections."""
        self._process: subprocess.Popen[bytes] | None = None
        self._is_wanted = True

    def note(self, process: "subprocess.Popen[bytes]") -> None:
        """Note that it has been started."""
        self._process = process
        if not self._is_wanted:
            process.kill()

    def note_here(self) -> None:
        """Note that it answers."""
        self.looks, self.is_open = 0, True

    def kill(self) -> None:
        """Let it end, whatever it does; also one that is only being started."""
        self._is_wanted = False
        if self._process is not None:
            self._process.kill()


class _Failures:
    """The starts of a door that have failed, one after the other."""

    def __init__(self) -> None:
        self.times: int = 0
        self.told_until: float = -math.inf


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
                child = Child(f"door {door.number}", trio.sleep_forever, about={"door": door.number})
                child.run = partial(self._run, door, child, live)
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

    async def _run(self, door: _Door, child: Child, live: Callable[[], Awaitable[_Process]]) -> None:
        """Keep a process of a door running, and start the next one when it ends by itself, until the server stops.

        One that cannot be started, such as where a certificate is away, is tried again for as long as that lasts: the other doors, and the jobs, go on.

        Raises:
            DoorLost: one has ended otherwise.
        """
        stop, failures = self._server.stop, _Failures()
        while not stop.is_set():
            child.state = "running"
            try:
                process = await live()
            except (OSError, RuntimeError) as error:
                # RuntimeError: there is no thread to be had.
                await self._wait_to_start(door, child, failures, f"could not be started: {error}")
                continue
            await process.over.wait()
            if stop.is_set():
                return
            if not process.is_open and not process.hung and (process.code is None or process.code >= 0):
                # Of the end of one that says why there is a line.
                await self._wait_to_start(door, child, failures, f"ended with {process.code} before it was open")
                continue
            failures = _Failures()
            if process.code:
                ending = "did not answer any more, and was ended" if process.hung else _ending(process.code)
                self._server.doors.note_end(self._server.clock.now(), str(door.number), ending, hung=process.hung)
                raise DoorLost(f"door {door.number}: its process {ending}")
            _log.info("a door ends by itself, starting the next", door=door.number)

    async def _wait_to_start(self, door: _Door, child: Child, failures: "_Failures", why: str) -> None:
        """Take account of a start that has failed, and wait until it is time for the next one, or the server stops."""
        seconds = DOOR_STARTS_S[min(failures.times, len(DOOR_STARTS_S) - 1)]
        failures.times += 1
        child.state, child.restarts, child.last_error = "restarting", child.restarts + 1, f"its process {why}"
        now = trio.current_time()
        if now >= failures.told_until:
            failures.told_until = now + MAINTENANCE_TOLD_MS / 1000
            _log.error("a door cannot be started, trying again", door=door.number, error=why, times=failures.times)
        self._server.doors.note_end(self._server.clock.now(), str(door.number), why, hung=False, was_open=False)
        if failures.times > _TRIES_UNSEEN:
            # The kernel would go on to deal connections to a door that is not there.
            listen_no_more(door.sockets)
        with trio.move_on_after(seconds):
            await self._server.stop.wait()

    async def _live(
        self, door: _Door, http: Http, connections: trio.Nursery, *, task_status: trio.TaskStatus[_Process]
    ) -> None:
        """Look after one process of a door from its start to its end; it does not outlive this call."""
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, told = trio.socket.from_stdlib_socket(mine), _Process()
        self._processes[told] = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    with its:
                        failed = await nursery.start(self._be, door, its, told)
                    if failed is None:
                        task_status.started(told)
                        nursery.start_soon(self._tell, door, control)
                        nursery.start_soon(self._receive, door, told, control, http, connections)
                        nursery.start_soon(watch, door.number, told, control)
                        await told.ended.wait()
                finally:
                    told.kill()
                nursery.cancel_scope.cancel()
            if failed is not None:
                raise failed
        finally:
            told.over.set()
            del self._processes[told]
            control.close()

    async def _be(
        self, door: _Door, control: socket.socket, told: _Process, *, task_status: trio.TaskStatus[Exception | None]
    ) -> None:
        """Start a process of a door, and wait for its end, both in one thread.

        The kernel ends a door with the thread that has started it, and Trio's threads end when they have had nothing to do.
        """
        numbers = (door.number, os.getpid(), control.fileno())
        command = [sys.executable, "-P", "-m", "bunqueue_trio.doors.start", *map(str, numbers), f"+{len(door.sockets)}"]
        environment = os.environ | {"PYTHONPATH": _code_paths()}
        settings = pickle.dumps(self._server.settings)

        is_started = False

        def start(process: "subprocess.Popen[bytes]") -> None:
            nonlocal is_started
            told.note(process)
            is_started = True
            task_status.started(None)

        def be() -> int:
            # Inherited: who ends a door while it starts is heard when it listens to that.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            try:
                started = subprocess.Popen(  # noqa: S603 - ourselves
                    command, stdin=subprocess.PIPE, pass_fds=[control.fileno()], env=environment
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            with started as process:
                try:
                    trio.from_thread.run_sync(start, process)
                    process.communicate(settings)
                except BaseException:
                    process.kill()
                    raise
            return process.returncode

        try:
            told.code = await trio.to_thread.run_sync(be, limiter=trio.CapacityLimiter(1))  # noqa: TID251 - see above
        except (OSError, RuntimeError) as error:
            if is_started:
                raise
            task_status.started(error)
        told.ended.set()

    async def _tell(self, door: _Door, control: trio.socket.SocketType) -> None:
        """Tell a door when the server stops."""
        await self._server.stop.wait()
        close_all(door.sockets)
        try:
            await control.send(STOP)
        except OSError:
            # It has ended, which is noticed elsewhere.
            pass

    async def _receive(
        self, door: _Door, told: _Process, control: trio.socket.SocketType, http: Http, connections: trio.Nursery
    ) -> None:
        doors = self._server.doors
        serve = partial(serve_opened, self._server, http, name=str(door.number))
        doors.connected += 1

        def start(stream: trio.SocketStream, address: str) -> None:
            connections.start_soon(serve, stream, address, told)

        def hand_down() -> None:
            connections.start_soon(send_sockets, control, [*door.sockets])

        def close_in_order() -> None:
            told.is_open = True
            close()

        def close() -> None:
            if not told.over.is_set():
                doors.connected -= 1
                told.over.set()

        try:
            await receive_connections(control, start, close_in_order, told.note_here, hand_down)
            with trio.move_on_after(_EXIT_S):
                await told.ended.wait()
        finally:
            close()


async def watch(number: int, told: _Process, control: trio.socket.SocketType) -> None:
    """Look again and again whether a process of the door ``number`` answers, and end one that does not.

    What counts is how often it was looked at, not for how long: a machine that sleeps, or a server that was stopped, is no door that hangs.
    """
    while told.looks < DOOR_LOOKS:
        told.looks += 1
        try:
            await control.send(LOOK)
        except OSError:
            # It is gone, which is noticed elsewhere.
            return
        await trio.sleep(DOOR_LOOK_S)
    _log.error("a door hangs, ending it", door=number, seconds=DOOR_LOOKS * DOOR_LOOK_S)
    told.hung = True
    told.kill()


def _code_paths() -> str:
    """Return where a door finds its code: in the same places as this process, and in the working directory only if this process does."""
    return os.pathsep.join(str(Path(path).absolute()) for path in sys.path)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"was ended by {names.get(-code, f'signal {-code}')}"
    return f"ended with {code}"


async def http(  # noqa: ASYNC128 - `run` calls started, when the listeners are accepting
    server: Server, waiting: Waiting | None = None, *, task_status: trio.TaskStatus[list[str]]
) -> None:
    """Serve HTTP on the addresses of the settings until the server stops, by doors if they want some.

    ``waiting``: what this server was until it leads, with what it has had since its start: listeners, and a certificate.

    Raises:
        StartupError: an address cannot be listened on, or TLS is not set up right.
        DoorLost: a door has ended too often.
        StoreError: it could not be written where this server is reached.
    """
    opened = (waiting and waiting.kept) or await open_listeners(server.settings, server.settings.doors)
    if server.settings.doors and not opened.dealt:
        opened = await _deal_out(opened, server.settings.doors)
    doors: list[Doors] = [DoorProcesses(server, opened.dealt)] if opened.dealt else []
    if not server.store.at_once:
        doors += await _open_to_others(server, cast("AwaitedStore", server.store), waiting)
    async with trio.open_nursery() as connections:
        transport = Http(server, connections, express=server.settings.express)
        await transport.run(opened.listeners, partial(task_status.started, opened.addresses), doors)


async def _deal_out(opened: Opened, doors: int) -> Opened:
    """Give the doors of a server that has waited to lead sockets at its addresses, which it has had since its start."""
    for seconds in chain(DOOR_STARTS_S, repeat(DOOR_STARTS_S[-1])):
        try:
            return deal_out(opened, doors)
        except OSError as error:
            _log.error("doors cannot listen, trying again", error=error.strerror)
        await trio.sleep(seconds)
    raise AssertionError("for ever")


async def _open_to_others(server: Server, store: AwaitedStore, waiting: Waiting | None) -> list[Doors]:
    """Listen for servers that wait to lead, and tell them where."""
    announcer = store.announcer()

    def note_deaf() -> None:
        store.is_deaf = True

    try:
        listeners = await open_link(server.settings, has_waited=waiting is not None and waiting.has_begun)
        if not listeners:
            return []
        key = await announcer.key()
        certificate = newest_certificate(server.settings, None if waiting is None else waiting.certificate)
        server.link = announced(listeners, announcer.own_host(), is_tls=certificate is not None)
        await announcer.tell(server.link)
        return [RemoteDoors(server, listeners, key, certificate, note_deaf)]
    finally:
        announcer.close()
