"""How much may gather for the next commit, judged by how fast the disk took the last ones.

Theory of operation. While a batch is written the next one gathers, and its clients wait for the rest of the first
commit and for all of their own. How long that takes depends on the disk, so a limit in jobs alone is wrong on
nearly every machine: on a slow disk it lets clients wait for minutes, on a quick one it refuses for nothing.

So each large commit tells a speed: the part of the settings' limits that it would commit in a second, by jobs or
by bytes, whichever is more. The best of the last COMMITS_JUDGED counts, since any disk is slow once and only a slow
one every time. Small commits are mostly overhead and tell nothing; a durable one tells of fsync, not of size.

From the speed follow two thresholds. What is committed in GATHER_S is a batch: above it large requests wait in
line for the next one, one at a time, while small ones pass. What is committed in PENDING_S is the most that may
gather: above it new work is refused, early, so that it can be tried elsewhere or later. Acks and whatever else
empties the queues rather wait: one bulk push on a slow disk is more than that, and must not keep workers out. They are
refused at twice the settings, or where they would wait for some seconds. Before the first large commit the thresholds are a fixed part of the settings,
and at no time are they above them or so low that a quiet server would refuse anybody.
"""

from collections import deque

import trio

from bunqueue_trio.config import (
    COMMITS_JUDGED,
    EMPTYING_TIMES,
    GATHER_BYTES_MIN,
    GATHER_JOBS_MAX,
    GATHER_JOBS_MIN,
    GATHER_S,
    GATHER_UNKNOWN,
    PENDING_JOBS_MIN,
    PENDING_S,
    PENDING_UNKNOWN,
)


class Pressure:
    """Two thresholds, neither above the settings: above the lower one large requests wait, above the upper one new work is refused."""

    def __init__(self, jobs_max: int, bytes_max: int) -> None:
        self.line: trio.Lock = trio.Lock()
        """Held by the large request whose turn it is."""
        self._eased: trio.Event | None = None
        """Set when what gathers now is taken, or the disk fails; None: nobody waits for that."""
        self.last_s: float = 0.0
        """How long the last commit took."""
        self._jobs_max = jobs_max
        self._bytes_max = bytes_max
        self._speeds: deque[float] = deque(maxlen=COMMITS_JUDGED)
        """Of the last large commits: what part of the settings' limits they would commit in a second."""
        self._gather = min(GATHER_JOBS_MAX, self._jobs(GATHER_UNKNOWN, GATHER_JOBS_MIN))
        self._gather_bytes = self._bytes(GATHER_UNKNOWN)
        self._pending = self._jobs(PENDING_UNKNOWN, PENDING_JOBS_MIN)

    def fills(self, jobs: int, size: int) -> bool:
        """Return whether ``jobs`` of ``size`` bytes are a batch: large requests are to wait for the next."""
        return jobs >= self._gather or size >= self._gather_bytes

    def refuses(self, jobs: int, size: int) -> bool:
        """Return whether an answer would have to wait too long with so much before it.

        Of bytes only the setting counts: a single large request must not refuse all small ones.
        """
        return jobs >= self._pending or size >= self._bytes_max

    def refuses_to_empty(self, jobs: int, size: int) -> bool:
        """Return whether even what empties the queues would have to wait too long, or would take too much memory."""
        return jobs >= 2 * min(self._jobs_max, EMPTYING_TIMES * self._pending) or size >= 2 * self._bytes_max

    def learn(self, jobs: int, size: int, seconds: float) -> None:
        """Take note of a commit."""
        if jobs < GATHER_JOBS_MIN and size < GATHER_BYTES_MIN:
            # It says nothing of how fast large ones are.
            return
        # By the best of them: any disk is slow once, only a slow one every time.
        self._speeds.append(max(jobs / self._jobs_max, size / self._bytes_max) / max(seconds, 0.001))
        speed = max(self._speeds)
        self._gather = min(GATHER_JOBS_MAX, self._jobs(speed * GATHER_S, GATHER_JOBS_MIN))
        self._gather_bytes = self._bytes(speed * GATHER_S)
        self._pending = self._jobs(speed * PENDING_S, PENDING_JOBS_MIN)

    def _jobs(self, part: float, least: int) -> int:
        return min(self._jobs_max, max(least, int(self._jobs_max * part)))

    def _bytes(self, part: float) -> int:
        return min(self._bytes_max, max(GATHER_BYTES_MIN, int(self._bytes_max * part)))

    def eased(self) -> trio.Event:
        """Return the event that is set when what gathers now is taken, or the disk fails."""
        if self._eased is None:
            self._eased = trio.Event()
        return self._eased

    def ease(self) -> None:
        """Let those go on who wait for that."""
        if self._eased is not None:
            self._eased.set()
            self._eased = None
