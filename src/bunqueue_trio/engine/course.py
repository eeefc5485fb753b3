"""What went on in all queues together, by the minute for a week, and which servers did it: durable and bounded.

A fact holds an hour of minutes, as JSON: ``[[end, pushed, completed, failed, stalled, retried], …]``. It is written anew with each
minute in which anything happened. Another one holds the life of a server, from its start to its stop.
"""

from bisect import insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bunqueue_trio.config import COURSE_APART_MS, FIGURES_HOURS, HOUR_MS, LIVES_KEPT, MINUTE_MS
from bunqueue_trio.engine.facts import Facts

COURSE, LIFE = "figures-whole", "life"
"""The kinds of facts: an hour by its number since 1970, and a life by its beginning."""

_ROWS = msgspec.json.Decoder(list[list[int]])
_encode = msgspec.json.Encoder().encode


class Counts(NamedTuple):
    """What happened until a moment, since the one before it."""

    at: int
    pushed: int = 0
    completed: int = 0
    failed: int = 0
    """Attempts."""
    stalled: int = 0
    retried: int = 0


class Life(Struct, rename="camel", omit_defaults=True):
    """A server that has served these queues: since when, where, and until when, if it has stopped in order."""

    began: int
    host: str
    process: int
    version: str
    ended: int | None = None


_life = msgspec.json.Decoder(Life).decode


class Course:
    """The minutes of the last week."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def note(self, at: int, counts: Sequence[int]) -> None:
        """End a minute in which that much has happened: pushed, completed, failed, stalled, retried."""
        if any(counts):
            key = str((at - 1) // HOUR_MS)
            rows = _ROWS.decode(self._facts.of(COURSE).get(key, b"[]"))
            # Starts may follow each other faster than minutes; and the clock of one may have been ahead.
            near = next((row for row in reversed(rows) if abs(at - row[0]) < COURSE_APART_MS), None)
            if near is not None:
                near[:] = [max(at, near[0]), *(a + b for a, b in zip(near[1:], counts, strict=True))]
            else:
                insort(rows, [at, *counts])
            self._facts.set(COURSE, key, _encode(rows))
        for hour in [*map(int, self._facts.of(COURSE))]:
            if hour <= (at - 1) // HOUR_MS - FIGURES_HOURS:
                self._facts.delete(COURSE, str(hour))

    def since(self) -> int | None:
        """Return since when there are figures; None: there are none yet."""
        hour = min(map(int, self._facts.of(COURSE)), default=None)
        return None if hour is None else _ROWS.decode(self._facts.of(COURSE)[str(hour)])[0][0] - MINUTE_MS

    def between(self, since: int, until: int) -> Iterator[Counts]:
        """Yield the minutes of which a part is in a window, oldest first."""
        rows = self._facts.of(COURSE)
        for hour in range((since - 1) // HOUR_MS, (until + MINUTE_MS - 2) // HOUR_MS + 1):
            for row in _ROWS.decode(rows.get(str(hour), b"[]")):
                if since < row[0] < until + MINUTE_MS:
                    yield Counts._make(row)


class Lives:
    """The servers of these queues, the newest of them."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def note(self, life: Life) -> None:
        """Note that a server is there, or that it has stopped."""
        self._facts.set(LIFE, str(life.began), _encode(life))
        known = sorted(map(int, self._facts.of(LIFE)))
        for began in known[:-LIVES_KEPT]:
            self._facts.delete(LIFE, str(began))

    def all(self) -> list[Life]:
        """Return those that are known, oldest first."""
        return sorted(map(_life, self._facts.of(LIFE).values()), key=lambda life: life.began)
