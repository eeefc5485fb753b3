"""How many records a store keeps of finished jobs; counted once, at the start, and kept from then on."""

import threading
from collections import deque
from itertools import islice

from bunqueue_trio.engine.line import Line
from bunqueue_trio.storage.store import FinishedCounts

_STATES = ("completed", "failed", "removed")


class Tally:
    """Counts by queue and state, and by state alone.

    A commit only notes what it adds, since with many queues a copy costs more than the commit. Whoever asks
    adds it up; retention does so every few seconds, so little waits.
    """

    def __init__(self, counted: FinishedCounts) -> None:
        self._counts = counted
        self._added: deque[FinishedCounts] = deque()
        self._now: dict[tuple[str, str], int] = dict(counted)
        """As they are now, changed in place: for whoever asks of one queue."""
        self._queues: Line[str] = Line(str)
        self._queues.fill(list({queue for queue, _ in counted}))
        self._adding = threading.Lock()  # of whoever asks: the event loop, or a thread that prunes
        self.totals: dict[str, int] = dict.fromkeys(_STATES, 0)
        self._add_totals(counted)

    def add(self, added: FinishedCounts) -> None:
        """Count ``added`` more; what is negative, fewer."""
        self._added.append(added)
        self._add_totals(added)
        with self._adding:
            for (queue, state), n in added.items():
                self._add(queue, state, n)

    def kept_of(self, queue: str) -> tuple[int, int]:
        """Return how many completed and failed jobs of a queue there are."""
        return self._now.get((queue, "completed"), 0), self._now.get((queue, "failed"), 0)

    def queues_after(self, name: str, limit: int) -> list[str]:
        """Return the first ``limit`` queues behind ``name``, by name, that have records."""
        with self._adding:
            return list(islice(self._queues.after(name), limit))

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

    def _add(self, queue: str, state: str, n: int) -> None:
        known = any((queue, each) in self._now for each in _STATES)
        left = self._now.get((queue, state), 0) + n
        if left:
            self._now[queue, state] = left
        else:
            self._now.pop((queue, state), None)
        knows = any((queue, each) in self._now for each in _STATES)
        if knows and not known:
            self._queues.add(queue)
        elif known and not knows:
            self._queues.remove(queue)

    def _add_totals(self, added: FinishedCounts) -> None:
        for (_, state), n in added.items():
            self.totals[state] = self.totals.get(state, 0) + n
