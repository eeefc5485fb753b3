"""The newest batches that a leader has committed: what it writes again when the database comes back without them. It refuses to decide when."""

from collections import deque

from bunqueue_trio.config import STORE_TAIL_BYTES
from bunqueue_trio.storage.postgres.parameters import Values


class Tail:
    """Batches with their numbers, the oldest first, up to STORE_TAIL_BYTES."""

    def __init__(self) -> None:
        self.batches: deque[tuple[int, Values]] = deque()
        self.bytes: int = 0
        self._at: deque[float] = deque()
        self._is_whole = True

    def remember(self, number: int, values: Values, now: float) -> None:
        """Note a batch that was committed; the oldest make room."""
        self.batches.append((number, values))
        self._at.append(now)
        self.bytes += size_of(values)
        while self.bytes > STORE_TAIL_BYTES:
            self.bytes -= size_of(self.batches.popleft()[1])
            self._at.popleft()
            self._is_whole = False

    def after(self, number: int) -> list[tuple[int, Values]]:
        """Return the batches behind this one, as far as they are remembered."""
        return [known for known in self.batches if known[0] > number]

    def reaches_s(self, now: float) -> float | None:
        """Return for how long back every batch is remembered; None: since the first one."""
        if self._is_whole:
            return None
        return now - self._at[0] if self._at else 0.0


def size_of(values: Values) -> int:
    """Return how many bytes the arrays of a batch have."""
    return sum(len(value) for value in values if isinstance(value, bytes))
