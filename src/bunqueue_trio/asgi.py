"""The server as an ASGI application: ``hypercorn --worker-class trio "bunqueue_trio.asgi:app"``.

Settings come from the environment. The lifespan is the server's life: its startup opens the store, its
shutdown commits what is left and closes it. Sockets, TLS and grace period are Hypercorn's business, and
there can be one worker only: the store has one owner.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

import structlog
import trio
from hypercorn.trio.tcp_server import TCPServer

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import load
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.logs.lines import configure_logging
from bunqueue_trio.run import NO_TOKENS, facts
from bunqueue_trio.runtime.server import Server, clock_of
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.opening import open_store
from bunqueue_trio.transports.quart_app import HOST_STOPS, make_app
from bunqueue_trio.transports.slow_lane import is_clients_doing

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_log = structlog.get_logger()
_run_connection = TCPServer.run


async def _run_alone(connection: TCPServer) -> None:
    """Run one of Hypercorn's connections so that its failure is its own.

    Hypercorn would end the whole server: a WebSocket frame in the same packet as the handshake is enough.
    """
    # It cuts sockets before it tells us.
    connection.state[HOST_STOPS] = connection.context.terminated.is_set
    try:
        await _run_connection(connection)
    except Exception as error:
        if not is_clients_doing(error):
            _log.exception("connection failed")


TCPServer.run = _run_alone  # type: ignore[assignment, method-assign]  # it has no setting for it


class App:
    """The application; it serves from the startup of its lifespan to the shutdown."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request, one WebSocket, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is None:
            raise RuntimeError("the server needs the ASGI lifespan, which its host does not run")
        else:
            try:
                await self._app(scope, receive, send)
            except* trio.BusyResourceError:
                # Hypercorn says the end of a broken request, while the answer to its beginning goes out.
                pass

    async def _live(self, receive: Receive, send: Send) -> None:
        # lifespan.startup
        await receive()
        try:
            loaded = load(os.environ)
            settings = loaded.settings
            configure_logging(settings.log_level, settings.log_format, libraries=False)
            for warning in loaded.warnings:
                _log.warning(warning)
            store = await open_store(settings)
            server = Server(settings, store, clock_of(store), sources=loaded.sources)
        except (StartupError, StoreError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve, server, (_host,))
                self._app = make_app(server, Gateway(server), hosted=True)
                _log.info("serving under ASGI", **facts(server))
                if not settings.auth_tokens:
                    _log.warning(NO_TOKENS)
                await send({"type": "lifespan.startup.complete"})
                # lifespan.shutdown
                await receive()
                _log.info("stopping")
                server.stop.set()
        finally:
            # However it ended: whoever still asks gets an answer, and does not hang.
            self._app = None
        _log.info("stopped", jobs=len(server.engine.jobs))
        await send({"type": "lifespan.shutdown.complete"})


async def _host(server: Server, *, task_status: trio.TaskStatus[Sequence[str]]) -> None:
    """Stand for the transport that the host of the application provides."""
    task_status.started(())
    await server.stop.wait()


app: App = App()
