"""Whether the files that a store has open are still those of their names.

Who moves, deletes or replaces one under a running server parts what is committed from now on from what the next start will read; and SQLite deletes
a log beside which it finds an empty file. So nothing is written, and no log is moved, until they are back.
"""

import os
from pathlib import Path

from bunqueue_trio.errors import StoreError, StoreGone

_Identity = tuple[int, int] | None
"""Device and inode; None: there is no such file."""


class Held:
    """The file ``path``, its log and the index of that, as they are now."""

    def __init__(self, path: Path) -> None:
        self._names = [str(path), f"{path}-wal", f"{path}-shm"]
        self._opened = [_identity(name) for name in self._names]
        self.are_gone: bool = False
        """As of the last look."""

    def look(self) -> None:
        """Look whether they are still there.

        Raises:
            StoreGone: one is not.
        """
        for name, opened in zip(self._names, self._opened, strict=True):
            if _identity(name) != opened:
                self.are_gone = True
                raise StoreGone(
                    f"{name}: is not the file any more that this server has open: it was moved, deleted or replaced; nothing is written until it is back"
                )
        self.are_gone = False

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
