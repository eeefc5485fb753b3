"""Putting a copy of a store into the place of its file, with no server at it."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.sqlite.inspect import beside, copy, drop_unfinished
from bunqueue_trio.storage.sqlite.opening import lock, real, sync_directory
from bunqueue_trio.storage.sqlite.parted import refuse_aside


def restore(backup: Path, path: Path, on_progress: Callable[[int, int], None], *, overwrite: bool) -> int:
    """Make the store in ``path`` what the copy ``backup`` is, fsynced; return its size in bytes.

    The copy stays as it is. ``path`` is the old file until the new one is whole and checked, and keeps its owner and mode.

    Raises:
        StartupError: a server has ``path``, a log that was put aside lies beside it, or the copy is not a store of ours.
        StoreError: saying what stands in the way; ``path`` is as it was.
    """
    if path.exists() and not overwrite:
        raise StoreError(f"{path}: exists already; --force replaces it")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: there is no directory {path.parent}")
    # A link to it stays one.
    path = real(path)
    beside_it = Path(f"{path}.lock")
    was_there = beside_it.exists()
    held = lock(path)
    try:
        refuse_aside(path)
        if path.exists() and backup.exists() and backup.samefile(path):
            raise StoreError(f"{path}: is the copy itself")
        written = path.with_name(f"{path.name}.restored")
        try:
            # By an interrupted run.
            for left in (*beside(written), written):
                left.unlink(missing_ok=True)
            size = copy(backup, written, on_progress, overwrite=False)
            if path.exists():
                before = path.stat()
                os.chown(written, before.st_uid, before.st_gid)
                written.chmod(before.st_mode & 0o7777)
            # A log of the old file would be taken for one of the new: it goes first.
            for log in beside(path):
                log.unlink()
            written.replace(path)
            sync_directory(path.parent)
        except OSError as error:
            raise StoreError(f"{path}: cannot be restored: {error.strerror}") from None
        finally:
            drop_unfinished(written)
        return size
    finally:
        if not was_there and not path.exists():
            # What was refused leaves nothing, where that is possible.
            with suppress(OSError):
                beside_it.unlink()
        held.release()
