"""The one reader of the wall clock; everything else is handed the time.

Between the start and the end of a process time is the monotonic clock's, from one anchor: it never falls,
and whoever sets the system clock moves no delay and no lease. The price is that a clock which was wrong at
the start stays wrong here, and that a suspended machine's sleep is not counted. Nothing is set anew under a
running engine; instead :class:`ClockWatch` sees the difference, tells the log once, and a metric shows it.
A restart reads the clock anew.
"""

import time
from collections.abc import Callable

import structlog
import trio

from bunqueue_trio.config import CLOCK_LOOK_S, CLOCK_OFF_MS
from bunqueue_trio.engine.zones import local_text as local_text

_log = structlog.get_logger()


class Clock:
    """Epoch milliseconds that follow Trio's clock from one anchor.

    Steps of the system clock do not move it, and under ``MockClock`` it is virtual. Must be made
    inside a Trio run. ``epoch_ms`` replaces the wall clock as the anchor.
    """

    def __init__(self, epoch_ms: int | None = None) -> None:
        wall_ms = time.time() * 1000 if epoch_ms is None else epoch_ms
        self.follows_wall: bool = epoch_ms is None
        """Whether it was anchored at the wall clock, so that the two can be compared."""
        self.time: Callable[[], float] = trio.lowlevel.current_clock().current_time
        """``trio.current_time`` without its two detours: each request reads it three times."""
        self._offset_ms = wall_ms - self.time() * 1000

    def now(self) -> int:
        """Return the current time in epoch ms."""
        return round(self.time() * 1000 + self._offset_ms)

    def epoch_ms(self, trio_time: float) -> int:
        """Return what :meth:`now` says at ``trio_time``: who has read Trio's clock need not read it again."""
        return round(trio_time * 1000 + self._offset_ms)

    def trio_time(self, epoch_ms: int) -> float:
        """Return the time of Trio's clock at which :meth:`now` reaches ``epoch_ms``."""
        return (epoch_ms - self._offset_ms) / 1000


class ClockWatch:
    """Compares the wall clock with the server's every so often, and warns of each new difference once."""

    def __init__(self, clock: Clock, wall: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._wall = wall if wall is not None else time.time if clock.follows_wall else None
        self._told_ms = 0
        self.offset_ms: int = 0
        """How far the wall clock was ahead of the server's at the last look; negative: behind."""

    async def wait_due(self) -> None:
        """Sleep until the next look."""
        await trio.sleep(CLOCK_LOOK_S)

    async def step(self) -> None:
        """Look."""
        if self._wall is None:
            return
        self.offset_ms = round(self._wall() * 1000) - self._clock.now()
        if abs(self.offset_ms - self._told_ms) < CLOCK_OFF_MS:
            return
        self._told_ms = self.offset_ms
        if abs(self.offset_ms) < CLOCK_OFF_MS:
            _log.info("the system clock agrees with the server's again", offset_ms=self.offset_ms)
        else:
            _log.warning(
                "the system clock was set, or the machine was suspended; the server's times stay as they were until a restart",
                offset_ms=self.offset_ms,
            )
