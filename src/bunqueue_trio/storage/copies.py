"""The directory into which a server writes copies of its file: their names, which are there, and what an ended process has left of one."""

import os
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

UNFINISHED = ".partial"
"""What the name of a copy ends with until it is whole."""
_NAME = "{}-%Y%m%dT%H%M%SZ.db"
# Of a directory that is full of what is not ours.
_LEFT_MAX = 1000


class Copy(NamedTuple):
    """A copy that is there."""

    name: str
    at: int
    """As its name says, in epoch ms."""
    size: int


class Place(NamedTuple):
    """A directory of copies, as of a look."""

    error: str | None
    room: int = 0
    is_shared: bool = False
    """It is on the disk of the file, of which some is kept for acks."""
    copies: tuple[Copy, ...] = ()
    """Oldest first."""


def name_of(file: Path, at: int) -> str:
    """Return the name of a copy of ``file`` as it was ``at`` that epoch ms."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime(_name(file))


def look_at(directory: Path, file: Path) -> Place:
    """Return what a directory has of copies of ``file``."""
    try:
        if not directory.is_dir():
            return Place("there is no such directory")
        if not os.access(directory, os.W_OK | os.X_OK):
            return Place("the server may not write there")
        found = [
            Copy(entry.name, at, entry.stat().st_size)
            for entry in os.scandir(directory)
            if (at := _at(entry.name, file)) is not None and entry.is_file(follow_symlinks=False)
        ]
        is_shared = directory.stat().st_dev == file.parent.stat().st_dev
        return Place(None, room_of(directory), is_shared, tuple(sorted(found, key=lambda each: each.at)))
    except OSError as error:
        return Place(error.strerror or str(error))


def room_of(directory: Path) -> int:
    """Return the bytes that the disk of a directory has left."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def clear(directory: Path, file: Path) -> None:
    """Delete what processes that were killed have left of copies of ``file``."""
    for left in islice(directory.glob(f"*{UNFINISHED}"), _LEFT_MAX):
        if _at(left.name.removesuffix(UNFINISHED), file) is not None:
            for end in ("-journal", "-wal", "-shm", ""):
                left.with_name(left.name + end).unlink(missing_ok=True)


def _name(file: Path) -> str:
    return _NAME.format(file.stem.replace("%", "%%"))


def _at(name: str, file: Path) -> int | None:
    """Return of which moment the copy of ``file`` with this name is; None: it has the name of no such copy."""
    try:
        at = int(datetime.strptime(name, _name(file)).replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        return None
    return at if name_of(file, at) == name else None
