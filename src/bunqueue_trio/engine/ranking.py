"""How many dead letters died of each error, in each queue and in all: kept as they change, so that the largest groups are found at once."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

from bunqueue_trio.engine.line import Line

Rank = tuple[int, str]
"""How many died of an error, below zero, so that the largest group comes first; and the error's fingerprint."""


class Ranking:
    """The errors of a queue, or of all, the largest group first; none is empty."""

    __slots__ = ("line", "sizes")

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        self.sizes: dict[str, int] = dict(sizes or {})
        self.line: Line[Rank] = Line(tuple)
        self.line.fill([(-n, key) for key, n in self.sizes.items()])

    def add(self, key: str, n: int) -> None:
        """Count ``n`` more of an error; fewer, if it is negative."""
        before = self.sizes.pop(key, 0)
        if before:
            self.line.remove((-before, key))
        if before + n:
            self.sizes[key] = before + n
            self.line.add((-before - n, key))


class DeadGroups:
    """The groups of all dead letters. Where a thread changes them while the event loop looks, ``changing`` is a lock."""

    def __init__(
        self, grouped: Mapping[tuple[str, str], int], changing: AbstractContextManager[Any] | None = None
    ) -> None:
        """Begin with these, by queue and fingerprint; each of them is more than 0."""
        self.changing: AbstractContextManager[Any] = nullcontext() if changing is None else changing
        self._where: dict[str, dict[str, int]] = {}
        """How many each queue has of an error."""
        queues: dict[str, dict[str, int]] = {}
        for (queue, key), n in grouped.items():
            queues.setdefault(queue, {})[key] = n
            self._where.setdefault(key, {})[queue] = n
        self._queues = {queue: Ranking(sizes) for queue, sizes in queues.items()}
        self._all = Ranking({key: sum(found.values()) for key, found in self._where.items()})

    def add(self, grouped: Mapping[tuple[str, str], int]) -> None:
        """Count some more by queue and fingerprint, or fewer; the caller holds ``changing``."""
        for (queue, key), n in grouped.items():
            ranking = self._queues.setdefault(queue, Ranking())
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

    def ranks(self, queue: str | None, behind: Rank | None, some: int) -> Iterator[Rank]:
        """Iterate over the groups of a queue, of None all, behind a place, the largest first; ``some`` are looked up at a time."""
        while True:
            with self.changing:
                ranking = self._all if queue is None else self._queues.get(queue)
                if ranking is None:
                    return
                found = list(islice(ranking.line if behind is None else ranking.line.after(behind), some))
            if not found:
                return
            yield from found
            behind = found[-1]

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
