"""How much may gather for the next commit, judged by how fast the disk took the last ones."""

from collections import deque

from bunqueue_trio.config import (
    COMMITS_JUDGED,
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
    """Two limits, both at most what the settings allow: from the first on large requests wait, from the second all are refused."""

    def __init__(self, jobs_max: int, bytes_max: int) -> None:
        self._jobs_max = jobs_max
        self._bytes_max = bytes_max
        self._speeds: deque[float] = deque(maxlen=COMMITS_JUDGED)
        """Of the last large commits: what part of the settings' limits they would commit in a second."""
        self._gather = self._jobs(GATHER_UNKNOWN, GATHER_JOBS_MIN)
        self._gather_bytes = self._bytes(GATHER_UNKNOWN)
        self._pending = self._jobs(PENDING_UNKNOWN, PENDING_JOBS_MIN)

    def fills(self, jobs: int, size: int) -> bool:
        """Return whether so many jobs of so many bytes are a batch: large requests are to wait for the next."""
        return jobs >= min(self._gather, GATHER_JOBS_MAX) or size >= self._gather_bytes

    def refuses(self, jobs: int, size: int) -> bool:
        """Return whether an answer would have to wait too long with so much before it.

        Of bytes only the setting counts: a single large request must not refuse all small ones.
        """
        return jobs >= self._pending or size >= self._bytes_max

    def learn(self, jobs: int, size: int, seconds: float) -> None:
        """Take note of a commit."""
        if jobs < GATHER_JOBS_MIN and size < GATHER_BYTES_MIN:
            return  # it says nothing of how fast large ones are
        # By the best of them: any disk is slow once, only a slow one every time.
        self._speeds.append(max(jobs / self._jobs_max, size / self._bytes_max) / max(seconds, 0.001))
        speed = max(self._speeds)
        self._gather = self._jobs(speed * GATHER_S, GATHER_JOBS_MIN)
        self._gather_bytes = self._bytes(speed * GATHER_S)
        self._pending = self._jobs(speed * PENDING_S, PENDING_JOBS_MIN)

    def _jobs(self, part: float, least: int) -> int:
        return min(self._jobs_max, max(least, int(self._jobs_max * part)))

    def _bytes(self, part: float) -> int:
        return min(self._bytes_max, max(GATHER_BYTES_MIN, int(self._bytes_max * part)))
