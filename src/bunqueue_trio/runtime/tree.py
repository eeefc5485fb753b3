"""The life of the server, top to bottom: what runs, what it may restart, in what order it stops.

    serve()
    └ persistence nursery        last to stop: final batch, checkpoint, close
      ├ persistence flusher      takes all that waits → one transaction → releases answers
      └ services nursery
        ├ scheduler              delays, backoffs, TTLs
        ├ stall detector         leases and processing timeouts
        ├ invariants             ends the process when a command has met a broken one
        ├ rate-limit cleaner, checkpointer, retention, shrinker, damage watch, upkeep, clock watch, rates, loop lag, history, reruns, auto-retries, errands, self-audit
        └ transports nursery     first to stop, with a deadline

Leaving a nursery inside out is the shutdown plan; cancellation is the only way to stop.
"""

import gc
import math
from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import breaks_invariant, is_taken_over, supervise
from bunqueue_trio.storage.store import Store

_log = structlog.get_logger()


class Transport(Protocol):
    """Serves clients until cancelled; reports its addresses when it is ready for them."""

    async def __call__(self, server: Server, *, task_status: trio.TaskStatus[Sequence[str]]) -> None:
        """Serve."""
        ...


async def serve(
    server: Server,
    transports: Sequence[Transport],
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``server`` until its ``stop`` is set or this is cancelled; then flush and close the store.

    Raises:
        StartupError: the store cannot be read or an address cannot be bound.
        StoreError: a database broke off while it was read, or the last batch could not be written within the grace period.
        TakenOver: another server has the store.
    """
    # A large backlog is all new objects and no garbage.
    gc.disable()
    try:
        server.engine.facts.load(server.store.load_facts())
        server.engine.load(server.store.load(), server.clock.now(), server.store)
        server.hub.begin(server.engine.facts, server.clock.now())
        server.history.load(server.engine.figures)
        server.history.errors.load([*server.store.dead_groups.sizes(None), *server.engine.retrying])
    except BaseException as error:
        # What cannot be read is left as it is, log and all.
        server.store.close()
        # A record that a job waits for cannot be read; or a database broke off, which is not damaged.
        if isinstance(error, StoreError):
            at_once, where = server.store.at_once, server.settings.where
            raise (  # noqa: ASYNC104 - it was no Cancelled
                StartupError(f"{where}: is damaged: {error}") if at_once else StoreError(f"{where}: {error}")
            ) from None
        raise
    finally:
        gc.enable()
    server.core.advance()
    broken = False
    ends_at = math.inf
    try:
        async with trio.open_nursery() as persistence:
            persistence.start_soon(supervise, server.flusher)
            async with trio.open_nursery() as services:
                for child in server.services:
                    services.start_soon(supervise, child)
                async with trio.open_nursery() as serving:
                    for transport in transports:
                        server.addresses += await serving.start(transport, server)
                    task_status.started(server)
                    await server.stop.wait()
                    server.core.stop_polls()
                    server.hub.close()
                    ends_at = trio.current_time() + server.settings.shutdown_grace_ms / 1000
                    serving.cancel_scope.deadline = ends_at
                services.cancel_scope.cancel()
            persistence.cancel_scope.cancel()
    except BaseException as error:
        broken = breaks_invariant(error) or is_taken_over(error)
        raise
    finally:
        with trio.CancelScope(shield=True):
            try:
                # Otherwise memory cannot be trusted, and the next start goes on from the store.
                if not broken:
                    await _write_the_rest(server, ends_at)
            finally:
                _close(server.store)


async def _write_the_rest(server: Server, ends_at: float) -> None:
    """Commit what still waits within the rest of the grace period, but with at least a second for it.

    Raises:
        StoreError: it could not be written.
    """
    server.note_end()
    journal, now = server.journal, trio.current_time()
    with trio.CancelScope(deadline=max(now + 1, min(ends_at, now + server.settings.shutdown_grace_ms / 1000))):
        # What has met damage is not tried again: nothing is to be waited for.
        while journal.dirty and not journal.is_damaged:
            await journal.flush()
    if journal.dirty:
        raise StoreError(f"unanswered changes could not be written: {journal.failing}")


def _close(store: Store) -> None:
    """Empty the log, close the file."""
    try:
        store.checkpoint(restart=True)
    except StoreError as error:
        _log.warning("the log was not emptied", error=str(error))
    finally:
        store.close()
