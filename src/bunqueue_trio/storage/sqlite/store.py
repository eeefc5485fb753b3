"""The SQLite store: every statement and every pragma on a file that may be opened.

WAL with ``synchronous=NORMAL``: a commit survives the end of the process at any moment; a durable one
is made with ``FULL`` and survives a power cut. Checkpoints never run inside a commit. There is one
writing connection, used by one caller at a time (the event loop or one worker thread), and one
reading connection for the event loop.

A ``COMMIT`` that fails is not there for this process, whatever of it reached the log: the retry writes
over it. Only when the process ends before any retry may the next start find it, whole. It was never
answered, so both are right.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import trio
from msgspec.json import encode

from bunqueue_trio.config import INLINE_ROWS_MAX, INLINE_S_MAX, REPLAY_BYTES, SLOW_DISK_S
from bunqueue_trio.engine.job import Job, Records, State, Trace
from bunqueue_trio.engine.ranking import DeadGroups
from bunqueue_trio.engine.trails import TrailPage
from bunqueue_trio.errors import StartupError, StoreBusy, StoreError, StoreGone
from bunqueue_trio.storage.rows import FactRow, JobRow, Reader, outcome, record_columns, trace
from bunqueue_trio.storage.sqlite import records, trails
from bunqueue_trio.storage.sqlite.auditing import Audited
from bunqueue_trio.storage.sqlite.copied import Copied
from bunqueue_trio.storage.sqlite.held import Held
from bunqueue_trio.storage.sqlite.log import Log
from bunqueue_trio.storage.sqlite.meaning import Meaning, is_full, one_line
from bunqueue_trio.storage.sqlite.opening import (
    Transaction,
    lock,
    make_private,
    migrate,
    real,
    refuse_foreign,
    sync_directory,
)
from bunqueue_trio.storage.sqlite.parted import has_log, take_back_log
from bunqueue_trio.storage.sqlite.retention import Pruner, sample
from bunqueue_trio.storage.sqlite.writing import counts, write_rows
from bunqueue_trio.storage.store import Batch, FinishedCounts, Retention, Sampled, Space, StoredEvent, stored_events
from bunqueue_trio.storage.tally import Tally

T = TypeVar("T")

# A start may wait for a tool that has the file for a moment.
_OPEN_BUSY_MS = 5000
# Who works in a thread waits for as long as this while another process writes to the file; then the journal waits, and tries again.
_BUSY_MS = 250
# What reads in the event loop is in nobody's way, but for a moment while another process opens the file.
_READ_BUSY_MS = 5
# Of payloads: what is written stays in memory up to the COMMIT; the cache has twice that.
_CACHED_BYTES = 8 * 1024 * 1024
# Of PRAGMA auto_vacuum: pages are given back when that is asked for.
_INCREMENTAL = 2
# A log that grew once gives space back, but not what it soon needs again: that takes 5 ms.
_LOG_KEPT = 32 * 1024 * 1024

_JOB = ", ".join(JobRow._fields)
_FACTS = f"SELECT {', '.join(FactRow._fields)} FROM fact ORDER BY kind, key"  # noqa: S608
_BOTH = (True, False)
_FIND = {(d, r): f"SELECT {record_columns(data=d, result=r)} FROM finished WHERE id=?" for d in _BOTH for r in _BOTH}  # noqa: S608
"""By whether the data and the result are read: SQLite would read a value of megabytes page by page."""
_OUTCOMES = "SELECT id, state FROM finished WHERE id IN (SELECT value FROM json_each(?))"
_TRACES = (
    "SELECT id, state, started_at, finished_at, note FROM finished WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?"
)
_LOAD = f"SELECT {_JOB} FROM job ORDER BY seq"  # noqa: S608


class SqliteStore(Audited, Copied):
    """A store in the file ``path``, which no other process may have open as a store."""

    inline = False
    at_once = True

    def __init__(self, path: str | Path) -> None:
        self.path: Path = real(Path(path))
        self._lock = lock(self.path)
        self._connections: list[apsw.Connection] = []
        self._held: Held | None = None
        self._meaning = Meaning()
        try:
            self._open()
        except StartupError:
            self.close()
            raise
        except (apsw.Error, OSError, ValueError) as error:
            self.close()
            said = f"{self.path}: cannot be opened as a store: {one_line(error)}"
            if is_full(self.path):
                # It may pass: a service manager shall start the server again.
                raise StoreError(f"{said}; there is no room left on its disk") from None
            raise StartupError(said) from None

    def _open(self) -> None:
        take_back_log(self.path)
        refuse_foreign(self.path)
        make_private(self.path)
        # If it was not there before.
        self._lock.take_file()
        self._writer = writer = self._connect(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        if writer.readonly("main"):
            raise StartupError(f"{self.path}: cannot be opened as a store: it is read-only")
        # The log that an ended process has left is not moved into the file before the file is known to be sound.
        writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(has_log(self.path)))
        # A file that has content keeps what it was made with.
        if self._one("PRAGMA page_count") == 0:
            writer.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
        if writer.execute("PRAGMA journal_mode=WAL").fetchall() != [("wal",)]:
            raise StartupError(f"{self.path}: cannot be opened as a store: no write-ahead log is possible there")
        for pragma in (
            "synchronous=NORMAL",
            # 16 MiB hold the ends of both tables and the index of 100,000 finished ids.
            "cache_size=-16384",
            f"journal_size_limit={_LOG_KEPT}",
        ):
            writer.execute(f"PRAGMA {pragma}").fetchall()
        self._synchronous = "NORMAL"
        self._slow_until = -math.inf
        self._log = Log(self.path, writer, self._meaning)
        migrate(writer)
        # For all commits: one for each would cost a small one 0.5 µs of 17.
        self._transaction = Transaction(writer)
        # In the event loop nobody waits: see :meth:`_patient`.
        writer.set_busy_timeout(0)
        self._page_bytes = self._one("PRAGMA page_size")
        # A second connection: its reads see what is committed and never wait for the writer.
        self._reader = self._connect(apsw.SQLITE_OPEN_READONLY)
        self._reader.set_busy_timeout(_READ_BUSY_MS)
        # And one for the self-audit, which reads in a thread.
        self._auditor = self._connect(apsw.SQLITE_OPEN_READONLY)
        self._auditor.set_busy_timeout(_BUSY_MS)
        self._rows = Reader()
        rows = writer.execute("SELECT queue, state, count(*) FROM finished GROUP BY 1, 2")
        counted: FinishedCounts = Counter({(queue, state): n for queue, state, n in rows})
        groups = writer.execute(
            "SELECT queue, fingerprint, count(*) FROM finished WHERE fingerprint IS NOT NULL GROUP BY 1, 2"
        )
        self._tally = Tally(counted, Counter({(queue, key): n for queue, key, n in groups}))
        self._pruner = Pruner(writer, self._tally)
        self.last_event_id: int = self._one("SELECT coalesce(max(last_id), 0) FROM event_batch")
        self._last_fin = self._one("SELECT coalesce(max(fin), 0) FROM finished")
        self.shrinks: bool = self._one("PRAGMA auto_vacuum") == _INCREMENTAL
        sync_directory(self.path.parent)
        self._held = Held(self.path, self._lock)

    def _connect(self, flags: int) -> apsw.Connection:
        # Absolute: no name, not even ":memory:", means anything but a file.
        connection = apsw.Connection(str(self.path.absolute()), flags=flags)
        connection.set_busy_timeout(_OPEN_BUSY_MS)
        self._connections.append(connection)
        return connection

    def load(self) -> Iterable[Job]:
        """Return every unfinished job; see :class:`Store`.

        Raises:
            StartupError: the file is damaged.
        """
        with self._sound("job") as connection:
            jobs = self._rows.unfinished(connection.execute(_LOAD))
        self._writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
        return jobs

    def load_facts(self) -> Iterable[FactRow]:
        """Return every fact; see :class:`Store`.

        Raises:
            StartupError: the file is damaged.
        """
        with self._sound("fact") as connection:
            return [FactRow._make(row) for row in connection.execute(_FACTS)]

    def commit(self, batch: Batch) -> None:
        """Write ``batch`` in one transaction; see :class:`Store`."""
        with self._meaning:
            self._synchronize(batch)
            ended, grouped = counts(batch)
            transaction = self._transaction
            try:
                transaction.begin()
                for _ in write_rows(transaction.cursor, batch, self._last_fin, ended, grouped):
                    pass
                transaction.commit()
            finally:
                transaction.end()
        self._note(batch, ended, grouped)

    async def write(self, batch: Batch, *, quick: bool) -> None:
        """Commit ``batch``, by and by unless it is ``quick``; see :class:`Store`."""
        if quick:
            with suppress(StoreBusy):
                self.commit(batch)
                return
        if self._wants_thread(batch):
            await trio.to_thread.run_sync(self._patient, self.commit, batch)
        else:
            # Its steps are counted, and a COMMIT has no half.
            with trio.CancelScope(shield=True):
                await self._write_by_and_by(batch)

    def _wants_thread(self, batch: Batch) -> bool:
        """Return whether a thread shall write all of ``batch``: it is small, or its rows would make the loop wait for the disk."""
        if batch.rows() <= INLINE_ROWS_MAX or time.monotonic() < self._slow_until:
            return True
        weight = batch.bytes() + batch.data_bytes() if batch.weight is None else batch.weight
        return weight > _CACHED_BYTES

    async def _write_by_and_by(self, batch: Batch) -> None:
        """Commit ``batch``: its rows in slices of the event loop, what waits for the disk in a thread.

        A thread would ask for the interpreter again and again while it writes rows. Beside a loop that has work it takes
        ten times as long, and who waits for the commit waits for that.
        """
        transaction = self._transaction
        with self._meaning:
            self._synchronize(batch)
            ended, grouped = counts(batch)
            try:
                await self._begin(transaction)
                await self._write_slices(write_rows(transaction.cursor, batch, self._last_fin, ended, grouped))
                await trio.to_thread.run_sync(transaction.commit)
            finally:
                transaction.end()
        self._note(batch, ended, grouped)

    async def _write_slices(self, slices: Iterator[None]) -> None:
        """Write one slice in each step; once pages for one had to come from a slow disk, write the rest in a thread."""
        begun = time.monotonic()
        for _ in slices:
            ended = time.monotonic()
            if ended - begun > INLINE_S_MAX:
                self._slow_until = ended + SLOW_DISK_S
                await trio.to_thread.run_sync(partial(deque, slices, maxlen=0))
                return
            await trio.lowlevel.checkpoint()
            begun = time.monotonic()

    async def _begin(self, transaction: Transaction) -> None:
        """Begin the transaction at once, or in a thread while another process writes to the file."""
        try:
            transaction.begin()
        except apsw.BusyError:
            await trio.to_thread.run_sync(self._patient, transaction.begin)

    def _patient(self, do: Callable[..., T], *args: Any) -> T:
        """Do what waits while another process writes to the file; in a thread."""
        self._writer.set_busy_timeout(_BUSY_MS)
        try:
            return do(*args)
        finally:
            self._writer.set_busy_timeout(0)

    def _look(self) -> None:
        """Raise ``StoreGone`` where the file is not under its name any more."""
        assert self._held is not None
        self._held.look()

    def _synchronize(self, batch: Batch) -> None:
        if self._held is not None and self._held.are_gone:
            self._look()
        wanted = "FULL" if batch.durable else "NORMAL"
        if wanted != self._synchronous:
            self._writer.execute(f"PRAGMA synchronous={wanted}")
            self._synchronous = wanted

    def _note(self, batch: Batch, ended: FinishedCounts, grouped: FinishedCounts) -> None:
        self.last_event_id = batch.last_event_id
        self._last_fin += len(batch.finished)
        if ended:
            self._tally.add(ended, grouped)

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
        with self._meaning:
            row = self._reader.execute(_FIND[data, result], (job_id,)).fetchone()
        return None if row is None else self._rows.finished(row)

    def outcomes(self, job_ids: Sequence[str]) -> dict[str, State]:
        """Return how some jobs ended; see :class:`Store`."""
        with self._meaning:
            rows = self._reader.execute(_OUTCOMES, (encode(job_ids).decode(),))
            return {job_id: outcome(state) for job_id, state in rows}

    def kept_of(self, queue: str) -> tuple[int, int]:
        """Return how many completed and failed jobs of a queue are kept; see :class:`Store`."""
        return self._tally.kept_of(queue)

    def queues_after(self, name: str, limit: int) -> list[str]:
        """Return the next queues of which finished jobs are remembered; see :class:`Store`."""
        return self._tally.queues_after(name, limit)

    def traces(self, first: str, end: str, limit: int) -> list[Trace]:
        """Return what is kept of some finished jobs; see :class:`Store`."""
        with self._meaning:
            return [trace(row) for row in self._reader.execute(_TRACES, (first, end, limit))]

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Records:  # fmt: skip
        """Return some of the finished jobs; see :class:`Store`."""
        with self._meaning:
            return records.page(
                self._reader, self._rows, queue, state,
                before=before, limit=limit, fingerprint=fingerprint, oldest=oldest,
            )  # fmt: skip

    @property
    def dead_groups(self) -> DeadGroups:
        """The groups of all dead letters; see :class:`Store`."""
        return self._tally.dead_groups

    def is_grouped(self, queue: str) -> bool:
        """Return whether its groups add up; see :class:`Store`."""
        return self._tally.is_grouped(queue)

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> int | None:
        """Return since when there are some; see :class:`Store`."""
        with self._meaning:
            return records.first_seen(self._reader, queues, fingerprint)

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
        """Return some of the lines of a trail; see :class:`Store`."""
        with self._meaning:
            return trails.page(self._reader, kind, key, place, limit, newest=newest)

    def events_after(self, event_id: int, limit: int) -> list[StoredEvent]:
        """Return kept events; see :class:`Store`."""
        events: list[StoredEvent] = []
        size = 0
        query = "SELECT last_id, count, body FROM event_batch WHERE last_id > ? ORDER BY last_id"
        with self._meaning:
            for last_id, count, body in self._reader.execute(query, (event_id,)):
                events += stored_events(last_id, count, body, event_id, limit - len(events))
                size += len(body)
                if len(events) >= limit or size >= REPLAY_BYTES:
                    break
        return events

    def first_event_id(self) -> int:
        """Return the id of the oldest kept event; see :class:`Store`."""
        query = "SELECT last_id - count + 1 FROM event_batch ORDER BY last_id LIMIT 1"
        with self._meaning:
            row = self._reader.execute(query).fetchone()
        return self.last_event_id + 1 if row is None else int(row[0])

    def last_event_at(self) -> int:
        """Return the time of the newest events; see :class:`Store`."""
        query = "SELECT max(at, stamp) FROM event_batch ORDER BY last_id DESC LIMIT 1"
        with self._meaning:
            row = self._reader.execute(query).fetchone()
        return 0 if row is None else int(row[0])

    def prune(self, keep: Retention) -> int:
        """Delete some rows that are not to be kept; see :class:`Store`."""
        with self._meaning:
            return self._patient(self._pruner.prune, keep, self.last_event_id)

    def sample(self, points: int) -> list[Sampled]:
        """Return some of the ended jobs; see :class:`Store`."""
        with self._meaning:
            return sample(self._writer, points)

    def space(self) -> Space:
        """Return how large the file is and what is free; see :class:`Store`."""
        assert self._held is not None
        size, disk = self._held.sizes()
        with self._meaning:
            [(free,)] = self._reader.execute("PRAGMA freelist_count").fetchall()
        free_bytes = int(free) * self._page_bytes  # type: ignore[arg-type]  # of a count
        return Space(size, free_bytes, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)

    def shrink(self, size: int) -> int:
        """Give free pages back; see :class:`Store`."""
        if not self.shrinks:
            return 0
        with self._meaning:
            before = self._one("PRAGMA page_count")
            pages = max(1, size // self._page_bytes)
            self._patient(self._writer.execute, f"PRAGMA incremental_vacuum({pages})").fetchall()
            return (before - self._one("PRAGMA page_count")) * self._page_bytes

    def log_bytes(self) -> int:
        """Return the size of what the log holds; see :class:`Store`."""
        return self._log.pages * self._page_bytes

    def checkpoint(self, *, restart: bool) -> None:
        """Move the log into the file; see :class:`Store`."""
        self._look()
        self._log.checkpoint(restart=restart)

    def close(self) -> None:
        """Release the file; see :class:`Store`."""
        try:
            if self._held is not None and self._connections:
                # SQLite moves no log into a file that was moved; but it leaves it where it is.
                with suppress(StoreGone):
                    self._held.look()
            while self._connections:
                self._connections.pop().close()
        finally:
            self._lock.release()

    def _one(self, query: str) -> int:
        return int(self._writer.execute(query).fetchall()[0][0])  # type: ignore[arg-type]  # of a count
