"""Whether the files that a store has open are still those of their names.

Who moves, deletes or replaces the file under a running server parts what is committed from now on from what the next start will read; and SQLite
deletes a log beside which it finds an empty file, and plays it into any other. So nothing is written, and no log is moved into a file, until the
right one is back. The log stays where the file has gone, and is put aside where another one has come; without its name it is still open, and a stop
moves it into the file.
"""

import os
from contextlib import suppress
from pathlib import Path

from bunqueue_trio.errors import StoreError, StoreGone
from bunqueue_trio.storage.sqlite.opening import Lock
from bunqueue_trio.storage.sqlite.parted import aside

_Identity = tuple[int, int] | None
"""Device and inode; None: there is no such file."""


class Held:
    """The file ``path``, its log and the index of that, as they are now."""

    def __init__(self, path: Path, lock: Lock) -> None:
        self._path, self._lock = path, lock
        self._names = [str(path), f"{path}-wal", f"{path}-shm"]
        self._opened = [_identity(name) for name in self._names]
        self._note()
        self.are_gone: bool = False
        """As of the last look: any of them."""

    def look(self) -> None:
        """Look whether they are still there.

        Raises:
            StoreGone: one is not.
        """
        name, log, _ = self._names
        file, opened = _identity(name), self._opened
        kept = str(aside(self._path, self._lock.file()))
        self.are_gone = True
        if file != opened[0]:
            if file is not None and _identity(log) == opened[1]:
                with suppress(OSError):
                    os.rename(log, kept)  # noqa: PTH104 - as below
                    # Its name says it now, and whoever gives it another one decides.
                    self._lock.forget()
            where = f"; its log is {kept}" if _identity(kept) == opened[1] else ""
            raise StoreGone(
                f"{name}: is not the file any more that this server has open: it was moved, deleted or replaced; nothing is written until it is back{where}"
            )
        if _identity(kept) == opened[1] and _identity(log) is None:
            with suppress(OSError):
                os.rename(kept, log)  # noqa: PTH104 - as below
                self._note()
        for beside, known in zip(self._names[1:], opened[1:], strict=True):
            if _identity(beside) != known:
                raise StoreGone(
                    f"{beside}: is not the file any more that this server has open: it was moved, deleted or replaced; nothing is written until it is back, "
                    "or the server is stopped, which saves all that was answered, and started"
                )
        self.are_gone = False

    def _note(self) -> None:
        self._lock.note(*(found[1] if found else 0 for found in self._opened[:2]))

    def sizes(self) -> tuple[int, os.statvfs_result]:
        """Return the size of the file, and what is known of its disk.

        Raises:
            StoreGone: it is not there any more.
            StoreError: the disk does not answer.
        """
        self.look()
        try:
            return os.stat(self._names[0]).st_size, os.statvfs(self._names[0])  # noqa: PTH116 - as below
        except OSError as error:
            raise StoreError(f"{self._names[0]}: {error.strerror}") from error


def _identity(name: str) -> _Identity:
    try:
        found = os.stat(name)  # noqa: PTH116 - once a second, in the event loop
    except OSError:
        return None
    return found.st_dev, found.st_ino
