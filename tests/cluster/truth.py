"""What is committed, over all terms: what clients are answered is held against it.

A database that has gone back does not change it, since whoever leads is to write again what is missing. When another one takes over
instead, what was lost is lost: it is noted, and excused only when nobody who remembered it could have written it.
"""

import json
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from bunqueue_trio.engine.trails import LOG
from bunqueue_trio.storage.rows import FinishedRow, JobRow
from bunqueue_trio.storage.store import RS
from tests.cluster.database import Committed, Leader
from tests.sim.sim_disk import UNTOLD, Platter

_ENDED_ID, _ENDED_STATE, _ENDED_DATA = (FinishedRow._fields.index(name) + 1 for name in ("id", "state", "data"))
_SEQ, _ID, _DATA, _OPTIONS, _LEASE = (JobRow._fields.index(name) for name in ("seq", "id", "data", "options", "lease"))


class Told(NamedTuple):
    """An event that is committed."""

    id: int
    body: bytes
    queue: str


class Truth:
    """The batches in their order, and what follows of them."""

    def __init__(self, make: Callable[[], Platter], fail: Callable[[str], None]) -> None:
        self._make = make
        self._fail = fail
        self.platter = make()
        self.batches: list[Committed] = []
        self.told: list[Told] = []
        self.lost: list[Committed] = []
        """Those that are gone for good."""
        self.lost_told: set[tuple[int, bytes]] = set()
        self.lost_ids: set[str] = set()
        """The jobs of which something is lost."""
        self.lost_nonces: set[int] = set()
        self.losses = 0
        self._pushed: set[int] = set()
        self._dead: set[tuple[str, int]] = set()
        """Of each dead letter that there was, its id and nonce."""
        self.tokens: set[str] = set()
        """Every token whose delivery was committed, lost or not."""
        self.pulled: Counter[str] = Counter()
        """How often a job was delivered by what is committed."""
        self._newest: dict[tuple[str, int], list[str]] = {}
        """Job by id and nonce → its tokens in the order of their commits."""
        self._names: dict[int, tuple[str, int]] = {}
        self.on_batch: list[Callable[[Any], None]] = []

    def committed(self, batch: Committed, is_new: bool) -> None:
        """Hear of a batch that is in the database (``Database.on_commit``)."""
        at = batch.number - 1
        if at < len(self.batches):
            if self.batches[at] != batch:
                self._fail(f"batch {batch.number} is another one than was written before")
            return
        if at > len(self.batches) or not is_new:
            self._fail(f"batch {batch.number} comes after {len(self.batches)}")
        self.batches.append(batch)
        self._note(batch)

    def taken(self, before: Leader, after: Leader) -> list[Committed]:
        """Hear of another leader; return what is lost for good."""
        lost = self.batches[after.batch :]
        if lost:
            self.lost += lost
            self.losses += 1
            kept, self.batches = self.batches[: after.batch], []
            lost_told = self.told[sum(row[1] for batch in kept for row in batch.events) :]
            self.lost_told |= {(each.id, each.body) for each in lost_told}
            self.lost_ids |= {_event(each.body).job_id for each in lost_told}  # some have begun and ended in one batch
            for batch in lost:
                rows = [*batch.new, *batch.finished]
                names = [self._names.get(row[-1]) for row in batch.changed] + [self._names.get(s) for s in batch.ended]
                self.lost_ids |= {row[1] for row in (*rows, *batch.trails)} | {name[0] for name in names if name}
                self.lost_nonces |= {nonce_of(row[_DATA]) for row in batch.new} | {name[1] for name in names if name}
            self.platter, self.told, self._newest, hooks = self._make(), [], {}, self.on_batch
            self.on_batch, self.pulled, self._pushed, self._names = [], Counter(), set(), {}
            for batch in kept:
                self.batches.append(batch)
                self._note(batch)
            self.on_batch = hooks
        return lost

    @property
    def names(self) -> list[tuple[str, int]]:
        """Every push, as id and nonce, in the order of their commits."""
        return list(self._names.values())

    def has_died(self, job_id: str) -> bool:
        """Whether it is, or was, a dead letter."""
        return any(name[0] == job_id for name in self._dead)

    def tokens_of(self, job_id: str, nonce: int) -> list[str]:
        return self._newest.get((job_id, nonce), [])

    def _note(self, batch: Committed) -> None:
        for row in batch.new:
            nonce = nonce_of(row[_DATA])
            # Each run of a series is a job with the data of the first one.
            if row[_SEQ] not in self._names and "series" not in (row[_OPTIONS] or ""):
                if nonce in self._pushed and not self._may_come_again(row[_ID], nonce):
                    self._fail(f"the push {nonce} has made two jobs, the second is {row[_ID]}")
                self._pushed.add(nonce)
            self._names[row[_SEQ]] = row[_ID], nonce
            self._note_lease(row[_SEQ], row[_LEASE])
        for row in batch.changed:
            self._note_lease(row[-1], row[-3])
        for row in batch.finished:
            name = row[_ENDED_ID], nonce_of(row[_ENDED_DATA] or b"{}")
            if row[_ENDED_STATE] == "failed":
                self._dead.add(name)
        bodies, told = [], []
        for last_id, count, _, body, _ in batch.events:
            its = body.split(RS)
            assert len(its) == count
            bodies += its
            told += range(last_id - count + 1, last_id + 1)
        if told and self.told and told[0] <= self.told[-1].id:
            self._fail(f"event {told[0]} comes after {self.told[-1].id}")
        heard = [_event(body) for body in bodies]
        self.pulled.update(event.job_id for event in heard if event.event_type == "pulled")
        before = len(self.platter.events)
        self.platter.written |= {json.loads(row[4])["message"] for row in batch.trails if row[2] == LOG and row[4]}
        self.platter.note(SimpleNamespace(events=bodies, heard=heard, durable=batch.durable))  # type: ignore[arg-type]
        queues = self.platter.queue_of[before:]
        self.told += [Told(*each) for each in zip(told, bodies, queues, strict=True)]
        for hear in self.on_batch:
            hear(SimpleNamespace(events=bodies, heard=heard))

    def _may_come_again(self, job_id: str, nonce: int) -> bool:
        """Whether a push may have made another job: it was a schedule's, or its dead letter waits again."""
        return "@" in job_id or (job_id, nonce) in self._dead

    def _note_lease(self, seq: int, lease: str | None) -> None:
        token = json.loads(lease)["token"] if lease else None
        if token is not None:
            self.tokens.add(token)
            its = self._newest.setdefault(self._names[seq], [])
            if token not in its:
                its.append(token)

    def wanted_after(self, place: int, queue: str | None) -> int | None:
        """Return the place of the next event behind ``place`` that a reader of ``queue`` is to hear."""
        for at in range(place, len(self.told)):
            if self.told[at].queue is not UNTOLD and queue in (None, self.told[at].queue):
                return at
        return None


def nonce_of(data: bytes) -> int:
    """Return what tells a push from others of the same id."""
    return int(json.loads(data).get("n", 0))


def _event(body: bytes) -> Any:
    said = json.loads(body)
    return SimpleNamespace(event_type=said["eventType"], queue=said.get("queue", ""), job_id=said.get("jobId", ""))
