"""Errors that no job is known to have died of before: since when, of how many, by what is committed, and how many are tried again. In memory, bounded."""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bunqueue_trio.config import MINUTE_MS
from bunqueue_trio.engine.edits import DISCARDED
from bunqueue_trio.engine.fingerprint import CANCELLED, fingerprint, work_of
from bunqueue_trio.engine.retrying import RetryGroup
from bunqueue_trio.storage.rows import FinishedRow

# New at once: a client that makes up texts must not fill the memory.
SEEN_MAX = 500
# New in one batch, which is committed in one step: to tell what an error is takes up to 3 ms.
SHAPED_MAX = 5
# New in one look at those that are tried again, by what they take at most.
SHAPED_US = 10_000
# Those that are known to be old, beside those of which dead letters are kept.
KNOWN_MAX = 100_000
# Queues that are counted of each.
QUEUES_MAX = 100
# How long an error is new.
NEW_MS = 60 * 60_000


class NewError(NamedTuple):
    """An error, and how many have died of it in which queues, or else are tried again; times in epoch ms."""

    fingerprint: str
    shape: str
    since: int
    last: int
    died: int
    queues: Mapping[str, int]
    tried: int = 0
    """Jobs that have failed with it and wait for another attempt."""


class _Note(Struct):
    error: str = ""
    reason: str | None = None


_NOTE = msgspec.json.Decoder(_Note)


class NewErrors:
    """Those of the last hour. ``note`` is given the dead letters of each batch when it is committed."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seen: dict[str, NewError] = {}
        self._tried: dict[str, NewError] = {}
        """Those that jobs are tried again after, or were; of nobody now if ``tried`` is 0."""

    def load(self, known: Iterable[str]) -> None:
        """Note the fingerprints that are not new, of what a process before this one has left."""
        self._known.update(known)

    def note(self, rows: Iterable[FinishedRow]) -> None:
        """Count the dead letters of a batch whose errors are new; of very many new ones at once only some, until they come again."""
        left = SHAPED_MAX
        for row in rows:
            key = row.fingerprint
            if key is None or key in self._known:
                continue
            seen = self._seen.get(key)
            if seen is None:
                if not left or len(self._seen) >= SEEN_MAX:
                    continue
                told = _NOTE.decode(row.note or "{}")
                if not _is_failure(row, told):
                    continue
                left -= 1
                seen = NewError(key, fingerprint(told.error).shape, row.finished_at, row.finished_at, 0, {})
            queues = dict(seen.queues)
            if row.queue in queues or len(queues) < QUEUES_MAX:
                queues[row.queue] = queues.get(row.queue, 0) + 1
            self._seen[key] = seen._replace(last=row.finished_at, died=seen.died + 1, queues=queues)

    def note_tried(self, groups: dict[str, RetryGroup], now: int) -> None:
        """See which jobs are tried again now, of the newest errors; of very many new ones at once only some, until it is called again."""
        before, self._tried, left = self._tried, {}, SHAPED_US
        for key in islice(reversed(groups), SEEN_MAX):
            group = groups[key]
            first = group.line.first()
            if key in self._known or first is None:
                continue
            known, error = before.get(key), first.noted().error or ""
            if known is None and left > 0:
                left -= work_of(error)
                # The attempt may have begun long ago: the error is as new as its failure, and there is a look each minute.
                known = NewError(key, fingerprint(error).shape, max(group.since, now - MINUTE_MS), 0, 0, {})
            if known is not None:
                # It may have gone and come back: the first time counts.
                queues = dict(islice(group.queues.items(), QUEUES_MAX))
                self._tried[key] = known._replace(last=group.last, queues=queues, tried=sum(group.queues.values()))
        for key, seen in before.items():
            if key not in self._tried and len(self._tried) < SEEN_MAX:
                self._tried[key] = seen._replace(tried=0)

    def forget(self, now: int) -> None:
        """Let those be known that are new no more."""
        for some in (self._seen, self._tried):
            for key in [key for key, seen in some.items() if seen.since <= now - NEW_MS]:
                del some[key]
                if len(self._known) < KNOWN_MAX:
                    self._known.add(key)

    def told(self, marked: Collection[str]) -> tuple[NewError, ...]:
        """Return those of which nobody has said anything: neither that they are fixed, nor that they are muted."""
        tried = {key: one for key, one in self._tried.items() if key not in self._seen and one.tried}
        dead = {
            key: one._replace(tried=self._tried[key].tried) if key in self._tried else one
            for key, one in self._seen.items()
        }
        return tuple(one for key, one in (dead | tried).items() if key not in marked)


def _is_failure(row: FinishedRow, told: _Note) -> bool:
    """Return whether it died of an attempt, and not of somebody's word or because of another job."""
    return row.started_at is not None and told.reason != DISCARDED and row.fingerprint != CANCELLED.key
