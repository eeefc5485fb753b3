"""What makes two runs of a seed alike: everything that would differ is replaced."""

import gc
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import structlog
import trio
import trio.testing
from trio._core import _run

from bunqueue_trio.api.event_stream import EventFeed
from bunqueue_trio.api.session import Session
from bunqueue_trio.engine import engine as steps
from bunqueue_trio.engine import line as lines
from bunqueue_trio.engine import moves, timers
from bunqueue_trio.runtime import allowed, clock, core, hub, services, waiting
from bunqueue_trio.runtime.hub import Subscription
from bunqueue_trio.runtime.waiting import Waiter
from bunqueue_trio.transports import express, hot
from bunqueue_trio.transports.express import ExpressConnection
from bunqueue_trio.transports.listener import _Connection
from bunqueue_trio.transports.websocket import WebSocket

if TYPE_CHECKING:
    from tests.sim.sim_world import World

OF_CONNECTIONS = frozenset({Session, WebSocket, ExpressConnection, _Connection, EventFeed, Subscription, Waiter})
"""What must be gone from memory when nobody is connected."""


@contextmanager
def sealed(world: "World") -> Iterator[None]:
    """Everything that would make two runs differ is replaced, and small sizes let sweeps happen early."""

    def note(_: Any, method: str, entry: Any) -> Any:
        world.log("log", f"{method}: " + " ".join(f"{k}={v}" for k, v in sorted(entry.items()) if k != "exc_info"))
        # No client can make a connection fail, and no trouble makes memory and disk differ: these are faults of ours.
        if entry.get("event") in ("connection failed", "the self-audit found a fault"):
            world.fail(f"{entry} {sys.exc_info()[1]!r}")
        raise structlog.DropEvent

    was_enabled = gc.isenabled()
    with ExitStack() as stack:
        for target, name, value in (
            (core, "begin_bulk", world.lockstep.begin_bulk), (core, "BULK_SLICE", world.bulk_slice),
            (core, "run", world.lockstep.run), (allowed, "run", world.lockstep.run), (waiting, "run", world.lockstep.run), (services, "auto_slice", world.lockstep.auto_slice),
            (services, "rerun_slice", world.lockstep.rerun_slice),
            (trio.to_thread, "run_sync", world.threads.run_sync),
            (clock, "time", mock.Mock(time=world.wall_s)), (hub, "READER_EVENTS_MAX", world.reader_events_max),
            (hot, "LONE_REQUESTS", world.lone_requests), (express, "OWN_REQUESTS", world.lone_requests),
            (hot, "TURN_REQUESTS", world.turn_requests), (hot, "ANSWERS_MAX", world.turn_requests),
            (steps, "ADVANCE_MAX", 10**6),  # the model does all that is due at once, also the slots of several schedules after an outage
            (timers, "_SWEEP_MIN", 4), (lines, "BLOCK_MAX", 2), (moves, "QUEUES_IDLE_MAX", 2),
            (_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            (WebSocket, "run", lambda websocket, session: world.run_websocket(websocket, session)),  # noqa: PLW0108 - a method of both
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(target, name, value))
        before = structlog.get_config()
        structlog.configure(processors=[note], cache_logger_on_first_use=False)
        stack.callback(structlog.configure, **before)
        _run._r.seed(f"{world.seed}/trio")
        gc.disable()
        gc.freeze()  # what is there already is nobody's leak, and need not be looked through
        try:
            yield
        finally:
            gc.collect()
            gc.unfreeze()
            if was_enabled:
                gc.enable()


def objects_of_connections() -> Counter[str]:
    """Count the objects of connections and waiters that anything holds on to."""
    gc.collect()
    return Counter(type(what).__name__ for what in gc.get_objects() if type(what) in OF_CONNECTIONS)


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves_of(inner)
    else:
        yield error
