"""Logs that were parted from their file: SQLite plays a log into whatever file it lies beside, and knows no better.

A server that finds another file in the place of its own puts its log aside, under a name that says of which file it is. Of a log that a killed
server has left, the lock says so. Where it is not sure whose a log is, nothing is opened: whoever has moved the files is asked.
"""

import re
from contextlib import suppress
from glob import escape
from os import stat_result
from pathlib import Path

from bunqueue_trio.errors import StartupError


def has_log(path: Path) -> bool:
    """Return whether a write-ahead log with something in it lies beside ``path``."""
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def aside(path: Path, file: stat_result) -> Path:
    """Return how the log of ``file`` is called where another file has come in its place, beside which ``path`` is.

    An inode may come again. The time of the last change cannot: nobody writes to the file while its log is kept.
    """
    return Path(f"{path}-wal.{file.st_ino}-{file.st_mtime_ns}")


def take_back_log(path: Path) -> None:
    """Give the log of a file back its name, if it was put aside and the file has come back."""
    if path.exists() and not has_log(path) and (kept := aside(path, path.stat())).exists():
        kept.rename(f"{path}-wal")


def refuse_aside(path: Path) -> None:
    """Raise ``StartupError`` when a log that was put aside lies beside ``path``; change nothing."""
    for kept in sorted(path.parent.glob(f"{escape(path.name)}-wal.*")):
        if re.fullmatch(r"\d+-\d+", kept.name.removeprefix(f"{path.name}-wal.")):
            raise StartupError(
                f"{path}: beside it is {kept.name}, the log of a file that was replaced while a server ran, and it cannot be said whether of this one. "
                f"If this is that file, or a copy of it made since, call the log {path.name}-wal{' (which is there: that is of another file)' if has_log(path) else ''}; "
                "otherwise move it away"
            )


def refuse_foreign_log(path: Path) -> None:
    """Raise ``StartupError`` when the log beside ``path`` is, as the lock says, of a file that was there before; change nothing."""
    noted = b""
    # Who may not read it has no lock of ours to mind.
    with suppress(OSError):
        noted = Path(f"{path}.lock").read_bytes()
    found = re.fullmatch(rb"(\d+) (\d+)\n", noted)
    if not found or not has_log(path):
        return
    file, log = (int(inode) for inode in found.groups())
    if Path(f"{path}-wal").stat().st_ino == log and path.stat().st_ino != file:
        raise StartupError(
            f"{path}: is another file than the one that {path.name}-wal is the log of: it was replaced after a server had ended without a stop, or just before. "
            f"Put the right one back, or move the log away if nothing in it is wanted. If this is a copy of the right one, delete {path.name}.lock"
        )
