"""How many records a store keeps of finished jobs; counted once, at the start, and kept from then on."""

import threading
from collections import deque

from bunqueue_trio.storage.store import FinishedCounts


class Tally:
    """Counts by queue and state, and by state alone.

    A commit only notes what it adds, since with many queues a copy costs more than the commit. Whoever asks
    adds it up; retention does so every few seconds, so little waits.
    """

    def __init__(self, counted: FinishedCounts) -> None:
        self._counts = counted
        self._added: deque[FinishedCounts] = deque()
        self._adding = threading.Lock()  # of whoever asks: the event loop, or a thread that prunes
        self.totals: dict[str, int] = dict.fromkeys(("completed", "failed", "removed"), 0)
        self._add_totals(counted)

    def add(self, added: FinishedCounts) -> None:
        """Count ``added`` more; what is negative, fewer."""
        self._added.append(added)
        self._add_totals(added)

    def counts(self) -> FinishedCounts:
        """Return the counts as they are now; they are never changed in place."""
        with self._adding:
            if self._added:
                counts = self._counts.copy()
                while self._added:
                    for key, n in self._added.popleft().items():
                        counts[key] += n
                        if not counts[key]:
                            del counts[key]  # nobody is counted as 0
                self._counts = counts
            return self._counts

    def _add_totals(self, added: FinishedCounts) -> None:
        for (_, state), n in added.items():
            self.totals[state] = self.totals.get(state, 0) + n
