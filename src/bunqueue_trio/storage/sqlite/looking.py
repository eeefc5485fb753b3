"""Whether the tables of a file are sound: all are looked at beside the running server, and those of a start while it reads them, too."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import apsw

from bunqueue_trio.errors import StartupError, StoreDamaged
from bunqueue_trio.storage.sqlite.meaning import Meaning, one_line
from bunqueue_trio.storage.sqlite.opening import closing

# Entries of a table between two questions whether to go on: a few ms.
_STEPS = 10_000
# In a thread, in nobody's way.
_BUSY_MS = 250


class Looked:
    """The part of a store that is looked at for damage."""

    path: Path
    _meaning: Meaning
    _reader: apsw.Connection

    @property
    def damage(self) -> str | None:
        """What says that the file is damaged; see :class:`Store`."""
        return self._meaning.damage

    def parts(self) -> list[str]:
        """Return what there is to look over; see :class:`Store`."""
        with self._meaning:
            rows = self._reader.execute("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY rootpage")
            return [str(name) for (name,) in rows]

    def look_over(self, part: str, is_over: Callable[[], bool]) -> bool:
        """Look whether a table is damaged; see :class:`Store`."""
        self._look()
        try:
            with closing(self._apart()) as connection:
                connection.set_progress_handler(is_over, _STEPS)
                found = _damage(connection, part)
        except apsw.InterruptError:
            return False
        except apsw.Error as error:
            # Of another file that has come in its place meanwhile it says nothing.
            self._look()
            raise self._meaning.refusal(error, f"table {part}: ") from error
        if found is not None:
            self._look()
            said = f"table {part}: {found}"
            self._meaning.note(said)
            raise StoreDamaged(said)
        return True

    @contextmanager
    def _sound(self, table: str) -> Iterator[apsw.Connection]:
        """Yield a connection that reads ``table``, while a thread looks whether it is damaged: what was read counts when the block has ended."""
        try:
            # Without a mutex, which each value of each row would take: nobody else uses this connection.
            reading = self._connect(apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOMUTEX)
            with ThreadPoolExecutor(1) as beside, closing(reading) as connection:
                looking = beside.submit(self._refuse_damage, table)
                try:
                    yield connection
                finally:
                    # What is damaged may be read as anything, or not at all: this says why.
                    looking.result()
        except (apsw.Error, ValueError, LookupError) as error:
            raise StartupError(f"{self.path}: is damaged: {one_line(error)}") from None

    def _refuse_damage(self, table: str) -> None:
        """Raise ``ValueError`` for damage that would still be read as rows: in a wrong order, of a wrong type, or too few of them."""
        with closing(self._connect(apsw.SQLITE_OPEN_READONLY)) as connection:
            if (found := _damage(connection, table)) is not None:
                raise ValueError(found)

    def _apart(self) -> apsw.Connection:
        """Return a connection of which the store does not know: who uses it may be in a thread when the store is closed."""
        connection = apsw.Connection(str(self.path.absolute()), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(_BUSY_MS)
        return connection

    def _connect(self, flags: int) -> apsw.Connection:
        raise NotImplementedError

    def _look(self) -> None:
        raise NotImplementedError


def _damage(connection: apsw.Connection, table: str) -> str | None:
    """Return the first thing that is wrong with ``table`` and its indexes."""
    found = [one_line(line) for (line,) in connection.execute(f"PRAGMA quick_check({table})")]
    return None if found == ["ok"] else found[0]
