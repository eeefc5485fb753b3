"""Making a store's file as small as what is in it, with no server at it.

The new file is written beside the old one and takes its name when it is whole, checked and fsynced: whatever
happens at any moment, the old one or the new one is there.
"""

import os
from collections.abc import Callable
from pathlib import Path

import apsw

from bunqueue_trio.config import MIB
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.sqlite.inspect import beside, drop_unfinished
from bunqueue_trio.storage.sqlite.opening import closing, lock, make_private, real, refuse_foreign, sync_directory

# Of SQLite's machine between two reports of progress: some ms.
_PROGRESS_STEPS = 100_000
# Somebody may be looking at it.
_BUSY_MS = 1000


def shrink(path: Path, on_progress: Callable[[int, int], None]) -> tuple[int, int]:
    """Write the store in ``path`` anew, without free pages and able to give them back; return both sizes in bytes.

    ``on_progress`` gets the bytes written, and in all.

    Raises:
        StartupError: a server has it, or it is no store of ours.
        StoreError: saying what stands in the way; the file is as it was.
    """
    if not path.is_file() or path.stat().st_size == 0:
        raise StoreError(f"{path}: there is no such file, or it is empty")
    # A link to it stays one.
    path = real(path)
    held = lock(path)
    try:
        unfinished = path.with_name(f"{path.name}.shrunk")
        try:
            refuse_foreign(path)
            return _replaced(path, unfinished, on_progress)
        except apsw.Error as error:
            raise StoreError(f"{path}: cannot be shrunk: {error}") from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be shrunk: {error.strerror}") from None
        finally:
            drop_unfinished(unfinished)
    finally:
        held.release()


def _replaced(path: Path, unfinished: Path, on_progress: Callable[[int, int], None]) -> tuple[int, int]:
    # By an interrupted run.
    for left in (unfinished, *beside(unfinished)):
        left.unlink(missing_ok=True)
    make_private(unfinished)
    before = path.stat()
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(_BUSY_MS)
        _check(connection, path)
        _write_anew(connection, path, unfinished, on_progress)
    # The last to close it moves its log into the file and removes it. A log beside the new file would spoil that.
    if found := beside(path):
        raise StoreError(f"{path}: somebody has it open: {found[0]} lies beside it")
    with closing(apsw.Connection(str(unfinished))) as written:
        _check(written, unfinished)
    descriptor = os.open(unfinished, os.O_RDONLY)
    try:
        os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, before.st_mode & 0o7777)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.replace(path)
    sync_directory(path.parent)
    return before.st_size, path.stat().st_size


def _write_anew(
    connection: apsw.Connection, path: Path, unfinished: Path, on_progress: Callable[[int, int], None]
) -> None:
    used = int(connection.pragma("page_count")) - int(connection.pragma("freelist_count"))
    total = used * int(connection.pragma("page_size"))
    disk = os.statvfs(path.parent)
    left = disk.f_bavail * disk.f_frsize
    if left < total + MIB:
        raise StoreError(
            f"{path}: needs {total + MIB:,} bytes for the new file beside it, and its disk has {left:,} left"
        )

    def tell() -> bool:
        on_progress(min(unfinished.stat().st_size, total), total)
        return False

    connection.set_progress_handler(tell, _PROGRESS_STEPS)
    if not int(connection.pragma("auto_vacuum")):
        # Holds for the new file alone.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
    connection.execute("VACUUM INTO ?", (str(unfinished),)).fetchall()
    on_progress(total, total)


def _check(connection: apsw.Connection, path: Path) -> None:
    for (line,) in connection.execute("PRAGMA quick_check(1)"):
        if line != "ok":
            raise StoreError(f"{path}: is damaged: {' '.join(str(line).split())}")
