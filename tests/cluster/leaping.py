"""Virtual time without sockets and threads: when no task can go on, it is the time of the next deadline at once.

``MockClock`` looks at the kernel, and counts everything that there is, before each of its jumps. And who only sleeps needs no scope that is cancelled
at the end of it: most of what a cluster does in an hour is to look again a moment later.
"""

import math
from heapq import heappop, heappush
from itertools import count
from typing import Any

import trio
from trio._core import _run

# Now and then, for the signal of whoever interrupts the run.
_LOOKS_EVERY = 1000


class LeapingClock(trio.abc.Clock):
    """The clock of a run in which nothing comes from outside."""

    def __init__(self) -> None:
        self._now = 0.0
        self._sleepers: list[tuple[float, int, list[trio.lowlevel.Task]]] = []
        """By when they wake up; of one that was cancelled the task is gone."""
        self._numbers = count()

    def start_clock(self) -> None:
        """Begin at 0."""

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        while self._sleepers and not self._sleepers[0][2]:
            heappop(self._sleepers)
        deadline = min(deadline, self._sleepers[0][0] if self._sleepers else math.inf)
        if deadline == math.inf:
            # Of the run's end Trio tells itself by a socket.
            return deadline
        self._now = max(self._now, deadline)
        self._wake()
        return 0

    async def sleep(self, seconds: float) -> None:
        """Do as ``trio.sleep`` does."""
        if seconds == math.inf:
            await trio.sleep_forever()
        if seconds <= 0:
            assert seconds == 0
            await trio.lowlevel.checkpoint()
            return
        who = [trio.lowlevel.current_task()]
        heappush(self._sleepers, (self._now + seconds, next(self._numbers), who))

        def abort(_: Any) -> trio.lowlevel.Abort:
            who.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        """Wake those whose time has come."""
        while self._sleepers and self._sleepers[0][0] <= self._now:
            for task in heappop(self._sleepers)[2]:
                trio.lowlevel.reschedule(task)


def sees_no_sockets() -> tuple[Any, str, Any]:
    """Return what is to be replaced so that Trio does not ask the kernel in each of its rounds."""
    manager = _run.TheIOManager
    real, rounds = manager.get_events, 0

    def get_events(self: Any, timeout: float) -> Any:
        nonlocal rounds
        rounds += 1
        return real(self, timeout) if timeout or rounds % _LOOKS_EVERY == 0 else []

    return manager, "get_events", get_events
