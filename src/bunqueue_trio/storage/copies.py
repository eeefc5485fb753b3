"""The directory into which a server writes copies of its file: their names, which are there, and what an ended process has left of one."""

import os
from collections.abc import Container
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

UNFINISHED = ".partial"
"""What the name of a copy ends with until it is whole."""
_MOMENT = "%Y%m%dT%H%M%SZ.db"
_SECOND_MS = 1000
# One part in so many that is free makes a copy without it worth the time.
_LOOSE_PART = 10
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


def name_of(file: Path, at: int, taken: Container[str] = ()) -> str:
    """Return the name of a copy of ``file`` as it was ``at`` that epoch ms: of the first second that no other one is called after."""
    while True:
        name = f"{_begin(file)}{datetime.fromtimestamp(at // _SECOND_MS, UTC).strftime(_MOMENT)}"
        if name not in taken:
            return name
        at += _SECOND_MS


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
            if (at := _at(entry.name, file)) is not None
            and entry.is_file(follow_symlinks=False)
            and not _is_queue(entry.path)
        ]
        is_shared = directory.stat().st_dev == file.parent.stat().st_dev
        return Place(None, room_of(directory), is_shared, tuple(sorted(found, key=lambda each: each.at)))
    except OSError as error:
        return Place(error.strerror or str(error))


def room_of(directory: Path) -> int:
    """Return the bytes that the disk of a directory has left."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def is_loose(free: int, whole: int) -> bool:
    """Return whether so much of a file is free that a copy leaves it out."""
    return free * _LOOSE_PART >= whole


def clear(directory: Path, file: Path) -> None:
    """Delete what processes that were killed have left of copies of ``file``."""
    for left in islice(directory.glob(f"*{UNFINISHED}"), _LEFT_MAX):
        if _at(left.name.removesuffix(UNFINISHED), file) is not None:
            for end in ("-journal", "-wal", "-shm", ""):
                left.with_name(left.name + end).unlink(missing_ok=True)


def _begin(file: Path) -> str:
    return f"{file.name.removesuffix('.db')}-"


def _is_queue(path: str) -> bool:
    """Return whether a server has been at a copy: it is a queue of its own since then."""
    return Path(f"{path}.lock").exists()


def _at(name: str, file: Path) -> int | None:
    """Return of which moment the copy of ``file`` with this name is; None: it has the name of no such copy."""
    if not name.startswith(begin := _begin(file)):
        return None
    try:
        at = int(datetime.strptime(name.removeprefix(begin), _MOMENT).replace(tzinfo=UTC).timestamp()) * _SECOND_MS
    except ValueError:
        return None
    return at if name_of(file, at) == name else None
