"""What an error of SQLite means for the server: a disk that may mend, or a fault of ours."""

import os
from pathlib import Path

import apsw

from bunqueue_trio.errors import StoreBusy, StoreError

_DISK_ERRORS = (
    apsw.CantOpenError, apsw.CorruptError, apsw.FullError, apsw.IOError, apsw.LockedError,
    apsw.NoLFSError, apsw.NoMemError, apsw.NotADBError, apsw.PermissionsError, apsw.ProtocolError,
    apsw.ReadOnlyError,
)  # fmt: skip
"""What may pass, or is the operator's to mend. Anything else that SQLite reports is a fault of ours."""


class _Translated:
    """Raises, in place of an error of SQLite in its block, what that means for the server."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, apsw.BusyError):
            raise StoreBusy(str(error)) from error
        if isinstance(error, _DISK_ERRORS):
            raise StoreError(str(error)) from error
        if isinstance(error, apsw.Error):
            raise AssertionError(f"the store contradicts the engine: {error}") from error


TRANSLATED = _Translated()
"""One for all: it keeps nothing."""


def is_full(path: Path) -> bool:
    """Return whether the disk of ``path`` has no room left, so far as that can be found out."""
    try:
        disk = os.statvfs(path if path.exists() else path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 64 * 1024
