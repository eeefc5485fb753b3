"""The PostgreSQL store: one server at a time leads, and each of its batches is one call of one function.

Theory of operation. The row of ``leader`` says who leads (its term, and a ``life`` that no other history of the database has), until when nobody else
may, and which batch was committed last. A batch has the next number, and its transaction begins with the change of that row: it fails when the row is
not as this server left it, and holds it until its end, so that a takeover waits for what is under way. Of this follows all the rest:

- *The fence.* A server that was taken for dead and goes on writes nothing: its term is over. It ends.
- *The lost answer.* When the connection breaks, nobody knows whether the last batch is there. It is sent again with the same number; where the row
  has that number already it is this batch, and what it has answered stands in the row.
- *The remembered tail.* A database may come back without its newest transactions: a replica that was behind leads now, or there was a crash with
  ``synchronous_commit=off``. The row has a smaller number then, of the same life. What is missing is written again from memory, in order; if that
  does not reach back so far, the server ends, and says so.

A server that has nothing to write beats the row instead. The clock of the lease is the database's alone.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
import trio

from bunqueue_trio import __version__
from bunqueue_trio.config import BEATS_A_LEASE, STORE_ANSWER_S, STORE_BYTES_PER_S, STORE_PAGE_ROWS
from bunqueue_trio.engine.job import Job, Records, State, Trace
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import TrailPage
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.awaited import Leading, Question, sure_s
from bunqueue_trio.storage.postgres.announcer import Announcer
from bunqueue_trio.storage.postgres.auditing import Audited
from bunqueue_trio.storage.postgres.cluster import Watcher
from bunqueue_trio.storage.postgres.link import DatabaseLink, Fenced, Query, Row
from bunqueue_trio.storage.postgres.looker import Looker
from bunqueue_trio.storage.postgres.parameters import COMMIT, Values, values_of
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.reads import SIZE, Left, Read, Reads, T
from bunqueue_trio.storage.postgres.retention import EVENTS, Pruner
from bunqueue_trio.storage.postgres.schema import Incomplete, check_schema
from bunqueue_trio.storage.postgres.tail import Tail, size
from bunqueue_trio.storage.postgres.terms import LEAD, LET_GO, SEEN, STARTED, TAKE, TAKE_AGAIN, TELL, Seen, own_name
from bunqueue_trio.storage.rows import FactRow
from bunqueue_trio.storage.store import Batch, FinishedCounts, Retention, Space, StoredEvent
from bunqueue_trio.storage.tally import Tally
from bunqueue_trio.storage.unseen import Unseen

_log = structlog.get_logger()

_COUNTS = "SELECT queue, state, count(*) FROM bq.finished GROUP BY 1, 2"
_GROUPS = "SELECT queue, fingerprint, count(*) FROM bq.finished WHERE fingerprint IS NOT NULL GROUP BY 1, 2"
_LAST_EVENT = "SELECT coalesce(max(last_id), 0) FROM bq.event_batch"
# Of a database that is slow and there: changes are refused without its answer. After a silent one there is time for another connection.
_BEAT_TRIES = 3
_AGAIN = "the database has lost its newest batches, writing them again"
_LAST_FIN = "SELECT coalesce(max(fin), 0) FROM bq.finished"


class PostgresStore(Audited, Unseen):
    """A store in a schema of a PostgreSQL database, for the one server that leads there; see :meth:`take`."""

    inline = False
    at_once = False

    def __init__(self, place: Place, lease_s: float = 10) -> None:
        self._place = place
        self.lease_s: float = lease_s
        self._commit = Query(place.qualified(COMMIT), name=f"commit_1_{place.schema}")
        self._writer = DatabaseLink(place.conninfo, self._commit)
        self._looker = Looker(place.conninfo)
        self._auditor = DatabaseLink(place.conninfo)
        self._reads = Reads(place.qualified)
        self._leader = (0, "")
        self._batch = 0
        """Number of the last batch that is known to be committed."""
        self._beat_at = 0.0
        self._clock_ms = 0.0
        self._link: str | None = None
        """Where others reach this server, once it has been said."""
        self._recounts = False
        self._size = 0
        self.ids_skipped = 0
        self.is_deaf: bool = False

    def take(self, *, name: str = "", serves: bool = True, last_word: str = "") -> str | None:
        """Lead from now on, under ``name``, unless another server does: return its name then.

        One that has ended, as far as anybody can tell, leads no more if ``last_word`` is its last one. Who only copies ``serves`` nobody, and is not counted among those who have led.

        Raises:
            StartupError: the database cannot be used.
            StoreError: it cannot be reached.
        """
        check_schema(self._auditor, self._place)
        sent_at = _now()
        self._says = (name or own_name(), str(self.lease_s), __version__, "true" if serves else "false")
        taken = self._ask(TAKE, *self._says, last_word)
        if not taken:
            return self.seen().holder
        [(term, life, self._batch, epoch_ms, life_before)] = taken
        self._leader = term, life
        self._tail = Tail(self._leader, life_before, self._batch)
        self._beat_at = sent_at
        self._clock_ms = epoch_ms - _now() * 1000
        self._pruner = Pruner(lambda query: self._writer.ask(self._here(query)), self._leader)
        self.sample = self._pruner.sample
        self._count()
        [(self.last_event_id,)], [(self._last_fin,)] = self._ask(_LAST_EVENT), self._ask(_LAST_FIN)
        return None

    def skip_event_ids(self) -> None:
        """Leave out the ids of events that readers may have seen and the database may have lost: no id means two things.

        They go on at the microseconds of its clock, which no server is quick enough to overtake.
        """
        if self._leader[0] > 1:
            last, self.last_event_id = self.last_event_id, max(self.last_event_id, self.epoch_ms() * 1000)
            self.ids_skipped = self.last_event_id - last

    def seen(self) -> Seen:
        """Return what the row of the leader says to who waits.

        Raises:
            StartupError: nobody can lead.
            StoreError: the database cannot be reached.
        """
        # One that has just come up may have no tables yet.
        check_schema(self._auditor, self._place)
        for row in self._ask(SEEN):
            return Seen(*row)
        raise Incomplete(f"{self._place}: the row of the leader is gone, so nobody can write there")

    @property
    def term(self) -> int:
        """How often somebody has begun to lead this queue, up to this server."""
        return self._leader[0]

    def announcer(self) -> Announcer:
        """Return the task that lets others know where this leader is reached; see :class:`AwaitedStore`."""
        return Announcer(self._place, self._tells_it)

    def _tells_it(self, link: str) -> Query:
        """Return what says where this leader is reached; of who leads no more nothing is written."""
        self._link = link
        return self._here(Query(TELL, (link, *self._leader)))

    def watcher(self) -> Watcher:
        """Return what looks at those who serve this store; see :class:`AwaitedStore`."""
        return Watcher(self._place)

    def _count(self) -> None:
        counted: FinishedCounts = Counter({(queue, state): n for queue, state, n in self._ask(_COUNTS)})
        groups: FinishedCounts = Counter({(queue, key): n for queue, key, n in self._ask(_GROUPS)})
        self._tally = Tally(counted, groups)
        [(self._pruner.events,)] = self._ask(EVENTS)
        self._recounts = False

    # --- leading --------------------------------------------------------------------------------

    def leads(self) -> bool:
        """Return whether nobody else can lead yet; counted from before the last beat was sent, and while the machine slept."""
        return _now() < self._beat_at + sure_s(self.lease_s, is_deaf=self.is_deaf)

    def leading(self) -> Leading:
        """Return how this server leads; see :class:`AwaitedStore`."""
        now, tail = _now(), self._tail
        left_s = max(0.0, self._beat_at + sure_s(self.lease_s, is_deaf=self.is_deaf) - now)
        return Leading(self._leader[0], left_s, tail.bytes, self.lease_s, len(tail), tail.reaches_s(now))

    async def beat(self) -> None:
        """Say that this server leads, unless a commit has lately; between two commits.

        Raises:
            StoreError: it could not be said.
            TakenOver: another one leads.
        """
        sent_at = _now()
        if sent_at - self._beat_at < self.lease_s / (BEATS_A_LEASE + 1):
            return
        try:
            asked = self._here(Query(LEAD, self._leader))
            [(batch, link)] = await self._writer.ask_soon(asked, self.lease_s / _BEAT_TRIES)
            # The database may have lost batches that only this server remembers, and it may end before it has something else to write.
            now_is = Fenced("{} {} {}".format(*self._leader, batch))
            fenced = None if batch >= self._batch and link == self._link else now_is
        except Fenced as error:
            fenced = error
        if fenced is not None:
            await self._write_again(fenced)
        self._beat_at = sent_at

    def epoch_ms(self) -> int:
        """Return the time of the database's clock, as this server has read it when it began to lead; see :class:`AwaitedStore`."""
        return round(self._clock_ms + _now() * 1000)

    def beat_now(self) -> None:
        """Say it while everything else waits, if it is time."""
        sent_at = _now()
        if sent_at - self._beat_at >= self.lease_s / BEATS_A_LEASE:
            self.lead(self._writer)
            self._beat_at = sent_at

    def lead(self, link: DatabaseLink) -> None:
        """Raise TakenOver if another server leads; keep others from leading until the transaction of ``link`` ends."""
        try:
            link.ask(self._here(Query(LEAD, self._leader)))
        except Fenced as fenced:
            raise self._tail.meaning(fenced, self._place) from None

    # --- writing --------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> None:
        """Write ``batch`` while everything else waits; see :class:`Store`."""
        number, values, sent_at = self._batch + 1, values_of(batch, self._last_fin), _now()
        try:
            rows = self._writer.ask(self._numbered(number, values))
        except Fenced as fenced:
            for query in self._forgotten(fenced):
                self._writer.ask(query)
            rows = self._writer.ask(self._numbered(number, values))
        self._settle(batch, number, values, rows, sent_at)

    async def write(self, batch: Batch, *, quick: bool) -> None:
        """Write ``batch``; see :class:`Store`."""
        # To make and copy large values would stop the event loop for longer than a thread hop takes; a slow database is waited for anyway.
        quick = quick or batch.is_brief()
        make = partial(values_of, batch, self._last_fin)
        values = make() if quick else await trio.to_thread.run_sync(make)
        number, sent_at = self._batch + 1, _now()
        patience = STORE_ANSWER_S + size(values) / STORE_BYTES_PER_S
        try:
            rows = await self._writer.ask_soon(self._numbered(number, values), patience, quick=quick)
        except Fenced as fenced:
            rows = await self._write_again(fenced, self._numbered(number, values), patience_s=patience)
        self._settle(batch, number, values, rows, sent_at)

    def _numbered(self, number: int, values: Values) -> Query:
        return self._commit._replace(values=(*self._leader, number, *values))

    async def _write_again(self, fenced: Fenced, *then: Query, patience_s: float = STORE_ANSWER_S) -> list[Row]:
        """Write the batches again that the database has lost, and ``then`` the new one; return the last answer. The next try finds out who leads."""
        rows: list[Row] = []
        try:
            for query in (*self._forgotten(fenced), *then):
                rows = await self._writer.ask_soon(query, patience_s)
                if not rows:
                    raise Fenced("")
        except Fenced:
            raise StoreError("another server may have taken over meanwhile") from None
        return rows

    def _forgotten(self, fenced: Fenced) -> list[Query]:
        """Return the queries that write again what the database has lost, in order: that this server leads, if need be, then batches.

        Raises:
            TakenOver: it is no more the database that this server leads, or they are not remembered.
        """
        tail = self._tail.lost(fenced)
        if tail is None:
            raise self._tail.meaning(fenced, self._place) from None
        if fenced.batch < self._batch or self._tail.is_before(fenced):
            _log.warning(_AGAIN, store=str(self._place), batches=len(tail))
        # It has lost what was deleted, too.
        self._recounts = True
        self._pruner.begin_anew()
        again = [self._numbered(*known) for known in tail]
        if self._tail.is_before(fenced):
            leads = (*self._says, *self._leader, *self._tail.before[1:])
            again.insert(0, self._here(Query(TAKE_AGAIN, leads)))
        return again if self._link is None else [*again, self._tells_it(self._link)]

    def _settle(self, batch: Batch, number: int, values: Values, rows: list[Row], sent_at: float) -> None:
        """Take account of a batch that is committed, once."""
        self._batch, self._beat_at = number, sent_at
        self._tail.remember(number, values, _now())
        self.last_event_id = batch.last_event_id
        self._pruner.events += len(batch.events)
        self._last_fin += len(batch.finished)
        [(gone,)] = rows
        if batch.finished or gone:
            added = Counter((row.queue, row.state) for row in batch.finished)
            grouped: FinishedCounts = Counter(
                (row.queue, row.fingerprint) for row in batch.finished if row.fingerprint is not None
            )
            went = json.loads(gone or "[]")
            added.subtract((queue, state) for queue, state, _ in went)
            grouped.subtract((queue, fingerprint) for queue, _, fingerprint in went if fingerprint is not None)
            self._tally.add(added, grouped)

    def prune(self, keep: Retention) -> int:
        """Delete some rows that are not to be kept; see :class:`Store`."""
        if self._recounts:
            self._count()
        [(self._size,)] = self._ask(SIZE, self._place.schema)
        try:
            return self._pruner.prune(keep, self.last_event_id, self._tally)
        except Fenced as fenced:
            raise self._tail.meaning(fenced, self._place) from None
        except StoreError:
            # Nobody knows whether that was deleted.
            self._recounts = True
            raise

    # --- reading --------------------------------------------------------------------------------

    def load(self) -> Iterable[Job]:
        """Yield every unfinished job; see :class:`Store`.

        Raises:
            StartupError: a row cannot be read.
        """
        after: int | None = 0
        begun_at, n = _now(), 0
        while after is not None:
            try:
                read = self._reads.some_jobs(after, STORE_PAGE_ROWS)
                jobs, after = read.answer(self._writer.ask(read.query))
            except (ValueError, LookupError) as error:
                raise StartupError(f"{self._place}: is damaged: {' '.join(str(error).split())}") from None
            yield from jobs
            n += len(jobs)
            self.beat_now()
        self._ask(STARTED, *self._leader, n, str(_now() - begun_at))

    def load_facts(self) -> Iterable[FactRow]:
        """Return every fact; see :class:`Store`."""
        return self._answer(self._reads.load_facts())

    async def look_up(self, question: Question) -> Any:
        """Return what the read of that name returns; see :class:`AwaitedStore`."""
        asked: Read[Any] = getattr(self._reads, question.kind)(*question.arguments, **dict(question.named))
        answer = await self._looker.ask(lambda: self._led(asked))
        return self.last_event_id + 1 if answer is None and question.kind == "first_event_id" else answer

    @property
    def finished_counts(self) -> FinishedCounts:
        """How many records are kept; see :class:`Store`."""
        return self._tally.counts()

    @property
    def finished_totals(self) -> Mapping[str, int]:
        """How many records are kept by state; see :class:`Store`."""
        return self._tally.totals

    def find(self, job_id: str, *, data: bool = True, result: bool = True) -> Job | None:
        """Return a finished job that is kept; see :class:`Store`."""
        return self._answer(self._reads.find(job_id))

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        """Return how some jobs ended; see :class:`Store`."""
        return self._answer(self._reads.outcomes(job_ids))

    def kept_of(self, queue: str) -> tuple[int, int]:
        """Return how many completed and failed jobs of a queue are kept; see :class:`Store`."""
        return self._tally.kept_of(queue)

    def queues_after(self, name: str, limit: int) -> list[str]:
        """Return the next queues of which finished jobs are remembered; see :class:`Store`."""
        return self._tally.queues_after(name, limit)

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        """Return what is kept of some finished jobs; see :class:`Store`."""
        return self._answer(self._reads.traces(first, end, limit))

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        """Return some of the finished jobs; see :class:`Store`."""
        return self._answer(self._reads.records(queue, state, before, limit, fingerprint, oldest=oldest))

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        """Return some of the lines of a trail; see :class:`Store`."""
        return self._answer(self._reads.trail(kind, key, place, limit, newest=newest))

    @property
    def dead_groups(self) -> DeadGroups:
        """The groups of all dead letters; see :class:`Store`."""
        return self._tally.dead_groups

    def is_grouped(self, queue: str) -> bool:
        """Return whether its groups add up; see :class:`Store`."""
        return self._tally.is_grouped(queue)

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> int | None:
        """Return since when there are some; see :class:`Store`."""
        return self._answer(self._reads.first_seen(queues, fingerprint))

    def events_after(self, event_id: int, limit: int) -> list[StoredEvent]:
        """Return kept events; see :class:`Store`."""
        return self._answer(self._reads.events_after(event_id, limit))

    def first_event_id(self) -> int:
        """Return the id of the oldest kept event; see :class:`Store`."""
        first = self._answer(self._reads.first_event_id())
        return self.last_event_id + 1 if first is None else first

    def last_event_at(self) -> int:
        """Return the time of the newest events; see :class:`Store`."""
        return self._answer(self._reads.last_event_at())

    def space(self) -> Space:
        """Return how large the tables were at the last :meth:`prune`; the room is the database's."""
        return Space(self._size, 0, 0)

    def shrink(self, size: int) -> int:
        """Do nothing: PostgreSQL does it by itself."""
        return 0

    def log_bytes(self) -> int:
        """Return 0: the log is the database's."""
        return 0

    def checkpoint(self, *, restart: bool) -> None:
        """Do nothing: PostgreSQL does it by itself."""

    def close(self) -> None:
        """Let the next server lead at once, and end the connections."""
        try:
            if self._leader[0] and self._writer.is_open:
                self._writer.ask(self._here(Query(LET_GO, self._leader)), 1)
        except StoreError:
            # It can when the lease is over.
            pass
        finally:
            for link in (self._writer, self._looker, self._auditor):
                link.close()

    def _answer(self, read: Read[T], link: DatabaseLink | None = None) -> T:
        """Return the answer while everything else waits, as at a start; a server that runs has :meth:`look_up`, or a thread and a ``link`` of it."""
        led = self._led(read)
        return led.answer((link or self._writer).ask(led.query))

    def _led(self, read: Read[T]) -> Read[T]:
        return self._reads.as_left(read, Left(*self._leader, self._batch))

    def _ask(self, text: str, *values: int | str) -> list[Row]:
        return self._writer.ask(self._here(Query(text, values)))

    def _here(self, query: Query) -> Query:
        return query._replace(text=self._place.qualified(query.text))


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
