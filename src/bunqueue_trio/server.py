"""The composition root: settings in, a running server out."""

import signal
from collections.abc import AsyncIterator, Sequence

import structlog
import trio

from bunqueue_trio import __version__
from bunqueue_trio.config import Settings
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.tree import Server, Transport, serve
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.transports.listener import http

_log = structlog.get_logger()

TRANSPORTS: Sequence[Transport] = (http,)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the grace period at once.

    Raises:
        StartupError: with one line that says why the server cannot start.
        StoreError: what was not answered yet could not be written.
    """
    store = SqliteStore(settings.data_path)
    server = Server(settings, store, Clock())
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            serving = await nursery.start(_serving, server)
            announce(server)
            nursery.start_soon(_stop_on_signal, signals, server, serving)
            await server.ended.wait()
            nursery.cancel_scope.cancel()
    _log.info("stopped", jobs=len(server.engine.jobs))


def announce(server: Server) -> None:
    """Log what runs, where, and who may use it."""
    settings = server.settings
    _log.info(
        "listening",
        version=__version__,
        addresses=server.addresses,
        data_path=settings.data_path,
        auth="on" if settings.auth_tokens else "off",
        jobs=len(server.engine.jobs),
    )
    if not settings.auth_tokens and not all(bind.is_local for bind in settings.binds):
        _log.warning(
            "no AUTH_TOKENS are set: whoever reaches this address can push, take and delete jobs",
            binds=[str(bind) for bind in settings.binds if not bind.is_local],
        )


async def _serving(server: Server, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, TRANSPORTS)
            task_status.started(scope)
    server.ended.set()


async def _stop_on_signal(signals: AsyncIterator[int], server: Server, serving: trio.CancelScope) -> None:
    async for number in signals:
        if server.stop.is_set():
            _log.warning("second signal, stopping at once", signal=signal.Signals(number).name)
            serving.cancel()
            return
        _log.info("stopping", signal=signal.Signals(number).name, grace_ms=server.settings.grace_ms)
        server.stop.set()
