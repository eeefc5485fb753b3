"""What is replaced for a run of the simulated cluster: everything outside of the program, and everything that would make two runs differ."""

import gc
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import structlog
import trio
from trio._core import _run

from bunqueue_trio.config import Settings
from bunqueue_trio.doors import handshake, leading, waiting_room
from bunqueue_trio.engine import auto_retrying, moves, rerunning, timers
from bunqueue_trio.engine import line as lines
from bunqueue_trio.runtime import clock, core, hub, slices, tree
from bunqueue_trio.storage.postgres import announcer, cluster, looker, schema, store, terms
from bunqueue_trio.transports import express, hot
from bunqueue_trio.transports.listener import Http
from bunqueue_trio.transports.sockets import Opened
from tests.cluster.broker import CURRENT, PORT, Broker
from tests.cluster.leaping import sees_no_sockets
from tests.cluster.link import make_link
from tests.sim.wire import End, Poller

if TYPE_CHECKING:
    from tests.cluster.cluster_world import ClusterWorld

# No client can make a connection fail, and no trouble makes memory and database differ: these are faults of ours.
FAULTS = ("connection failed", "the self-audit found a fault")


def current() -> Broker:
    """Return the broker whose task runs."""
    broker = CURRENT.get()
    assert broker is not None
    return broker


def wall_s() -> float:
    return current().clocks.wall_s()


def boot_s() -> float:
    return current().clocks.boot_s()


class Outside:
    """What stands for the machine of each broker."""

    def __init__(self, world: "ClusterWorld") -> None:
        self._world = world

    def note(self, _: Any, method: str, entry: Any) -> Any:
        """Take a line of the program's log."""
        broker = CURRENT.get()
        words = " ".join(f"{k}={v}" for k, v in sorted(entry.items()) if k != "exc_info")
        self._world.log("log" if broker is None else broker.name, f"{method}: {words}")
        if entry.get("event") in FAULTS:
            self._world.fail(f"{entry} {traceback.format_exc()[-1500:]} {sys.exc_info()[1]!r}")
        raise structlog.DropEvent

    async def open_listeners(self, settings: Settings, doors: int = 0) -> Opened:
        name = current().name
        return Opened([self._world.net.listen(name, PORT)], [f"http://{name}:{PORT}"], [])

    async def open_link(self, settings: Settings, *, has_waited: bool) -> list[Any]:
        return [self._world.net.listen(current().name, PORT + 1)]

    async def open_tcp_stream(self, host: str, port: int) -> End:
        return await self._world.net.open(current().name, host, port)


def _replaced(world: "ClusterWorld", outside: Outside) -> tuple[tuple[Any, str, Any], ...]:
    versions, links = schema.migrations(), make_link(lambda: current().reach)  # type: ignore[arg-type,return-value]
    return (
        (trio, "sleep", world.clock.sleep), (trio.to_thread, "run_sync", world.threads.run_sync), (trio, "open_tcp_stream", outside.open_tcp_stream),
        (clock, "time", SimpleNamespace(time=wall_s)), (store, "_now", boot_s),
        (store, "DatabaseLink", links), (announcer, "DatabaseLink", links), (cluster, "DatabaseLink", links), (looker, "DatabaseLink", links), (schema, "migrations", lambda: versions),
        (terms, "socket", SimpleNamespace(gethostname=lambda: current().name)),
        (terms, "os", SimpleNamespace(getpid=lambda: current().lives)),
        (cluster, "time", SimpleNamespace(monotonic=boot_s)), (announcer, "time", SimpleNamespace(monotonic=boot_s)),
        (leading, "open_listeners", outside.open_listeners), (waiting_room, "open_listeners", outside.open_listeners),
        (leading, "open_link", outside.open_link), (leading, "Http", partial(Http, make_poller=Poller)),
        (handshake, "secrets", SimpleNamespace(token_bytes=world.nonces.randbytes)),
        (tree, "gc", SimpleNamespace(disable=lambda: None, enable=lambda: None)),
        (hub, "READER_EVENTS_MAX", world.reader_events_max), (express, "OWN_REQUESTS", 2),
        sees_no_sockets(), (hot, "TURN_REQUESTS", world.turn_requests), (hot, "ANSWERS_MAX", world.turn_requests),
        (slices, "SLICE", world.slice), (rerunning, "RERUN_SLICE", world.slice), (auto_retrying, "AUTO_RETRY_SLICE", world.slice), (core, "BULK_SLICE", world.slice), (timers, "_SWEEP_MIN", 4), (lines, "BLOCK_MAX", 2), (moves, "QUEUES_IDLE_MAX", 2),
        (_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
    )  # fmt: skip


@contextmanager
def sealed(world: "ClusterWorld") -> Iterator[None]:
    """Replace it; and small sizes let sweeps happen early."""
    outside, was_enabled = Outside(world), gc.isenabled()
    with ExitStack() as stack:
        for target, name, value in _replaced(world, outside):
            stack.enter_context(mock.patch.object(target, name, value))
        before = structlog.get_config()
        structlog.configure(processors=[outside.note], cache_logger_on_first_use=False)
        stack.callback(structlog.configure, **before)
        _run._r.seed(f"{world.seed}/trio")
        gc.disable()
        try:
            yield
        finally:
            gc.collect()
            if was_enabled:
                gc.enable()
