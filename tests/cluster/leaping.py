"""Virtual time without sockets and threads: when no task can go on, it is the time of the next deadline at once.

``MockClock`` looks at the kernel, and counts everything that there is, before each of its jumps.
"""

import math
from typing import Any

import trio
from trio._core import _run

# Now and then, for the signal of whoever interrupts the run.
_LOOKS_EVERY = 1000


class LeapingClock(trio.abc.Clock):
    """The clock of a run in which nothing comes from outside."""

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        """Begin at 0."""

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline == math.inf:
            # Of the run's end Trio tells itself by a socket.
            return deadline
        self._now = max(self._now, deadline)
        return 0


def sees_no_sockets() -> tuple[Any, str, Any]:
    """Return what is to be replaced so that Trio does not ask the kernel in each of its rounds."""
    manager = _run.TheIOManager
    real, rounds = manager.get_events, 0

    def get_events(self: Any, timeout: float) -> Any:
        nonlocal rounds
        rounds += 1
        return real(self, timeout) if timeout or rounds % _LOOKS_EVERY == 0 else []

    return manager, "get_events", get_events
