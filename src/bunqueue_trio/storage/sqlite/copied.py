"""Copying the file of a store beside the server that has it, in its own process.

The file is opened by SQLite alone here: whoever opens and closes it otherwise lets go of all locks that this process has on it.
"""

from collections.abc import Callable
from pathlib import Path

from bunqueue_trio.errors import StoreDamaged
from bunqueue_trio.storage.sqlite.inspect import write_copy
from bunqueue_trio.storage.sqlite.looking import Looked
from bunqueue_trio.storage.sqlite.opening import closing

# For the server alone; `restore` gives the file the mode that it had.
_MODE = 0o600


class Copied(Looked):
    """The part of a store that is copied."""

    @property
    def file(self) -> Path | None:
        """Return the file; see :class:`Store`."""
        return self.path

    def copy_to(self, target: Path, on_progress: Callable[[int, int], None]) -> int:
        """Copy it; see :class:`Store`."""
        self._look()
        try:
            with self._meaning, closing(self._apart()) as source:
                source.execute("BEGIN").fetchall()
                # Here the moment is taken whose state is copied.
                source.execute("SELECT count(*) FROM sqlite_schema").fetchall()
                return write_copy(source, self.path, target, _MODE, on_progress)
        except StoreDamaged as damaged:
            self._meaning.note(str(damaged))
            raise
