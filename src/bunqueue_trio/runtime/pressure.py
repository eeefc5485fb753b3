"""How much may gather for the next commit, judged by how fast the disk took the last ones."""

from collections import deque

from bunqueue_trio.config import (
    COMMITS_JUDGED,
    GATHER_BYTES_MIN,
    GATHER_JOBS_MAX,
    GATHER_JOBS_MIN,
    GATHER_S,
    GATHER_UNKNOWN,
    PENDING_BYTES_MIN,
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
        self._gather = self._limits(GATHER_UNKNOWN, GATHER_JOBS_MIN, GATHER_BYTES_MIN)
        self._pending = self._limits(PENDING_UNKNOWN, PENDING_JOBS_MIN, PENDING_BYTES_MIN)

    def fills(self, jobs: int, size: int) -> bool:
        """Return whether so many jobs of so many bytes are a batch: large requests are to wait for the next."""
        return jobs >= min(self._gather[0], GATHER_JOBS_MAX) or size >= self._gather[1]

    def refuses(self, jobs: int, size: int) -> bool:
        """Return whether an answer would have to wait too long with so much before it."""
        return jobs >= self._pending[0] or size >= self._pending[1]

    def learn(self, jobs: int, size: int, seconds: float) -> None:
        """Take note of a commit."""
        if jobs < GATHER_JOBS_MIN and size < GATHER_BYTES_MIN:
            return  # it says nothing of how fast large ones are
        # By the best of them: any disk is slow once, only a slow one every time.
        self._speeds.append(max(jobs / self._jobs_max, size / self._bytes_max) / max(seconds, 0.001))
        speed = max(self._speeds)
        self._gather = self._limits(speed * GATHER_S, GATHER_JOBS_MIN, GATHER_BYTES_MIN)
        self._pending = self._limits(speed * PENDING_S, PENDING_JOBS_MIN, PENDING_BYTES_MIN)

    def _limits(self, part: float, jobs_min: int, bytes_min: int) -> tuple[int, int]:
        jobs, size = int(self._jobs_max * part), int(self._bytes_max * part)
        return min(self._jobs_max, max(jobs_min, jobs)), min(self._bytes_max, max(bytes_min, size))
