"""The remembered tail: the newest batches of a term, and its beginning, which a database may come back without."""

from collections import deque

from bunqueue_trio.config import STORE_TAIL_BYTES
from bunqueue_trio.errors import StoreError, TakenOver
from bunqueue_trio.storage.postgres.link import Fenced
from bunqueue_trio.storage.postgres.parameters import Values
from bunqueue_trio.storage.postgres.place import Place


class Tail:
    """What the leader of a term, known by its ``leader``, has written behind what the last one had left."""

    def __init__(self, leader: tuple[int, str], life_before: str, batch: int) -> None:
        self._leader = leader
        self.before: tuple[int, str, int] = (leader[0] - 1, life_before, batch)
        """The row as it was found: term, life and batch."""
        self._batches: deque[tuple[int, Values]] = deque()
        self._at: deque[float] = deque()
        self._newest = batch
        self._is_whole = True
        self.bytes: int = 0

    def __len__(self) -> int:
        return len(self._batches)

    def remember(self, number: int, values: Values, now: float) -> None:
        """Note a batch that is committed; the oldest ones make room."""
        self._newest = number
        self._batches.append((number, values))
        self._at.append(now)
        self.bytes += size(values)
        while self.bytes > STORE_TAIL_BYTES:
            self.bytes -= size(self._batches.popleft()[1])
            self._at.popleft()
            self._is_whole = False

    def reaches_s(self, now: float) -> float | None:
        """Return for how long back every batch is remembered; None: since the first one."""
        if self._is_whole:
            return None
        return now - self._at[0] if self._at else 0.0

    def is_before(self, fenced: Fenced) -> bool:
        """Return whether the database is as it was when this term began: it has lost that, too."""
        return (fenced.term, fenced.life, fenced.batch) == self.before

    def lost(self, fenced: Fenced) -> list[tuple[int, Values]] | None:
        """Return the batches that the database has not any more, oldest first; None: it is another one, or they are not remembered."""
        is_ours = (fenced.term, fenced.life) == self._leader or self.is_before(fenced)
        lost = [known for known in self._batches if known[0] > fenced.batch]
        return lost if is_ours and len(lost) == self._newest - fenced.batch else None

    def meaning(self, fenced: Fenced, place: Place) -> Exception:
        """Return what it is to this server that it may not write."""
        if self.is_before(fenced):
            return StoreError("the database has lost that this server leads, which is about to be written again")
        if not fenced.life:
            return StoreError("the row of the leader is gone, so nobody can write there")
        if (fenced.term, fenced.life) == self._leader or fenced.term < self._leader[0]:
            return TakenOver(
                f"{place}: the database has lost what was committed there (it is at batch {fenced.batch} of term "
                f"{fenced.term}, this server at {self._newest} of {self._leader[0]}), and it is not remembered any more"
            )
        return TakenOver(f"{place}: another server has taken over ({fenced.holder}), this one ends")


def size(values: Values) -> int:
    """Return how much there is to send, and to keep."""
    return sum(len(value) for value in values if isinstance(value, bytes))
