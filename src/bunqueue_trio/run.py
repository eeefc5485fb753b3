"""The composition root: settings in, a running server out."""

import gc
import signal
import sys
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import cast

import structlog
import trio

from bunqueue_trio import __version__
from bunqueue_trio.config import BROKEN_S, GC_THRESHOLDS, LAST_S, SECOND_SIGNAL_S, STANDBY_S, SWITCH_S, Settings
from bunqueue_trio.doors.leading import http
from bunqueue_trio.doors.waiting_room import Waiting
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.runtime.deadline import LastDeadline
from bunqueue_trio.runtime.memory import keep_freed
from bunqueue_trio.runtime.server import Server, clock_of
from bunqueue_trio.runtime.signals import Signals
from bunqueue_trio.runtime.tree import Transport, serve
from bunqueue_trio.storage.awaited import AwaitedStore, NoteLeader
from bunqueue_trio.storage.opening import open_store
from bunqueue_trio.storage.store import Store
from bunqueue_trio.transports.listener import read_slow_lane
from bunqueue_trio.transports.sockets import open_first

_log = structlog.get_logger()

NO_TOKENS = "no AUTH_TOKENS are set: whoever reaches this address can push, take and delete jobs"


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP where nobody ignores it: whoever starts a server under nohup means it to go on."""


def run(settings: Settings, sources: Mapping[str, str] = MappingProxyType({})) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; a second signal ends the grace period at once. Blocks until the end, and ignores them from then on.

    ``sources`` are for who looks at the settings: where each has come from.

    Raises:
        StartupError: with one line that says why the server cannot start.
        StoreError: what was not answered yet could not be written.
        TakenOver: another server has taken the store over.
    """
    sys.setswitchinterval(SWITCH_S)
    with LastDeadline() as last:
        trio.run(_run, settings, sources, last)


async def _run(settings: Settings, sources: Mapping[str, str], last: LastDeadline) -> None:
    wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        # Log rotators send it; there is no file to open anew.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with Signals(wanted) as signals:
        async with trio.open_nursery() as beside:
            await _live(settings, sources, signals, last, beside)
            beside.cancel_scope.cancel()


async def _live(
    settings: Settings, sources: Mapping[str, str], signals: Signals, last: LastDeadline, beside: trio.Nursery
) -> None:
    """Wait until this server may lead, and serve then; clients that it had while it waited are served by tasks ``beside`` that."""
    waiting = Waiting(settings)
    store = await _open(settings, signals, last, waiting, beside)
    if store is None:
        _log.info("stopped")
        return
    server = Server(settings, store, clock_of(store), sources=sources)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_when_broken, server, last)
        serving = await nursery.start(_serving, server, partial(http, waiting=waiting))
        # The backlog that was loaded lives long and holds no cycles: looking through it again and
        # again would stop the server for tens of ms each time.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        keep_freed()
        _announce(server)
        if waiting.has_begun:
            nursery.start_soon(_serve_those_who_waited, cast("AwaitedStore", store), waiting)
        nursery.start_soon(_stop_on_signal, signals, server, serving, last)
        await server.ended.wait()
        nursery.cancel_scope.cancel()
    _log.info("stopped", jobs=len(server.engine.jobs))


async def _serve_those_who_waited(store: AwaitedStore, waiting: Waiting) -> None:
    """Let clients that have asked a leader that died through this server be answered by itself."""
    announcer = store.announcer()
    try:
        while True:
            # Who waits for too long meanwhile gets an error.
            try:
                waiting.note_served(*await announcer.reached())
                return
            except StoreError:
                await trio.sleep(STANDBY_S)
    finally:
        announcer.close()


async def _open(
    settings: Settings, signals: Signals, last: LastDeadline, waiting: Waiting, beside: trio.Nursery
) -> Store | None:
    """Return the store, or None when a signal comes before this server may lead there."""
    if not settings.store:
        opened = waiting.kept = await open_first(settings)
        try:
            return await open_store(settings)
        except StartupError:
            if opened is not None:
                with trio.move_on_after(1, shield=True):
                    await opened.close()
            raise
    store: Store | None = None
    opening = trio.CancelScope()
    async with trio.open_nursery() as nursery:

        async def stop_on_signal() -> None:
            async for number in signals:
                if opening.cancel_called:
                    nursery.cancel_scope.cancel()
                    return
                _tell_stop(number, settings)
                last.set(settings.shutdown_grace_ms / 1000 + LAST_S, 1)
                opening.cancel()

        def wait() -> NoteLeader:
            beside.start_soon(waiting.run)
            # Its first clients are to have all of the processor then.
            beside.start_soon(read_slow_lane, trio.Event())
            return waiting.note_leader

        nursery.start_soon(stop_on_signal)
        with opening:
            store = await open_store(settings, wait)
        if opening.cancel_called:
            await waiting.stop()
        else:
            await waiting.leave()
        nursery.cancel_scope.cancel()
    if opening.cancel_called and store is not None:
        store.close()
        return None
    return store


def facts(server: Server) -> dict[str, object]:
    """Return what somebody who starts a server wants to see in its log."""
    return {
        "version": __version__,
        "store" if server.settings.store else "data_path": server.settings.where,
        "auth": "on" if server.settings.auth_tokens else "off",
        "jobs": len(server.engine.jobs),
        **({"doors": server.settings.doors} if server.settings.doors else {}),
    }


def _announce(server: Server) -> None:
    settings = server.settings
    _log.info("listening", addresses=server.addresses, **facts(server))
    open_to_all = [str(bind) for bind in settings.binds if not bind.is_local]
    if not settings.auth_tokens and open_to_all:
        _log.warning(NO_TOKENS, binds=open_to_all)


async def _serving(server: Server, transport: Transport, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, [transport])
            task_status.started(scope)
    server.ended.set()


async def _end_when_broken(server: Server, last: LastDeadline) -> None:
    await server.core.broken.wait()
    last.set(BROKEN_S, 1)


async def _stop_on_signal(signals: Signals, server: Server, serving: trio.CancelScope, last: LastDeadline) -> None:
    async for number in signals:
        if server.stop.is_set():
            _log.warning("second signal, stopping at once", signal=signal.Signals(number).name)
            last.set(SECOND_SIGNAL_S, 1)
            serving.cancel()
            return
        # Twice the grace: for the transports, and for what is still to be written.
        last.set(2 * server.settings.shutdown_grace_ms / 1000 + LAST_S, 1)
        _tell_stop(number, server.settings)
        server.stop.set()


def _tell_stop(number: int, settings: Settings) -> None:
    _log.info("stopping", signal=signal.Signals(number).name, grace_ms=settings.shutdown_grace_ms)
