"""How many records a store keeps of finished jobs, and which errors the dead ones died of; counted once, at the start, and kept from then on."""

import threading
from collections import Counter
from itertools import islice

from bunqueue_trio.engine.line import Line
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.storage.store import FinishedCounts

_STATES = ("completed", "failed", "removed")


class Tally:
    """Counts by queue and state, and by state alone, which a commit or a deletion changes where they stand.

    With many queues a copy costs more than a commit: it is made for who asks for all of them.
    """

    def __init__(self, counted: FinishedCounts, grouped: FinishedCounts) -> None:
        self._counts = Counter(counted)
        """Of nobody there is a 0."""
        self._queues: Line[str] = Line(str)
        """All that are counted, in order."""
        self._queues.fill(list({queue for queue, _ in counted}))
        # By a thread, while the event loop looks.
        self._changing = threading.Lock()
        self.dead_groups: DeadGroups = DeadGroups(grouped, self._changing)
        self.totals: Counter[str] = Counter(dict.fromkeys(_STATES, 0))
        for (_, state), n in counted.items():
            self.totals[state] += n

    def add(self, added: FinishedCounts, grouped: FinishedCounts) -> None:
        """Count ``added`` more by queue and state, and ``grouped`` by queue and fingerprint; what is negative, fewer."""
        counts = self._counts
        with self._changing:
            self.dead_groups.add(grouped)
            for (queue, state), n in added.items():
                self.totals[state] += n
                before = counts[queue, state]
                if before + n:
                    counts[queue, state] = before + n
                    if not before and queue not in self._queues:
                        self._queues.add(queue)
                else:
                    del counts[queue, state]
                    if not any((queue, each) in counts for each in _STATES):
                        self._queues.remove(queue)

    def kept_of(self, queue: str) -> tuple[int, int]:
        """Return how many completed and failed jobs of a queue there are."""
        return self._counts[queue, "completed"], self._counts[queue, "failed"]

    def queues_after(self, name: str, limit: int) -> list[str]:
        """Return the first ``limit`` queues behind ``name``, by name, that have records."""
        with self._changing:
            return list(islice(self._queues.after(name), limit))

    def is_grouped(self, queue: str) -> bool:
        """Return whether the groups of a queue add up to its dead letters."""
        with self._changing:
            return self._counts[queue, "failed"] == self.dead_groups.total(queue)

    def counts(self) -> FinishedCounts:
        """Return a copy of the counts."""
        with self._changing:
            return self._counts.copy()
