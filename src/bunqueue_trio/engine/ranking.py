"""How many dead letters died of each error, in each queue and in all: kept as they change, so that the largest groups are found at once."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

from bunqueue_trio.engine.shelf import Shelf

Rank = tuple[int, str]
"""How many died of an error, below zero, so that the largest group comes first; and the error's fingerprint."""

FIRST: Rank = (-sys.maxsize, "")
"""Before all groups."""


class Ranking:
    """The errors of a queue, or of all, the largest group first; none is empty.

    To count more of one costs next to nothing, since a batch may bring thousands. Each gets its place when somebody asks for it, or at a look, which is at the first ones behind a place.
    """

    __slots__ = ("_shelves", "_stood", "sizes")

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._shelves: dict[int, Shelf] = {}
        """By size; none is empty."""
        self._stood: dict[str, int] = {}
        """Those that have another place to get, and by which size they stand; 0: nowhere."""

    def add(self, key: str, n: int) -> None:
        """Count ``n`` more of an error; fewer, if it is negative."""
        before = self.sizes.get(key, 0)
        self._stood.setdefault(key, before)
        if before + n:
            self.sizes[key] = before + n
        elif before:
            del self.sizes[key]

    def place(self, key: str) -> None:
        """Let an error have the place of its size."""
        before, now = self._stood.pop(key, None), self.sizes.get(key, 0)
        if before is None or before == now:
            return
        if before and self._shelves[before].remove(key):
            del self._shelves[before]
        if now in self._shelves:
            self._shelves[now].add(key)
        elif now:
            self._shelves[now] = Shelf([key])

    def place_all(self) -> None:
        """Let all have their places; where none has one yet, this is what a start takes."""
        if self._shelves:
            for key in list(self._stood):
                self.place(key)
            return
        keys: dict[int, list[str]] = {}
        for key in sorted(self.sizes):
            keys.setdefault(self.sizes[key], []).append(key)
        self._shelves = {size: Shelf(some) for size, some in keys.items()}
        self._stood.clear()

    def behind(self, place: Rank, some: int) -> list[Rank]:
        """Return the first ``some`` groups behind a place."""
        self.place_all()
        found: list[Rank] = []
        for size in sorted(self._shelves, reverse=True):
            if -size >= place[0]:
                keys = self._shelves[size].after(place[1] if -size == place[0] else "")
                found += [(-size, key) for key in islice(keys, some - len(found))]
                if len(found) >= some:
                    break
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
        self._changed: dict[tuple[str, str], None] = {}
        self.add(grouped)

    def add(self, grouped: Mapping[tuple[str, str], int]) -> None:
        """Count some more by queue and fingerprint, or fewer; the caller holds ``changing``."""
        for (queue, key), n in grouped.items():
            ranking = self._queues.get(queue)
            if ranking is None:
                ranking = self._queues[queue] = Ranking()
            ranking.add(key, n)
            self._all.add(key, n)
            self._changed[queue, key] = None
            where = self._where.setdefault(key, {})
            if key in ranking.sizes:
                where[queue] = ranking.sizes[key]
                continue
            where.pop(queue, None)
            if not where:
                del self._where[key]
            if not ranking.sizes:
                del self._queues[queue]

    def take_changed(self, some: int) -> list[tuple[str, str]]:
        """Give their places to up to ``some`` errors of which a queue has more or fewer since they were last taken, and return both."""
        # Each commit asks twice, and few have ended a job.
        if not self._changed:
            return []
        with self.changing:
            found = [self._changed.popitem()[0] for _ in range(min(some, len(self._changed)))]
            for queue, key in found:
                self._all.place(key)
                if (ranking := self._queues.get(queue)) is not None:
                    ranking.place(key)
        return found

    @property
    def has_changed(self) -> bool:
        """Whether there is something to be taken."""
        return bool(self._changed)

    def behind(self, queue: str | None, place: Rank, some: int) -> list[Rank]:
        """Return the first groups of a queue, of None all, behind a place, the largest first."""
        with self.changing:
            ranking = self._all if queue is None else self._queues.get(queue)
            return [] if ranking is None else ranking.behind(place, some)

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

    def all(self) -> list[tuple[str, str]]:
        """Return all queues and errors, when all have their places: as long as there are some."""
        with self.changing:
            self._changed.clear()
            for ranking in (self._all, *self._queues.values()):
                ranking.place_all()
            return [(queue, key) for queue, ranking in self._queues.items() for key in ranking.sizes]

    def total(self, queue: str) -> int:
        """Return how many dead letters all groups of a queue have."""
        return sum(self._sizes(queue).values())

    def _sizes(self, queue: str | None) -> Mapping[str, int]:
        if queue is None:
            return self._all.sizes
        ranking = self._queues.get(queue)
        return ranking.sizes if ranking is not None else {}
