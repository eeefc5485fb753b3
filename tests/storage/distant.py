"""A store that is a network away: each commit is awaited, there and back, and may be cancelled in between."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import trio

from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.audit_kept import Kept
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.awaited import Leading, Question
from bunqueue_trio.storage.cluster import Cluster
from bunqueue_trio.storage.rows import FactRow
from bunqueue_trio.storage.store import Batch, Sampled, Space, Store
from tests.storage.faulty import Fault, FaultyStore

T = TypeVar("T")


class DistantStore(FaultyStore):
    """A :class:`FaultyStore` that only knows awaited commits, of which each takes ``away_s`` there and the same back.

    A batch whose answer nobody has waited for is not written again: it is known by its epoch. Once a server uses it, nothing can be read
    of it on the spot: whoever asks then stops all others for as long as the answer takes.
    """

    def __init__(self, inner: Store, commits: Iterable[Fault] = (), away_s: float = 0.01) -> None:
        super().__init__(inner, commits)
        self.at_once = False
        self.away_s = away_s
        self.lease_s = 10.0
        self.is_led = True
        self.ids_skipped = 0
        self.look_s = away_s
        """How long a question is on its way, and its answer."""
        self.repeated = 0
        """Commits that were there already."""
        self.asked: list[str] = []
        """What was looked up."""
        self.leads_so: Leading | None = None
        """How it leads, where a test wants something else."""
        self.seen: Cluster | None = None
        """What its watcher sees."""
        self._serves = self._is_awaited = False
        self._unheard: int | None = None
        """The epoch of the last commit, until its answer has arrived."""

    def _readable(self) -> None:
        assert self._is_awaited or not self._serves, "the archive is asked inside of a step"
        super()._readable()

    def last_event_at(self) -> int:
        self._readable()
        return super().last_event_at()

    def _beside(self, read: Callable[..., T], *args: Any) -> T:
        # The self-audit and the sweepers have a thread.
        before, self._is_awaited = self._is_awaited, True
        try:
            return read(*args)
        finally:
            self._is_awaited = before

    def stored(self, after: int, upto: int, limit: int) -> list[Stored]:
        return self._beside(super().stored, after, upto, limit)

    def stored_facts(self, after: tuple[str, str], limit: int) -> list[FactRow]:
        return self._beside(super().stored_facts, after, limit)

    def stored_kept(self, queue: str) -> Kept:
        return self._beside(super().stored_kept, queue)

    def sample(self, points: int) -> list[Sampled]:
        return self._beside(super().sample, points)

    def space(self) -> Space:
        return self._beside(super().space)

    async def write(self, batch: Batch, *, quick: bool) -> None:
        self._serves = True
        await trio.sleep(self.away_s)
        if batch.epoch == self._unheard:
            self.repeated += 1
        else:
            self.commit(batch)
            self._unheard = batch.epoch
        await trio.sleep(self.away_s)
        self._unheard = None

    def epoch_ms(self) -> int:
        return 1_600_000_000_000

    def leads(self) -> bool:
        self._serves = True
        return self.is_led

    def leading(self) -> Leading:
        return self.leads_so or Leading(7, self.lease_s / 2, 1234, self.lease_s, 3)

    def watcher(self) -> "Watching":
        return Watching(self)

    async def beat(self) -> None:
        await trio.sleep(self.away_s)

    async def look_up(self, question: Question) -> Any:
        self._serves = True
        await trio.sleep(self.look_s)
        self.asked.append(question.kind)
        answer = self._beside(question.ask, self)
        await trio.sleep(self.look_s)
        return answer


class Watching:
    """Sees what a test says that there is; without it, nothing can be seen."""

    def __init__(self, store: DistantStore) -> None:
        self._store = store

    async def look(self, jobs: int) -> Cluster:
        await trio.sleep(self._store.away_s)
        if self._store.seen is None:
            raise StoreError("nothing can be seen")
        return self._store.seen

    def close(self) -> None:
        pass
