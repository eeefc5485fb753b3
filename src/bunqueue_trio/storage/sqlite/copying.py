"""A file that everything is copied from, and one that is made for a copy; see :mod:`bunqueue_trio.storage.copying`.

A file for a copy is written beside the name that it will have, and says that it is not finished: it takes that name, and becomes a
store, when it was compared and is on the disk.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import apsw

from bunqueue_trio.config import MIB
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.copying import TABLES, Table
from bunqueue_trio.storage.rows import Row
from bunqueue_trio.storage.sqlite.inspect import beside, drop_unfinished, snapshot
from bunqueue_trio.storage.sqlite.opening import (
    APPLICATION_ID,
    UNFINISHED_ID,
    Transaction,
    lock,
    make_private,
    migrate,
    migrations,
    real,
    sync_directory,
)

# Written by one call, and in memory together.
_SLICE_ROWS, _SLICE_BYTES = 500, 8 * MIB


class FileHeld:
    """A store in a file that no server has."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self._path = path
        self._connection = connection

    def __str__(self) -> str:
        """Return its name; see :class:`Held`."""
        return str(self._path)

    def count(self, table: Table) -> int:
        """Return how many rows a table has; see :class:`Held`."""
        rows = self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchall()  # noqa: S608 - ours
        return int(rows[0][0])  # type: ignore[arg-type]  # of a count

    def rows(self, table: Table) -> Iterator[Row]:
        """Yield the rows of a table; see :class:`Held`."""
        try:
            yield from self._connection.execute(table.rows.format(table.name))
        except apsw.Error as error:
            raise StoreError(f"{self}: cannot be read: {error}") from None

    def stay(self) -> None:
        """Do nothing: the lock stays; see :class:`Held`."""


class FileTarget(FileHeld):
    """A file that is made, beside the name that it is to have."""

    def __init__(self, path: Path, unfinished: Path) -> None:
        super().__init__(path, apsw.Connection(str(unfinished)))
        self._unfinished = unfinished
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
            # Nobody needs a half of it.
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        migrate(self._connection)
        self._mark(UNFINISHED_ID)

    def fill(self, table: Table, rows: Iterable[Row]) -> None:
        """Write all rows of a table; see :class:`Target`."""
        insert = f"INSERT INTO {table.name} VALUES ({', '.join('?' for _ in table.columns)})"  # noqa: S608 - names of ours
        rows = iter(rows)
        with Transaction(self._connection):
            while some := list(islice(_light(rows), _SLICE_ROWS)):
                self._connection.executemany(insert, some)

    def written(self) -> None:
        """Open the file anew; see :class:`Target`."""
        self._connection.close()
        self._connection = apsw.Connection(str(self._unfinished))
        for (line,) in self._connection.execute("PRAGMA quick_check(1)"):
            if line != "ok":
                raise StoreError(f"{self}: the copy is damaged: {str(line).strip()}")

    def finish(self) -> None:
        """Give it its name; see :class:`Target`."""
        self._mark(APPLICATION_ID)
        self.close()
        descriptor = os.open(self._unfinished, os.O_RDONLY)
        try:
            if self._path.exists():
                before = self._path.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o7777)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # Of the empty store that was there: it would be taken for one of the new.
        for log in beside(self._path):
            log.unlink()
        self._unfinished.replace(self._path)
        sync_directory(self._path.parent)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _mark(self, application: int) -> None:
        self._connection.execute(f"PRAGMA application_id={application}").fetchall()


def _light(rows: Iterator[Row]) -> Iterator[Row]:
    """Yield some of the rows, until they are heavy together."""
    size = 0
    for row in rows:
        yield row
        size += sum(len(value) for value in row if isinstance(value, bytes))
        if size > _SLICE_BYTES:
            return


@contextmanager
def held(path: Path) -> Iterator[FileHeld]:
    """Give the store in ``path``, only to be read, and keep servers from it.

    Raises:
        StartupError: a server has it, or it is no store of ours.
        StoreError: it cannot be read, or is of another version.
    """
    path = real(path)
    if not path.is_file():
        raise StoreError(f"{path}: there is no such file")
    with _locked(path), snapshot(path) as connection:
        have, wanted = int(connection.pragma("user_version")), migrations()[-1][0]
        if have != wanted:
            raise StoreError(
                f"{path}: its schema is of version {have}, this one copies {wanted}; start a server with it once"
            )
        for (line,) in connection.execute("PRAGMA quick_check(1)"):
            if line != "ok":
                raise StoreError(f"{path}: is damaged: {str(line).strip()}")
        yield FileHeld(path, connection)


@contextmanager
def made(path: Path) -> Iterator[FileTarget]:
    """Give a file that is written, and becomes the store in ``path`` at its end; where there is one it must be empty.

    Raises:
        StartupError: a server has it, or it is no store of ours.
        StoreError: saying what stands in the way.
    """
    if not path.parent.is_dir():
        raise StoreError(f"{path}: there is no directory {path.parent}")
    path = real(path)
    with _locked(path):
        if path.exists() and path.stat().st_size:
            _refuse_full(path)
        unfinished = path.with_name(f"{path.name}.copied")
        try:
            # By an interrupted run.
            for left in (*beside(unfinished), unfinished):
                left.unlink(missing_ok=True)
            make_private(unfinished)
            target = FileTarget(path, unfinished)
            try:
                yield target
            finally:
                target.close()
        except apsw.Error as error:
            raise StoreError(f"{path}: cannot be written: {error}") from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
        finally:
            drop_unfinished(unfinished)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lease = lock(path)
    try:
        yield
    finally:
        lease.release()


def _refuse_full(path: Path) -> None:
    with snapshot(path) as connection:
        have = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        for table in TABLES:
            if table.name in have and connection.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchall():  # noqa: S608 - ours
                raise StoreError(
                    f"{path}: holds something already: its table {table.name} is not empty; name a new file"
                )
