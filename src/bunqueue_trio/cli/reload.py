"""Starting a process anew when a file of its code has changed: `worker --reload`, for development.

The process looks after itself and becomes its successor (`exec`): its number, terminal and signals stay.
Files are asked for their times twice a second. That is some dozens of `stat` calls, works on every file
system and inside containers, and needs no library.
"""

import os
import sys
import sysconfig
import time
from pathlib import Path
from typing import NoReturn

import anyio

from bunqueue_trio.logs.lines import flush_logs

EVERY_S = 0.5

Snapshot = dict[str, tuple[int, int] | None]
"""File → time and size; None: it is not there."""

# Nobody edits the library and installed packages; there are thousands of files.
_NOT_OURS = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def begin() -> None:
    """Get ready to import code that will change: a compiled file of the same second and size would hide it."""
    sys.dont_write_bytecode = True


def watched(before: Snapshot | None = None) -> Snapshot:
    """Return how the files of all imported modules are, and all Python files of this directory.

    ``before`` is what was seen before the import: it counts, so that no change during the import is missed.
    """
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths = {str(Path(file).resolve()) for file in files if isinstance(file, str)}
    paths |= _here() if before is None else set()
    return {path: _look(path) for path in sorted(paths) if not path.startswith(_NOT_OURS)} | (before or {})


def changed(before: Snapshot) -> str | None:
    """Return a file that is not what it was, or is new in this directory; or None."""
    return next((path for path in [*before, *_here()] if before.get(path, ()) != _look(path)), None)


async def wait_changed(before: Snapshot) -> str:
    """Return when a file has changed, and which."""
    while (path := changed(before)) is None:  # noqa: ASYNC110 - nobody tells
        await anyio.sleep(EVERY_S)
    return path


def wait_changed_blocking(before: Snapshot) -> str:
    """Do the same where no loop runs."""
    while (path := changed(before)) is None:
        time.sleep(EVERY_S)
    return path


def start_anew() -> NoReturn:
    """Replace this process by one that was started in the same way."""
    flush_logs()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the very command of this process


def _here() -> set[str]:
    # What cannot be imported is no module.
    return {str(path) for path in Path.cwd().resolve().glob("*.py")}


def _look(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - twice a second
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
