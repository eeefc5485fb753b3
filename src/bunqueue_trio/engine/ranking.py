"""How many dead letters died of each error, in each queue and in all: kept as they change, so that the largest groups are found at once."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from heapq import nsmallest
from typing import Any

Rank = tuple[int, str]
"""How many died of an error, below zero, so that the largest group comes first; and the error's fingerprint."""

FIRST: Rank = (-sys.maxsize, "")
"""Before all groups."""


# Fingerprints are hexadecimal, and as likely to begin with one pair as with another: of 100,000 groups of a size 400 are together.
_PREFIX = 2


class Ranking:
    """The errors of a queue, or of all, the largest group first; none is empty.

    A change is to cost little, since a batch may bring thousands. So they are not in order, but few are together where one
    looks for the next: those of a size whose fingerprints begin alike.
    """

    __slots__ = ("_shelves", "sizes")

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._shelves: dict[int, dict[str, set[str]]] = {}
        """By size, and by what they begin with; none is empty."""

    def add(self, key: str, n: int) -> None:
        """Count ``n`` more of an error; fewer, if it is negative."""
        before, begin = self.sizes.get(key, 0), key[:_PREFIX]
        if before:
            shelf = self._shelves[before]
            some = shelf[begin]
            some.remove(key)
            if not some:
                del shelf[begin]
                if not shelf:
                    del self._shelves[before]
        after = before + n
        if after:
            self.sizes[key] = after
            shelf = self._shelves.setdefault(after, {})
            if begin in shelf:
                shelf[begin].add(key)
            else:
                shelf[begin] = {key}
        elif before:
            del self.sizes[key]

    def behind(self, place: Rank, some: int) -> list[Rank]:
        """Return the first ``some`` groups behind a place."""
        found: list[Rank] = []
        for size in sorted(self._shelves, reverse=True):
            if -size < place[0]:
                continue
            shelf, last = self._shelves[size], place[1] if -size == place[0] else ""
            for begin in sorted(shelf):
                if begin >= last[:_PREFIX]:
                    # Who likes makes texts of one beginning: of very many only the first are sorted.
                    found += [(-size, key) for key in nsmallest(some, (key for key in shelf[begin] if key > last))]
                    if len(found) >= some:
                        return found[:some]
        return found


class DeadGroups:
    """The groups of all dead letters. Where a thread changes them while the event loop looks, ``changing`` is a lock."""

    def __init__(
        self, grouped: Mapping[tuple[str, str], int], changing: AbstractContextManager[Any] | None = None
    ) -> None:
        """Begin with these, by queue and fingerprint."""
        self.changing: AbstractContextManager[Any] = nullcontext() if changing is None else changing
        self._where: dict[str, dict[str, int]] = {}
        """How many each queue has of an error."""
        self._queues: dict[str, Ranking] = {}
        self._all = Ranking()
        self.add(grouped)

    def add(self, grouped: Mapping[tuple[str, str], int]) -> None:
        """Count some more by queue and fingerprint, or fewer; the caller holds ``changing``."""
        for (queue, key), n in grouped.items():
            ranking = self._queues.get(queue)
            if ranking is None:
                ranking = self._queues[queue] = Ranking()
            ranking.add(key, n)
            self._all.add(key, n)
            where = self._where.setdefault(key, {})
            if key in ranking.sizes:
                where[queue] = ranking.sizes[key]
                continue
            where.pop(queue, None)
            if not where:
                del self._where[key]
            if not ranking.sizes:
                del self._queues[queue]

    def ranks(self, queue: str | None, place: Rank, some: int) -> Iterator[Rank]:
        """Iterate over the groups of a queue, of None all, behind a place, the largest first; ``some`` are looked up at a time."""
        while True:
            with self.changing:
                ranking = self._all if queue is None else self._queues.get(queue)
                found = [] if ranking is None else ranking.behind(place, some)
            if not found:
                return
            yield from found
            place = found[-1]

    def count(self, queue: str | None) -> int:
        """Return how many groups a queue has, of None all have."""
        return len(self._sizes(queue))

    def size(self, queue: str | None, key: str) -> int:
        """Return how many dead letters of a queue, of None all, died of an error."""
        return self._sizes(queue).get(key, 0)

    def sum_of(self, queue: str, keys: Iterable[str]) -> int:
        """Return how many dead letters of a queue died of one of these errors."""
        sizes = self._sizes(queue)
        return sum(sizes.get(key, 0) for key in keys) if sizes else 0

    def where(self, key: str, queue: str | None) -> dict[str, int]:
        """Return how many died of an error in each queue, or in the one."""
        with self.changing:
            found = self._where.get(key, {})
            return dict(found) if queue is None else {queue: found[queue]} if queue in found else {}

    def sizes(self, queue: str | None) -> dict[str, int]:
        """Return how many died of each error in a queue, in None of all: as long as there are errors."""
        with self.changing:
            return dict(self._sizes(queue))

    def total(self, queue: str) -> int:
        """Return how many dead letters all groups of a queue have."""
        return sum(self._sizes(queue).values())

    def _sizes(self, queue: str | None) -> Mapping[str, int]:
        if queue is None:
            return self._all.sizes
        ranking = self._queues.get(queue)
        return ranking.sizes if ranking is not None else {}
