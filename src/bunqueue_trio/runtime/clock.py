"""The one reader of the wall clock; everything else is handed the time."""

import time

import trio


class Clock:
    """Epoch milliseconds that follow Trio's clock from one anchor.

    Steps of the system clock do not move it, and under ``MockClock`` it is virtual. Must be made
    inside a Trio run. ``epoch_ms`` replaces the wall clock as the anchor.
    """

    def __init__(self, epoch_ms: int | None = None) -> None:
        self._follows_wall = epoch_ms is None
        wall_ms = time.time() * 1000 if epoch_ms is None else epoch_ms
        self._offset_ms = wall_ms - trio.current_time() * 1000

    def now(self) -> int:
        """Return the current time in epoch ms."""
        return round(trio.current_time() * 1000 + self._offset_ms)

    def offset_ms(self) -> int:
        """Return how far the machine's clock is ahead of this one: it was set, or the machine has slept."""
        return round(time.time() * 1000) - self.now() if self._follows_wall else 0

    def trio_time(self, epoch_ms: int) -> float:
        """Return the time of Trio's clock at which :meth:`now` reaches ``epoch_ms``."""
        return (epoch_ms - self._offset_ms) / 1000
