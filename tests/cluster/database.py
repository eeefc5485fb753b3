"""A model of the database that the real store talks to: what each of its statements does, by the text of the statement.

What changes anything begins with the row of the leader, as the functions in ``ddl`` do. A statement is done in one instant: in
PostgreSQL the lock of that row puts them in an order, and the model has no other.
"""

import json
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from bunqueue_trio.storage.postgres import cluster, link, retention, schema, terms
from bunqueue_trio.storage.postgres import parameters as p
from bunqueue_trio.storage.postgres.link import Fenced, Query
from bunqueue_trio.storage.rows import ChangedRow, JobRow
from tests.cluster.cluster_tables import Disk, Row, Tables, Transaction

STAR = "seq", "fin", "last_id"
_INT8 = 20
_BYTEA = 17
_CHANGES = [JobRow._fields.index(name) for name in ChangedRow._fields[:-1]]


class Leader(NamedTuple):
    """The row that says who leads."""

    term: int = 0
    life: str = "00000000-0000-4000-8000-000000000000"
    batch: int = 0
    answer: str | None = None
    holder: str = ""
    beat: float = float("-inf")
    lease_s: float = 0.0
    link: str | None = None


class Contradiction(AssertionError):
    """A statement breaks a constraint."""


def decode(value: bytes) -> list[Any]:
    """Return the elements of a binary array."""
    dimensions, _, kind = struct.unpack_from(">iii", value)
    if not dimensions:
        return []
    (n,) = struct.unpack_from(">i", value, 12)
    at, found = 20, []
    for _ in range(n):
        (size,) = struct.unpack_from(">i", value, at)
        at += 4
        if size < 0:
            found.append(None)
            continue
        raw = value[at : at + size]
        at += size
        found.append(struct.unpack(">q", raw)[0] if kind == _INT8 else raw if kind == _BYTEA else raw.decode())
    assert at == len(value)
    return found


class Committed(NamedTuple):
    """A batch as it was sent, its parameters by the names of their groups."""

    term: int
    life: str
    number: int
    durable: bool
    reused: list[str]
    rewritten: list[int]
    new: list[Row]
    changed: list[Row]
    ended: list[int]
    finished: list[Row]
    facts: list[Row]
    trails: list[Row]
    events: list[Row]


def parse(values: Sequence[Any]) -> Committed:
    """Return the batch that the parameters of a commit say."""
    columns = iter([decode(value) for value in values[4:]])

    def rows(kinds: Sequence[Any]) -> list[Row]:
        return list(zip(*[next(columns) for _ in kinds], strict=True))

    term, life, number, durable = values[:4]
    return Committed(
        int(term), life, int(number), durable == "t", next(columns), next(columns), rows(p.NEW), rows(p.CHANGED),
        next(columns), rows(p.FINISHED), rows(p.FACT), rows(p.TRAIL), rows(p.EVENT),
    )  # fmt: skip


class Database:
    """The tables, and what is asked of them."""

    def __init__(self, rng: random.Random, clock: Callable[[], float], key: bytes = b"k" * 32) -> None:
        self._rng = rng
        self._clock = clock
        self.disk = Disk()
        self.on_commit: Callable[[Committed, bool], None] = lambda batch, is_new: None
        """Called with each batch that is there now; it may have been before."""
        self.on_take: Callable[[Leader, Leader], None] = lambda before, after: None
        self.before_take: Callable[[], None] = lambda: None
        """Called when somebody wants to take over: what comes in this moment is before it."""
        self.after_take: Callable[[], None] = lambda: None
        """Called when somebody just has."""
        with self.disk.transaction(float("-inf")) as tx:
            tx.put("leader", True, Leader())
            tx.put("link", True, (key,))
        from tests.cluster import reads

        self._statements: dict[str, Callable[..., list[Row]]] = reads.statements(self) | {
            terms.LEAD: self._lead, terms.TAKE: self._take, terms.TAKE_AGAIN: self._take_again, terms.SEEN: self._seen,
            terms.LET_GO: self._let_go, p.COMMIT: self._commit, terms.TELL: self._tell, terms.LOOK: self._look,
            terms.STARTED: lambda *_: [], terms.WAIT + terms.LOOK: lambda *_: self._look(), terms.WAITS_NO_MORE: lambda *_: [],
            retention._PRUNE: self._prune_finished, retention._PRUNE_EVENTS: self._prune_events,
            retention._PRUNE_ACTIONS: self._prune_actions, link._SETTINGS: list,
            cluster._LEADER: self._look_at_leader, cluster._OLDEST: lambda: [(None,)], cluster._TABLES: lambda _: [],
            **dict.fromkeys((cluster._TERMS, cluster._WAITING, cluster._REPLICAS), list), "SELECT 1": lambda: [(1,)],
            schema._ABOUT: lambda *_: [(150018, "15.18", "UTF8", True, len(self.tables))],
            schema._VERSION: lambda: [(schema.migrations()[-1][0],)],
        }  # fmt: skip

    @property
    def tables(self) -> Tables:
        return self.disk.tables

    @property
    def leader(self) -> Leader:
        [row] = self._rows()
        return row

    def _rows(self) -> list[Leader]:
        return list(self.tables["leader"].values())  # type: ignore[arg-type]

    def run(self, query: Query) -> list[Row]:
        """Do a statement.

        Raises:
            Fenced: somebody else leads.
            AssertionError: it breaks a constraint.
        """
        if query.text not in self._statements:
            raise NotImplementedError(query.text)
        return self._statements[query.text](*query.values)

    # --- the leader -----------------------------------------------------------------------------

    def _fence(self, tx: Transaction, term: int, life: str) -> Leader:
        """Let whoever leads go on, and nobody else."""
        now_is = self.leader
        if (now_is.term, now_is.life) != (int(term), life):
            raise self._fenced()
        now_is = now_is._replace(beat=self._clock())
        tx.put("leader", True, now_is)
        return now_is

    def _fenced(self) -> Fenced:
        now_is = self.leader
        return Fenced(f"{now_is.term} {now_is.life} {now_is.batch} {now_is.holder}")

    def _lead(self, term: int, life: str) -> list[Row]:
        with self.disk.transaction(self._clock()) as tx:
            self._fence(tx, term, life)
        return [(self.leader.batch, self.leader.link)]

    def _seen(self) -> list[Row]:
        return [
            (row.holder, row.term, row.batch, f"{row.life} {row.beat!r}", row.beat == float("-inf"), row.lease_s)
            for row in self._rows()
        ]

    def _take(self, holder: str, lease_s: str, _version: str, _serves: str, last_word: str) -> list[Row]:
        self.before_take()
        before, now = self.leader, self._clock()
        if before.beat + before.lease_s >= now and f"{before.life} {before.beat!r}" != last_word:
            return []
        life = f"{self._rng.getrandbits(128):032x}"
        after = Leader(before.term + 1, life, before.batch, None, holder, now, float(lease_s), None)
        with self.disk.transaction(now) as tx:
            tx.put("leader", True, after)
        self.on_take(before, after)
        self.after_take()
        return [(after.term, life, after.batch, round(now * 1000), before.life)]

    def _take_again(
        self, holder: str, lease_s: str, _version: str, _serves: str, term: int, life: str, life_before: str, batch: int
    ) -> list[Row]:
        row, now = self.leader, self._clock()
        if (row.term, row.life, row.batch) != (int(term) - 1, life_before, int(batch)):
            return []
        with self.disk.transaction(now) as tx:
            tx.put("leader", True, Leader(int(term), life, row.batch, None, holder, now, float(lease_s), None))
        return [(int(term),)]

    def _let_go(self, term: int, life: str) -> list[Row]:
        now_is = self.leader
        if (now_is.term, now_is.life) == (int(term), life):
            with self.disk.transaction(self._clock()) as tx:
                tx.put("leader", True, now_is._replace(beat=float("-inf")))
        return []

    def _tell(self, where: str, term: int, life: str) -> list[Row]:
        now_is = self.leader
        if (now_is.term, now_is.life) == (int(term), life):
            with self.disk.transaction(self._clock()) as tx:
                tx.put("leader", True, now_is._replace(link=where))
            return [(where,)]
        return []

    def _look(self) -> list[Row]:
        return [(self.leader.link, key) for (key,) in self.tables["link"].values()]

    def _look_at_leader(self) -> list[Row]:
        now, row = self._clock(), self.leader
        return [
            (
                row.term,
                row.holder,
                "",
                row.link,
                row.beat + row.lease_s >= now,
                now - row.beat,
                row.lease_s,
                None,
                None,
                None,
            )
        ]

    # --- a batch --------------------------------------------------------------------------------

    def is_next(self, batch: Committed) -> bool:
        """Whether a batch may be written now; False: it is there already.

        Raises:
            Fenced: neither is the case.
        """
        now_is = self.leader
        if (now_is.term, now_is.life) == (batch.term, batch.life):
            if now_is.batch == batch.number:
                return False
            if now_is.batch == batch.number - 1:
                return True
        raise self._fenced()

    def _commit(self, *values: Any) -> list[Row]:
        batch = parse(values)
        if not self.is_next(batch):
            self.on_commit(batch, False)
            return [(self.leader.answer,)]
        with self.disk.transaction(self._clock()) as tx:
            gone = self._write(tx, batch)
            now_is = self.leader._replace(batch=batch.number, beat=self._clock(), answer=gone)
            tx.put("leader", True, now_is)
        self.on_commit(batch, True)
        return [(gone,)]

    def _write(self, tx: Transaction, batch: Committed) -> str | None:
        tables = self.tables
        gone = [record for job_id in batch.reused if (record := self._forget(tx, job_id)) is not None]
        for seq in batch.rewritten:
            tx.put("job", seq, None)
        self._write_jobs(tx, batch)
        self._write_ends(tx, batch)
        for kind, key, value in batch.facts:
            tx.put("fact", (kind, key), None if value is None else (value,))
        for change in batch.trails:
            self._change_trail(tx, *change)
        for event in batch.events:
            if event[0] in tables["event_batch"]:
                raise Contradiction(f"the store contradicts the engine: a second event {event[0]}")
            tx.put("event_batch", event[0], event)
        return json.dumps(gone) if gone else None

    def _write_jobs(self, tx: Transaction, batch: Committed) -> None:
        tables = self.tables
        for row in batch.new:
            if row[0] in tables["job"]:
                raise Contradiction(f"the store contradicts the engine: a second job {row[0]}")
            tx.put("job", row[0], row)
        for *values, seq in batch.changed:
            if (old := tables["job"].get(seq)) is not None:
                row = list(old)
                for at, value in zip(_CHANGES, values, strict=True):
                    row[at] = value
                tx.put("job", seq, tuple(row))

    def _write_ends(self, tx: Transaction, batch: Committed) -> None:
        tables = self.tables
        for seq in batch.ended:
            tx.put("job", seq, None)
        for row in batch.finished:
            if row[0] in tables["finished"] or row[1] in tables["finished_id"]:
                raise Contradiction(f"the store contradicts the engine: a second record {row[:2]}")
            tx.put("finished", row[0], row)
            tx.put("finished_id", row[1], (row[0],))

    def _forget(self, tx: Transaction, job_id: str) -> list[Any] | None:
        """Delete a record, and the trails that go with it; return its queue, state and fingerprint."""
        found = self.tables["finished_id"].get(job_id)
        if found is None:
            return None
        row = self.tables["finished"][found[0]]
        tx.put("finished", found[0], None)
        tx.put("finished_id", job_id, None)
        self._drop_trails(tx, job_id, None)
        return [row[2], row[3], row[-1]]

    def _drop_trails(self, tx: Transaction, key: str, kind: str | None) -> None:
        for name in [name for name in self.tables["trail"] if name[0] == key and kind in (None, name[1])]:
            first, after, _ = self.tables["trail"][name]
            for n in range(first, after):
                tx.put("trail_line", (*name, n), None)
            tx.put("trail", name, None)

    def _change_trail(
        self, tx: Transaction, what: int, key: str, kind: str, at: int, body: bytes, lines: int, size: int
    ) -> None:
        if what in (0, 1):
            self._drop_trails(tx, key, kind if what else None)
            return
        if what == 3 and key not in self.tables["finished_id"]:
            return
        first, after, total = self.tables["trail"].get((key, kind), (1, 1, 0))
        tx.put("trail_line", (key, kind, after), (at, body))
        after, total = after + 1, total + len(body)
        while after - first > 1 and (after - first > lines or total > size):
            total -= len(self.tables["trail_line"][key, kind, first][1])
            tx.put("trail_line", (key, kind, first), None)
            first += 1
        tx.put("trail", (key, kind), (first, after, total))

    # --- retention ------------------------------------------------------------------------------

    def _prune_finished(self, term: int, life: str, keys: bytes) -> list[Row]:
        gone: Counter[tuple[str, str, str | None]] = Counter()
        with self.disk.transaction(self._clock()) as tx:
            self._fence(tx, term, life)
            for fin in decode(keys):
                row = self.tables["finished"].get(fin)
                if row is not None:
                    gone[tuple(self._forget(tx, row[1]) or ())] += 1  # type: ignore[index]
        return [(*which, n) for which, n in gone.items()]

    def _prune_events(self, term: int, life: str, keys: bytes) -> list[Row]:
        with self.disk.transaction(self._clock()) as tx:
            self._fence(tx, term, life)
            for last_id in decode(keys):
                tx.put("event_batch", last_id, None)
        return [("",)]

    def _prune_actions(self, term: int, life: str, kind: str, most: int, since: int, rows: int) -> list[Row]:
        if ("", kind) not in self.tables["trail"]:
            return [(0,)]
        first, after, size = self.tables["trail"]["", kind]
        lines = self.tables["trail_line"]
        aged = max((n for n in range(first, min(after, first + rows)) if lines["", kind, n][0] < since), default=0)
        doomed = min(max(after - 1 - most, aged), first + rows - 1)
        if doomed < first:
            return [(0,)]
        with self.disk.transaction(self._clock()) as tx:
            self._fence(tx, term, life)
            for n in range(first, doomed + 1):
                size -= len(lines["", kind, n][1])
                tx.put("trail_line", ("", kind, n), None)
            tx.put("trail", ("", kind), (doomed + 1, after, size))
        return [(doomed + 1 - first,)]

    # --- for those who look ---------------------------------------------------------------------

    def records(self) -> Iterator[Row]:
        """Yield what is kept of finished jobs, in the order of their ends."""
        return iter([row for _, row in sorted(self.tables["finished"].items())])

    def go_back(self) -> int:
        """Go on with the replica; return how many transactions are lost."""
        return self.disk.promote(self._clock())

    def first_event_id(self) -> int:
        """Return the id of the oldest event that is kept."""
        rows = self.tables["event_batch"]
        return min((last_id - row[1] + 1 for last_id, row in rows.items()), default=0)
