"""Errors that no job is known to have died of before: since when, and of how many, by what is committed. In memory, bounded."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bunqueue_trio.engine.edits import DISCARDED
from bunqueue_trio.engine.fingerprint import CANCELLED, fingerprint
from bunqueue_trio.storage.rows import FinishedRow

# New at once: a client that makes up texts must not fill the memory.
SEEN_MAX = 500
# Those that are known to be old, beside those of which dead letters are kept.
KNOWN_MAX = 100_000
# Queues that are counted of each.
QUEUES_MAX = 100
# How long an error is new.
NEW_MS = 60 * 60_000


class NewError(NamedTuple):
    """An error, and how many have died of it in which queues; times in epoch ms."""

    fingerprint: str
    shape: str
    since: int
    last: int
    died: int
    queues: Mapping[str, int]


class _Note(Struct):
    error: str = ""
    reason: str | None = None


_NOTE = msgspec.json.Decoder(_Note)


class NewErrors:
    """Those of the last hour. ``note`` is given each dead letter when it is committed."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seen: dict[str, NewError] = {}

    def load(self, known: Iterable[str]) -> None:
        """Note the fingerprints of dead letters that a process before this one has left."""
        self._known.update(known)

    def note(self, row: FinishedRow) -> None:
        """Count a dead letter if its error is new."""
        key = row.fingerprint
        if key is None or key in self._known:
            return
        seen = self._seen.get(key)
        if seen is None:
            told = _NOTE.decode(row.note or "{}")
            if len(self._seen) >= SEEN_MAX or not _is_failure(row, told):
                return
            seen = NewError(key, fingerprint(told.error).shape, row.finished_at, row.finished_at, 0, {})
        queues = dict(seen.queues)
        if row.queue in queues or len(queues) < QUEUES_MAX:
            queues[row.queue] = queues.get(row.queue, 0) + 1
        self._seen[key] = seen._replace(last=row.finished_at, died=seen.died + 1, queues=queues)

    def forget(self, now: int) -> None:
        """Let those be known that are new no more."""
        for key in [key for key, seen in self._seen.items() if seen.since <= now - NEW_MS]:
            del self._seen[key]
            if len(self._known) < KNOWN_MAX:
                self._known.add(key)

    def told(self, marked: Collection[str]) -> tuple[NewError, ...]:
        """Return those of which nobody has said anything: neither that they are fixed, nor that they are muted."""
        return tuple(seen for key, seen in self._seen.items() if key not in marked)


def _is_failure(row: FinishedRow, told: _Note) -> bool:
    """Return whether it died of an attempt, and not of somebody's word or because of another job."""
    return row.started_at is not None and told.reason != DISCARDED and row.fingerprint != CANCELLED.key
