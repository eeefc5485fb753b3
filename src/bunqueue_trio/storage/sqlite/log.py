"""The write-ahead log of an open file: how much it holds, and how that is moved into the file.

Checkpoints have connections of their own, and are made in threads, beside the commits.
"""

import threading
import time
from pathlib import Path

import apsw

from bunqueue_trio.storage.sqlite.meaning import Meaning
from bunqueue_trio.storage.sqlite.opening import closing

# It runs in a thread, and only readers outside the server are in the way.
_CHECKPOINT_BUSY_MS = 1000
# So far apart, in s; what is in the way takes microseconds, or comes again next time.
_CHECKPOINT_TRIES = 3
_CHECKPOINT_PAUSE_S = 0.01


class Log:
    """The log beside the file ``path``, to which ``writer`` commits."""

    def __init__(self, path: Path, writer: apsw.Connection, meaning: Meaning) -> None:
        self._path, self._meaning = path, meaning
        self.pages: int = 0
        """How many the log has; 0 when all of them are in the file."""
        self._turn = threading.Lock()
        """Two that move the log at once refuse each other."""
        # This also stops SQLite's own checkpoints.
        writer.set_wal_hook(self._note)

    def _note(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self.pages = pages
        return apsw.SQLITE_OK

    def checkpoint(self, *, restart: bool) -> None:
        """Move the log into the file; see :class:`Store`."""
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if restart else apsw.SQLITE_CHECKPOINT_PASSIVE
        # Never made: SQLite would delete the log beside an empty file.
        flags = apsw.SQLITE_OPEN_READWRITE
        with self._turn, self._meaning, closing(apsw.Connection(str(self._path.absolute()), flags=flags)) as connection:
            connection.set_busy_timeout(_CHECKPOINT_BUSY_MS)
            connection.execute("PRAGMA synchronous=NORMAL")
            pages, moved = _move(connection, mode)
        if restart or (moved == pages and self.pages <= pages):
            # The whole log is in the file: the next commit begins it anew.
            self.pages = 0


def _move(connection: apsw.Connection, mode: int) -> tuple[int, int]:
    """Checkpoint; return how many pages the log has, and how many of them are moved.

    The busy timeout does not hold for the log's header: who looks at it while a commit writes it is refused at
    once. On a machine with more to do than cores that happens, so a passive checkpoint is tried again.
    """
    if mode == apsw.SQLITE_CHECKPOINT_PASSIVE:
        for _ in range(_CHECKPOINT_TRIES - 1):
            try:
                return connection.wal_checkpoint(mode=mode)
            except apsw.BusyError:
                # In a thread, as ever.
                time.sleep(_CHECKPOINT_PAUSE_S)
    return connection.wal_checkpoint(mode=mode)
