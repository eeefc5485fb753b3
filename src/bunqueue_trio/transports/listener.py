"""The HTTP transport: sockets, connections and their keeper, and Hypercorn for what is not express.

Every connection is registered with its keeper, which ends those whose client is late, silent or gone,
and, at a stop, first the idle ones, then those that owe nothing, at the end of the grace all.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import structlog
import trio

from bunqueue_trio import errors
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import (
    AWAY_S,
    DRAIN_S,
    KEEPER_S,
    LINGER_S,
    MSGPACK_TOLD_S,
    STOP_MARGIN_S,
)
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import Child, supervise
from bunqueue_trio.transports.brisk import socket_of
from bunqueue_trio.transports.express import ExpressConnection, ExpressShared
from bunqueue_trio.transports.heads import Handover
from bunqueue_trio.transports.msgpack import is_msgpack, refusal_in_msgpack
from bunqueue_trio.transports.poller import Epoll, Poller
from bunqueue_trio.transports.room import Goodbyes, make_room
from bunqueue_trio.transports.sockets import connections_that_fit
from bunqueue_trio.transports.wire import address_of, untie

if TYPE_CHECKING:
    from bunqueue_trio.transports.slow_lane import PassedStream, SlowLane

_log = structlog.get_logger()

_GOING_AWAY = 1001
_SLOW_LANE = "bunqueue_trio.transports.slow_lane"
# What takes long to read for the first who asks for such a page.
_PAGES = ("bunqueue_trio.pages.prometheus",)


class _Connection:
    """What the keeper knows of one connection."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        address: str,
        express: ExpressConnection | None,
        shared: ExpressShared,
        door: object,
    ) -> None:
        self.keep_alive_s = shared.keep_alive_s
        self._pages = shared.pages
        self.door = door
        """Who passes it on, if not the kernel."""
        self.stream = stream
        self.address = address
        self.express = express
        self.passed: PassedStream | None = None
        self.requests = 0
        """Requests under way at Hypercorn."""
        self.idle_since = trio.current_time()
        self.scope = trio.CancelScope()

    def is_late(self, now: float) -> bool:
        """Return whether its client has used up its time."""
        if self.passed is not None:
            # Hypercorn forgets its own keep-alive timer when a response is streamed, and lets it run to its
            # end when the client has gone.
            if not self.requests and (now > self.passed.ended_at or now - self.idle_since > self.keep_alive_s):
                return True
            return now > self.passed.deadline
        if self.express is None:
            return False
        websocket = self.express.websocket
        return now > self.express.deadline or (websocket is not None and not websocket.tick(now))

    def is_idle(self) -> bool:
        """Return whether it can end now without anybody missing anything."""
        if self.passed is not None:
            return self.requests == 0 or self.passed.is_spare
        return self.express is not None and self.express.idle

    @property
    def patience_ends(self) -> float:
        """When its client will be late, should it stay silent from now on."""
        if self.passed is not None or self.express is None:
            return self.idle_since + self.keep_alive_s
        return self.express.deadline

    async def counted(self, app: Any, *args: Any) -> None:
        """Run a request with Hypercorn's ``app``, counted as this connection's."""
        self.requests += 1
        if self.passed is not None and args[0]["type"] == "websocket":
            self.passed.sips = True
        try:
            await self._pages.begin()
            await app(*args)
        finally:
            self.requests -= 1
            self.idle_since = trio.current_time()


class Doors(Protocol):
    """Processes that accept connections for this one."""

    async def run(self, http: "Http", connections: trio.Nursery) -> None:
        """Let ``http`` serve what they accept, in tasks in ``connections``, until the server stops."""
        ...

    async def wait_closed(self) -> None:
        """Wait until they accept no more, and what they have accepted is here; not for long."""
        ...

    async def wait_ended(self) -> None:
        """Wait until they have sent the last answers, and ended."""
        ...


class Http:
    """Accepts connections for a server and serves them until cancelled, each as a task in ``nursery``."""

    def __init__(
        self, server: Server, nursery: trio.Nursery, *, express: bool, make_poller: Callable[[], Poller] = Epoll
    ) -> None:
        self._server = server
        self._nursery = nursery
        """The nursery of the connections. They are accepted in another one, which ends first at a stop."""
        self._gateway = Gateway(server)
        self.shared: ExpressShared = ExpressShared(server, self._gateway, nursery, make_poller)
        self.loop: Child = Child("hot loop", self.shared.hot.run)
        self._express = express
        self._connections: dict[_Connection, None] = {}
        self._slow_lane: SlowLane | None = None
        self._reading: trio.Event | None = None
        """Set when the web framework is there; None: nobody reads it meanwhile."""
        self._msgpack_told_at = float("-inf")
        self._all_gone = trio.Event()
        """Set when the last connection has ended; a new one for each look."""
        self._connections_max = connections_that_fit(server.settings)
        self._goodbyes = Goodbyes()

    async def run(
        self, listeners: Sequence[Any], on_listening: Callable[[], None], doors: "Sequence[Doors]" = ()
    ) -> None:
        """Accept on ``listeners``, and what ``doors`` accept, until the server stops; then end the connections, kindly at first."""
        self._nursery.start_soon(self._keep)
        if not hasattr(sys.modules.get(_SLOW_LANE), "SlowLane"):
            self._reading = trio.Event()
            self._nursery.start_soon(read_slow_lane, self._reading)
        if self._express:
            self._server.serving.append(self.loop)
            self._nursery.start_soon(supervise, self.loop)
        for some in doors:
            self._nursery.start_soon(some.run, self, self._nursery)
        try:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(
                        partial(trio.serve_listeners, self.serve, [listener], handler_nursery=self._nursery)
                    )
                on_listening()
                await self._server.stop.wait()
                end = trio.current_time() + self._server.settings.shutdown_grace_ms / 1000 - STOP_MARGIN_S
                await trio.sleep(DRAIN_S)
                accepting.cancel_scope.cancel()
            for listener in listeners:
                await listener.aclose()
            for some in doors:
                await some.wait_closed()
            if self._slow_lane is not None:
                await self._slow_lane.stop()
            await self._end_connections(end)
            await self._wait_for(doors, end)
        finally:
            # Hypercorn shields its writes: only a closed socket ends one that the client does not read.
            for connection in self._connections:
                _close_now(connection.stream)
            self._nursery.cancel_scope.cancel()
            self.shared.poller.close()

    async def serve(self, stream: trio.abc.Stream, address: str = "", door: object = None) -> None:
        """Serve a connection to its end, however it goes.

        ``address`` of its client, where the socket does not tell; ``door`` that passes it on.
        """
        if len(self._connections) >= self._connections_max and not self.make_room():
            await self._goodbyes.refuse_newcomer(stream, self.shared.refusal(errors.TOO_MANY_CONNECTIONS))
            await trio.aclose_forcefully(stream)
            untie(stream)
            return
        express = None
        address = address or address_of(stream)
        if self._express:
            express = ExpressConnection(self.shared, stream, address)
        connection = _Connection(stream, address, express, self.shared, door)
        self._connections[connection] = None
        self._server.connections.begin(address)
        try:
            with connection.scope:
                await self._serve_registered(connection)
        except Exception as error:
            # Whatever a library asserts here is the trouble of this connection alone. Our own invariants are the business of `Core`.
            if not _is_hang_up(error):
                _log.exception("connection failed")
        finally:
            del self._connections[connection]
            self._server.connections.end(address)
            if not self._connections:
                self._all_gone.set()
            if isinstance(stream, trio.SocketStream):
                # As the line below does, in one step: to be cancelled is most of what that costs.
                stream.socket.close()
            else:
                await trio.aclose_forcefully(stream)
                untie(stream)

    async def _serve_registered(self, connection: _Connection) -> None:
        unread = b""
        if connection.express is not None:
            try:
                await connection.express.run()
            except Handover as handover:
                unread = handover.unread
                if is_msgpack(unread):
                    await self._answer_msgpack(connection.stream, unread)
                    return
            else:
                # Thousands may go at once.
                await self.shared.ends.begin()
                if connection.express.lingers:
                    await self._goodbyes.end(connection.stream)
                return
        if self._reading is not None:
            # Who imports what a thread is importing waits for that, and here everybody would.
            await self._reading.wait()
        await self.shared.pages.begin()
        slow_lane = self._open_slow_lane()
        fault = slow_lane.find_fault(unread) if unread else None
        if fault is not None:
            await self._goodbyes.refuse(connection.stream, self.shared.refusal(fault), LINGER_S)
            return
        connection.passed = slow_lane.stream(connection.stream, unread, connection.scope, connection.address)
        await slow_lane.serve(connection.passed, connection.counted)

    async def _answer_msgpack(self, stream: trio.abc.Stream, unread: bytes) -> None:
        """Say what this server speaks to a client of the original's own protocol, in that one; and to the log."""
        now = trio.current_time()
        if now - self._msgpack_told_at >= MSGPACK_TOLD_S:
            self._msgpack_told_at = now
            _log.warning("a client speaks the binary protocol of the original; this is HTTP and WebSocket only")
        with trio.move_on_after(LINGER_S):
            try:
                await stream.send_all(refusal_in_msgpack(unread))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # It did not wait for the answer.
                return
            await self._goodbyes.end(stream)

    def _open_slow_lane(self) -> "SlowLane":
        if self._slow_lane is None:
            from bunqueue_trio.transports.slow_lane import SlowLane

            self._slow_lane = SlowLane(self._server, self._gateway, self.shared.refusal, self.shared.ends)
        return self._slow_lane

    def make_room(self, door: object = None) -> bool:
        """End some of the longest idle connections that ``door`` passes on; return whether there was one."""
        its = self._connections if door is None else [c for c in self._connections if c.door is door]
        return make_room(its, self.shared.keep_alive_s)

    async def _keep(self) -> None:
        """End late connections, for ever."""
        while True:
            due = trio.current_time() + KEEPER_S
            await trio.sleep_until(due)
            if trio.current_time() - due > AWAY_S:
                # It was frozen itself. What its clients have said meanwhile is still to be read: they look late, and are not.
                await trio.sleep(KEEPER_S)
            await self._end_late()

    async def _end_late(self) -> None:
        # Not in the loop above, which would keep the last one, with all that it has read, until the next.
        self.shared.now = now = trio.current_time()
        for connection in [c for c in self._connections if c.is_late(now)]:
            await self._end(connection)

    async def _wait_for(self, doors: "Sequence[Doors]", end: float) -> None:
        """Wait until all doors have ended; who waits there for a disk that refuses is answered at ``end``, too."""
        with trio.move_on_at(end) as waiting:
            for some in doors:
                await some.wait_ended()
        if waiting.cancelled_caught:
            self._server.journal.give_up()
            for some in doors:
                await some.wait_ended()

    async def _end_connections(self, end: float) -> None:
        """End all connections by ``end``, or soon after: idle ones at once, others when they owe nothing."""
        while self._connections and trio.current_time() < end:
            self._end_those_who_owe_nothing()
            self._all_gone = trio.Event()
            with trio.move_on_after(0.05):
                await self._all_gone.wait()
        if self._connections:
            _log.warning(
                "the grace is over, ending connections that still owe something", connections=len(self._connections)
            )
            # Who waits for a disk that refuses is answered, not cut off.
            self._server.journal.give_up()
        for connection in self._connections:
            websocket = connection.express.websocket if connection.express else None
            if websocket is not None:
                websocket.close(_GOING_AWAY, "server is shutting down")
        if self._connections:
            await trio.sleep(min(STOP_MARGIN_S / 2, self._server.settings.shutdown_grace_ms / 1000))
        for connection in list(self._connections):
            await self._end(connection)

    def _end_those_who_owe_nothing(self) -> None:
        for connection in list(self._connections):
            websocket = connection.express.websocket if connection.express else None
            if websocket is not None:
                websocket.refuse()
                if websocket.idle:
                    websocket.close(_GOING_AWAY, "server is shutting down")
            elif connection.is_idle():
                connection.scope.cancel()

    async def _end(self, connection: _Connection) -> None:
        connection.scope.cancel()
        # Hypercorn shields its writes: only a closed socket ends one that the client does not read.
        await trio.aclose_forcefully(connection.stream)


def _close_now(stream: trio.abc.Stream) -> None:
    """Close the socket below ``stream``, in this very step."""
    if (bare := socket_of(stream)) is not None:
        bare.close()


async def read_slow_lane(is_read: trio.Event) -> None:
    """Read the web framework, which takes longer than the rest of an empty server's start, while others are served."""
    await trio.to_thread.run_sync(  # noqa: TID251 - once, in no virtual time
        # A stop does not wait for it.
        _read_all, abandon_on_cancel=True
    )  # fmt: skip
    is_read.set()


def _read_all() -> None:
    for name in (_SLOW_LANE, *_PAGES):
        import_module(name)


def _is_hang_up(error: Exception) -> bool:
    """Return whether all that went wrong is that the client is gone."""
    if isinstance(error, ExceptionGroup):
        return all(_is_hang_up(e) for e in error.exceptions)
    return isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError)
