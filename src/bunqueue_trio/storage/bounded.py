"""Which of the queues that keep fewer dead letters than others a step of the retention looks into: some, each in its turn.

A look is a question to the store, for which commits wait; thousands of queues may say how many they keep, or for how long.
"""

from bisect import bisect_right
from itertools import islice

from bunqueue_trio.config import QUEUES_PRUNED
from bunqueue_trio.storage.store import Retention
from bunqueue_trio.storage.tally import Tally


class Bounded:
    """Where the look for what is too old has come to."""

    def __init__(self) -> None:
        self._seen = ""

    def over(self, keep: Retention, tally: Tally) -> list[tuple[str, int]]:
        """Return some queues that keep more dead letters than they may, and by how many each."""
        surplus = ((name, tally.kept_of(name)[1] - most) for name, (most, _) in keep.dead_of.items())
        return list(islice((each for each in surplus if each[1] > 0), QUEUES_PRUNED))

    def aged(self, keep: Retention, tally: Tally) -> list[tuple[str, int]]:
        """Return the next queues of which dead letters may be too old, and since when each keeps them."""
        names = sorted(name for name, (_, since) in keep.dead_of.items() if since > 0 and tally.kept_of(name)[1])
        begin = bisect_right(names, self._seen)
        some = names[begin : begin + QUEUES_PRUNED]
        self._seen = some[-1] if begin + len(some) < len(names) else ""
        return [(name, keep.dead_of[name][1]) for name in some]
