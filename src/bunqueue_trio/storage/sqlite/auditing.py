"""What the self-audit reads of a SQLite store, over a connection of its own and in a thread: what is there, whatever the server knows."""

import apsw

from bunqueue_trio.config import AUDIT_DATA_BYTES
from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.audit_kept import Kept
from bunqueue_trio.storage.rows import FactRow, JobRow, Reader
from bunqueue_trio.storage.sqlite.meaning import Meaning

_START_OF_DATA = f"substr(data, 1, {AUDIT_DATA_BYTES})"
_STORED = (
    f"SELECT {', '.join(_START_OF_DATA if name == 'data' else name for name in JobRow._fields)} "  # noqa: S608
    "FROM job WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_SOME_FACTS = "SELECT kind, key, value FROM fact WHERE (kind, key) > (?, ?) ORDER BY kind, key LIMIT ?"
# Each from its index: no record is read.
_STATES = "SELECT count(*) FROM finished WHERE queue=? AND state=?"
_GROUPS = "SELECT fingerprint, count(*) FROM finished WHERE queue=? AND fingerprint IS NOT NULL GROUP BY 1"


class Audited:
    """The part of a store that is looked at from outside."""

    _auditor: apsw.Connection
    _meaning: Meaning

    def stored(self, after: int, upto: int, limit: int) -> list[Stored]:
        """Return unfinished jobs as they are on the disk; see :class:`Store`."""
        # Of its own: this may run beside the event loop.
        rows = Reader()
        try:
            return [rows.stored(row) for row in self._auditor.execute(_STORED, (after, upto, limit))]
        except apsw.Error as error:
            raise self._meaning.refusal(error) from error

    def stored_facts(self, after: tuple[str, str], limit: int) -> list[FactRow]:
        """Return facts as they are on the disk; see :class:`Store`."""
        try:
            return [FactRow._make(row) for row in self._auditor.execute(_SOME_FACTS, (*after, limit))]
        except apsw.Error as error:
            raise self._meaning.refusal(error) from error

    def stored_kept(self, queue: str) -> Kept:
        """Return how many records of a queue are on the disk; see :class:`Store`."""
        ask = self._auditor.execute
        try:
            # One moment for all of them.
            with self._auditor:
                completed, failed = (int(ask(_STATES, (queue, state)).get) for state in ("completed", "failed"))
                groups = dict(ask(_GROUPS, (queue,)))
        except apsw.Error as error:
            raise self._meaning.refusal(error) from error
        return Kept(completed, failed, groups)
