"""One supervised task: what happens when it fails, and how often that may happen."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import trio

from bunqueue_trio.config import RESTARTS_WINDOW_MS
from bunqueue_trio.errors import DoorLost, TakenOver, leaves

_log = structlog.get_logger()

# The first failure is mostly a passing one; then let things settle.
_BACKOFF_S = (0.0, 0.1, 1.0, 3.0)


@dataclass
class Child:
    """A supervised task and its history. ``restarts_max`` failures within the window are survived."""

    name: str
    run: Callable[[], Awaitable[None]]
    restarts_max: int = 5
    state: str = "starting"
    restarts: int = 0
    last_error: str | None = None
    failures: deque[float] = field(default_factory=deque)
    """When it failed within the window, by Trio's clock."""
    about: dict[str, object] = field(default_factory=dict)
    """What its log lines have besides."""


async def supervise(child: Child) -> None:
    """Run ``child`` until cancelled, restarting it after unexpected exceptions.

    Raises:
        AssertionError: an invariant is broken; that is never restarted.
        TakenOver: another server has the store; nor is that.
        Exception: the last failure, when the budget is spent.
    """
    while True:
        child.state = "running"
        try:
            await child.run()
        except Exception as error:
            child.last_error = f"{type(error).__name__}: {error}"
            if is_taken_over(error):
                child.state = "failed"
                # A line says it all.
                raise
            if breaks_invariant(error) or not _may_restart(child):
                child.state = "failed"
                _log.critical("task failed for good", task=child.name, **child.about, **_why(error))
                raise
            _log.error("task failed, restarting", task=child.name, **child.about, **_why(error))
        else:
            child.state = "finished"
            return
        child.restarts += 1
        child.state = "restarting"
        await trio.sleep(_BACKOFF_S[min(len(child.failures), len(_BACKOFF_S)) - 1])


def _why(error: Exception) -> dict[str, object]:
    """Return what a log line says of ``error``: where it comes from, unless a line says it all."""
    return {"error": str(error)} if isinstance(error, DoorLost) else {"exc_info": True}


def breaks_invariant(error: BaseException) -> bool:
    """Return whether ``error``, or anything in a group of errors, says that an invariant is broken.

    Any assertion does in a supervised task: no library runs there on behalf of a client.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(breaks_invariant(e) for e in error.exceptions)
    return isinstance(error, AssertionError)


def is_taken_over(error: BaseException) -> bool:
    """Return whether ``error``, or anything in a group of errors, says that another server has the store."""
    return any(isinstance(leaf, TakenOver) for leaf in leaves(error))


def _may_restart(child: Child) -> bool:
    now = trio.current_time()
    child.failures.append(now)
    while child.failures[0] <= now - RESTARTS_WINDOW_MS / 1000:
        child.failures.popleft()
    return len(child.failures) <= child.restarts_max
