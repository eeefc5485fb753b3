"""The SQLite store: every statement, every pragma, and who may open the file.

WAL with ``synchronous=NORMAL``: a commit survives the end of the process at any moment; a durable one
is made with ``FULL`` and survives a power cut. Checkpoints never run inside a commit. There is one
writing connection, used by one caller at a time (the event loop or one worker thread), and one
reading connection for the event loop.
"""

import fcntl
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import apsw

from bunqueue_trio.config import PRUNE_ROWS
from bunqueue_trio.engine.job import Job
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.storage.store import Batch, FinishedCounts, Reader, Retention, StoredEvent

APPLICATION_ID = 0x42515452  # "BQTR"
_JOB_COLUMNS = 16
_FINISHED = (
    "id, queue, state, finished_at, data, options, priority, created_at, run_at, attempts, stalls, "
    "progress, started_at, note, result"
)
_INSERT = f"INSERT INTO job VALUES ({', '.join('?' * _JOB_COLUMNS)})"  # noqa: S608 - placeholders
_UPDATE = (
    "UPDATE job SET run_at=?, state=?, place=?, attempts=?, stalls=?, progress=?, started_at=?, "
    "lease=?, note=? WHERE seq=?"
)
_END = "DELETE FROM job WHERE seq=?"
_REUSE = "DELETE FROM finished WHERE id=? RETURNING queue, state"
_FINISH = f"INSERT INTO finished ({_FINISHED}) VALUES ({', '.join('?' * 15)})"  # noqa: S608
_EVENTS = "INSERT INTO event_batch VALUES (?, ?, ?, ?)"
_FIND = f"SELECT {_FINISHED} FROM finished WHERE id=?"  # noqa: S608


def migrations() -> list[tuple[int, str]]:
    """Return the schema's steps as (version, SQL), in order, from ``schema/NNNN_name.sql``."""
    entries = files("bunqueue_trio.storage").joinpath("schema").iterdir()
    return sorted(
        (int(match[1]), entry.read_text(encoding="utf-8"))
        for entry in entries
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name))
    )


class SqliteStore:
    """A store in the file ``path``, which no other process may have open as a store."""

    inline = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = _lock(self.path)
        try:
            self._open()
        except (apsw.Error, OSError) as error:
            os.close(self._lock)
            raise StartupError(f"{self.path}: cannot be opened as a store: {error}") from None
        except StartupError:
            os.close(self._lock)
            raise

    def _open(self) -> None:
        self._refuse_foreign()
        self._writer = apsw.Connection(str(self.path))
        self._writer.set_busy_timeout(5000)  # only a checkpoint's last step or a backup is in the way
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "cache_size=-65536",  # 64 MiB: the index of finished ids, and pages of a large backlog
            f"journal_size_limit={8 * 1024 * 1024}",  # a log that grew once gives the space back
        ):
            self._writer.execute(f"PRAGMA {pragma}").fetchall()
        self._synchronous = "NORMAL"
        self._log_pages = 0
        self._writer.set_wal_hook(self._note_log)  # this also stops SQLite's own checkpoints
        self._migrate()
        self._page_bytes = self._one("PRAGMA page_size")
        # A second connection: its reads see what is committed and never wait for the writer.
        self._reader = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        self._reader.set_busy_timeout(1000)
        self._rows = Reader()
        rows = self._writer.execute("SELECT queue, state, count(*) FROM finished GROUP BY 1, 2")
        self.finished_counts: FinishedCounts = Counter({(q, s): n for q, s, n in rows})
        self.last_event_id = self._one("SELECT coalesce(max(last_id), 0) FROM event_batch")
        self._pruned_to: dict[str, int] = {}  # no record of this state has a smaller key
        self._sync_directory()

    def _refuse_foreign(self) -> None:
        """Raise before a byte is changed when the file is not ours or newer than this version."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        with _closing(apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)) as look:
            version = int(look.pragma("user_version"))
            application = look.pragma("application_id")
            tables = look.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
        known = migrations()[-1][0]
        if application != APPLICATION_ID and (tables or application):
            raise StartupError(f"{self.path}: is another program's database")
        if version > known:
            raise StartupError(
                f"{self.path}: was written by a newer version (schema {version}, this one knows {known})"
            )

    def _migrate(self) -> None:
        have = int(self._writer.pragma("user_version"))
        for version, sql in migrations():
            if version > have:
                with self._transaction():
                    self._writer.execute(sql).fetchall()
                    self._writer.execute(f"PRAGMA application_id={APPLICATION_ID}")
                    self._writer.execute(f"PRAGMA user_version={version}")

    def _sync_directory(self) -> None:
        """Make the file's name as durable as its content will be."""
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def load(self) -> Iterable[Job]:
        """Return every unfinished job; see :class:`Store`.

        Raises:
            StartupError: the file is damaged.
        """
        try:
            unfinished = self._rows.unfinished
            for row in self._writer.execute("SELECT * FROM job ORDER BY seq"):
                yield unfinished(row)
        except (apsw.Error, ValueError) as error:
            raise StartupError(f"{self.path}: cannot be read: {error}") from None

    def commit(self, batch: Batch) -> None:
        """Write ``batch`` in one transaction; see :class:`Store`."""
        counts = self.finished_counts.copy() if batch.finished or batch.reused_ids else None
        with self._translated():
            wanted = "FULL" if batch.durable else "NORMAL"
            if wanted != self._synchronous:
                self._writer.execute(f"PRAGMA synchronous={wanted}")
                self._synchronous = wanted
            with self._transaction():
                write = self._writer.executemany
                if batch.reused_ids:
                    for queue, state in write(_REUSE, batch.reused_ids):
                        assert counts is not None
                        counts[queue, state] -= 1
                if batch.new:
                    write(_INSERT, batch.new)
                if batch.changed:
                    write(_UPDATE, batch.changed)
                if batch.ended:
                    write(_END, batch.ended)
                if batch.finished:
                    write(_FINISH, batch.finished)
                if batch.events:
                    body = b"\n".join(batch.events)
                    self._writer.execute(_EVENTS, (batch.last_event_id, len(batch.events), batch.at, body))
        self.last_event_id = batch.last_event_id
        if counts is not None:
            counts.update((row[1], row[2]) for row in batch.finished)
            self.finished_counts = counts

    def find(self, job_id: str) -> Job | None:
        """Return a finished job that is kept; see :class:`Store`."""
        with self._translated():
            row = self._reader.execute(_FIND, (job_id,)).fetchone()
        return None if row is None else self._rows.finished(row)

    def events_after(self, event_id: int, limit: int) -> list[StoredEvent]:
        """Return kept events; see :class:`Store`."""
        events: list[StoredEvent] = []
        query = "SELECT last_id, body FROM event_batch WHERE last_id > ? ORDER BY last_id"
        with self._translated():
            for last_id, body in self._reader.execute(query, (event_id,)):
                lines = bytes(body).split(b"\n")
                first = last_id - len(lines) + 1
                events += [StoredEvent(first + i, line) for i, line in enumerate(lines)]
                if len(events) >= limit:
                    break
        return [event for event in events if event.id > event_id]

    def first_event_id(self) -> int:
        """Return the id of the oldest kept event; see :class:`Store`."""
        query = "SELECT last_id - count + 1 FROM event_batch ORDER BY last_id LIMIT 1"
        with self._translated():
            row = self._reader.execute(query).fetchone()
        return self.last_event_id + 1 if row is None else int(row[0])

    def prune(self, keep: Retention) -> int:
        """Delete some of what is not to be kept; see :class:`Store`."""
        deleted = 0
        for query, values in self._prunings(keep):
            with self._translated():
                # Nothing is locked to find out that there is nothing to do, which is the usual case.
                keys = [row[0] for row in self._writer.execute(query, values)]
                if keys:
                    deleted += self._delete_finished(keys)
        with self._translated():
            return deleted + self._prune_events(keep)

    def _prunings(self, keep: Retention) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Yield queries for the keys of finished jobs to delete, oldest first."""
        limits = {
            "completed": keep.completed_max, "failed": keep.dead_max, "removed": keep.completed_max
        }  # fmt: skip
        for state, limit in limits.items():
            surplus = sum(n for (_, s), n in self.finished_counts.items() if s == state) - limit
            if surplus > 0:
                # The records of other states before the oldest of this one are not read each time.
                yield (
                    "SELECT fin FROM finished WHERE fin > ? AND state = ? ORDER BY fin LIMIT ?",
                    (self._pruned_to.get(state, 0), state, min(surplus, PRUNE_ROWS)),
                )
        yield (
            "SELECT fin FROM (SELECT fin, finished_at FROM finished ORDER BY fin LIMIT ?) WHERE finished_at < ?",
            (PRUNE_ROWS, keep.finished_since),
        )

    def _delete_finished(self, keys: list[int]) -> int:
        counts = self.finished_counts.copy()
        with self._transaction():
            for fin, queue, state in self._writer.executemany(
                "DELETE FROM finished WHERE fin=? RETURNING fin, queue, state", [(k,) for k in keys]
            ):
                counts[queue, state] -= 1
                self._pruned_to[state] = max(self._pruned_to.get(state, 0), fin)
        self.finished_counts = +counts
        return len(keys)

    def _prune_events(self, keep: Retention) -> int:
        """Delete old event batches, never the last: it remembers the newest id."""
        keys = self._writer.execute(
            "SELECT last_id FROM (SELECT last_id, at FROM event_batch ORDER BY last_id LIMIT ?) "
            "WHERE last_id < ? AND (last_id <= ? OR at < ?)",
            (PRUNE_ROWS, self.last_event_id, self.last_event_id - keep.events_max, keep.events_since),
        ).fetchall()
        if keys:
            with self._transaction():
                self._writer.executemany("DELETE FROM event_batch WHERE last_id = ?", keys)
        return len(keys)

    def log_bytes(self) -> int:
        """Return how much of the log waits to be moved into the file; see :class:`Store`."""
        return self._log_pages * self._page_bytes

    def checkpoint(self, *, restart: bool) -> None:
        """Move the log into the file; see :class:`Store`."""
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if restart else apsw.SQLITE_CHECKPOINT_PASSIVE
        with self._translated(), _closing(apsw.Connection(str(self.path))) as connection:
            connection.set_busy_timeout(1000)
            connection.execute("PRAGMA synchronous=NORMAL")
            pages, moved = connection.wal_checkpoint(mode=mode)
        self._log_pages = pages - moved

    def _note_log(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def close(self) -> None:
        """Release the file; see :class:`Store`."""
        self._reader.close()
        self._writer.close()
        os.close(self._lock)

    def _one(self, query: str) -> int:
        return int(self._writer.execute(query).fetchall()[0][0])  # type: ignore[arg-type]  # of a count

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        finally:
            # Whatever ended the block: no half of it may stay. SQLite may have rolled back itself.
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (apsw.ConstraintError, apsw.MisuseError, apsw.SQLError) as error:
            raise AssertionError(f"the store contradicts the engine: {error}") from error
        except apsw.Error as error:
            raise StoreError(str(error)) from error


@contextmanager
def _closing(connection: apsw.Connection) -> Iterator[apsw.Connection]:
    try:
        yield connection
    finally:
        connection.close()


def _lock(path: Path) -> int:
    """Return the descriptor that holds the lock beside ``path``; it ends with the process."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"{path}: cannot be opened as a store: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StartupError(f"{path}: is in use by another server") from None
    return descriptor
