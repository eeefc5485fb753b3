"""Lists of lines that grow at their end, written with the changes they belong to: what happened, and to whom.

A trail is named by a kind, such as the attempts, and a key: the id of a job, or "" where it is the server's. A line is
bytes; what it means is the business of whoever adds it. Lines that are written are in the archive: here is only what waits.
"""

from typing import NamedTuple

from bunqueue_trio.config import ATTEMPTS_BYTES_KEPT, ATTEMPTS_KEPT, LOG_BYTES_KEPT, LOG_LINES_KEPT, NO_LIMIT

ACTIONS, ATTEMPTS, LOG = "actions", "attempts", "log"
"""The kinds: what operators did, the failed attempts of a job, and what its workers wrote down."""


class Bound(NamedTuple):
    """How many lines of a trail are kept, and how many bytes; the newest line always is."""

    lines: int
    size: int = NO_LIMIT


BOUNDS: dict[str, Bound] = {
    # Its retention is a setting.
    ACTIONS: Bound(NO_LIMIT),
    ATTEMPTS: Bound(ATTEMPTS_KEPT, ATTEMPTS_BYTES_KEPT),
    LOG: Bound(LOG_LINES_KEPT, LOG_BYTES_KEPT),
}
"""Kind → bound, kept by every write."""


class Line(NamedTuple):
    """A line to be added."""

    kind: str
    key: str
    at: int
    body: bytes
    of_record: bool = False
    """Of a job that has ended: it is added if the record is there still."""


class Cut(NamedTuple):
    """The end of a trail, or of all trails of a key."""

    key: str
    kind: str | None = None


TrailChange = Line | Cut


class TrailPage(NamedTuple):
    """Some of the lines of a trail, with their numbers; how many it has; and behind which number the next page begins."""

    lines: list[tuple[int, bytes]]
    total: int
    next: int | None


class Trails:
    """What is to be written of all trails, in the order in which it happened."""

    def __init__(self) -> None:
        self.changed: list[TrailChange] = []
        self._keys: set[str] = set()
        """Of all lines in it."""

    def add(self, kind: str, key: str, at: int, body: bytes, *, of_record: bool = False) -> None:
        """Add a line at the end of a trail."""
        self.changed.append(Line(kind, key, at, body, of_record))
        self._keys.add(key)

    def cut(self, key: str, kind: str | None = None) -> None:
        """Delete a trail, or all trails of ``key``."""
        self.changed.append(Cut(key, kind))

    def cut_waiting(self, key: str) -> None:
        """Delete the lines under ``key`` that are not written yet; the written ones go with the record."""
        if key in self._keys:
            self.cut(key)

    def waits(self, key: str, kind: str) -> bool:
        """Return whether a line of a trail waits to be written, and is not deleted already."""
        mine = [change for change in self.changed if change.key == key and change.kind in (None, kind)]
        return bool(mine) and isinstance(mine[-1], Line)

    def take(self) -> list[TrailChange]:
        """Return what has happened since the last call."""
        changed, self.changed = self.changed, []
        self._keys.clear()
        return changed
