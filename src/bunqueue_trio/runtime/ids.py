"""Ids and lock tokens: UUIDv7 texts, each above all before it, whatever happens to the clock.

The first 60 bits beside the version, milliseconds and a counter, are what rises; a client takes the
fencing number of a delivery from them. They rise over restarts too, also when the clock was set back
meanwhile: each transaction with events, which every delivery has, notes a time not before that of the
newest id (:meth:`Ids.stamp`), the last of these notes is never deleted, and the next life begins above
it by :data:`LEAD_MS`. A crash may forget deliveries that were answered before their commit, so none is
that is newer than the last note by half of that (:func:`answers_at_once`).
"""

from collections.abc import Callable
from random import Random  # noqa: TID251 - a test hands in its own

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.storage.store import Batch

LEAD_MS = 10_000
"""How far above the last note of the lives before a life begins; for half as long after a note deliveries are answered at once."""

# 12 bits: 4 million ids a second; beyond, the milliseconds run ahead of the clock.
_COUNT_MAX = 0xFFF
# To format a number costs as much as all the rest of an id.
_COUNTS = [f"{count:03x}" for count in range(_COUNT_MAX + 1)]


class Ids:
    """Makes ids for the time that it is given; ``stamped`` is the last note of the lives before."""

    def __init__(self, stamped: int, random: Random | None = None) -> None:
        self._bits = (random or Random()).getrandbits  # noqa: S311 - unique, not secret
        self._begin(stamped + LEAD_MS if stamped else 0)

    def __call__(self, now: int) -> str:
        """Return a new id."""
        if now > self._ms:
            self._begin(now)
        elif self._count < _COUNT_MAX:
            self._count += 1
        else:
            self._begin(self._ms + 1)
        return f"{self._head}{_COUNTS[self._count]}{self._tail}"

    def stamp(self, now: int) -> int:
        """Return ``now``, or the time of the newest id where that is later."""
        return max(now, self._ms)

    def _begin(self, ms: int) -> None:
        self._ms, self._count = ms, 0
        # By way of bytes, which takes half the time of formatting: one who pushes alone pays it for each push.
        time = ms.to_bytes(6).hex()
        self._head = f"{time[:8]}-{time[8:]}-7"
        # The variant, and 62 bits that no other server has.
        tail = (self._bits(62) | 1 << 63).to_bytes(8).hex()
        self._tail = f"-{tail[:4]}-{tail[4:]}"


def answers_at_once(engine: Engine) -> Callable[[Batch, float], None]:
    """Let ``engine`` hold back deliveries whose numbers the next life could give again; return what hears of each commit."""
    engine.at_once_until = 0

    def note(batch: Batch, _seconds: float) -> None:
        if batch.events:
            engine.at_once_until = batch.stamp + LEAD_MS // 2

    return note
