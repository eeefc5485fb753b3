"""What an error of SQLite means for the server: a disk that may mend, a damaged file, or a fault of ours."""

import os
from pathlib import Path

import apsw

from bunqueue_trio.errors import StoreBusy, StoreDamaged, StoreError

_DISK_ERRORS = (
    apsw.CantOpenError, apsw.CorruptError, apsw.FullError, apsw.IOError, apsw.LockedError,
    apsw.NoLFSError, apsw.NoMemError, apsw.NotADBError, apsw.PermissionsError, apsw.ProtocolError,
    apsw.ReadOnlyError,
)  # fmt: skip
"""What may pass, or is the operator's to mend. Anything else that SQLite reports is a fault of ours."""


class Meaning:
    """Raises, in place of an error of SQLite in its block, what that means for the server; one for all of a store."""

    __slots__ = ("damage",)

    def __init__(self) -> None:
        self.damage: str | None = None
        """What said first that the file is damaged. It stays: nothing mends a file under a running server."""

    def note(self, what: str) -> None:
        """Note that the file is damaged."""
        if self.damage is None:
            self.damage = what

    def refusal(self, error: apsw.Error, where: str = "") -> StoreError:
        """Return what is to be raised for an ``error``, whichever it is; damage is noted, and ``where`` it is."""
        if isinstance(error, apsw.BusyError):
            return StoreBusy(str(error))
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            said = f"{where}{one_line(error)}"
            self.note(said)
            return StoreDamaged(said)
        return StoreError(str(error))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, (apsw.BusyError, *_DISK_ERRORS)):
            raise self.refusal(error) from error
        if isinstance(error, apsw.Error):
            raise AssertionError(f"the store contradicts the engine: {error}") from error


def one_line(said: object) -> str:
    """Return what SQLite says, in one line: it quotes whole schemas."""
    return " ".join(str(said).split())


def is_full(path: Path) -> bool:
    """Return whether the disk of ``path`` has no room left, so far as that can be found out."""
    try:
        disk = os.statvfs(path if path.exists() else path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 64 * 1024
