"""What of the history is deleted, in steps that are small enough for the commits that wait meanwhile."""

from collections import Counter

import apsw

from bunqueue_trio.config import PRUNE_BYTES, PRUNE_ROWS
from bunqueue_trio.storage.bounded import Bounded
from bunqueue_trio.storage.sqlite.opening import Transaction
from bunqueue_trio.storage.sqlite.trails import prune_actions
from bunqueue_trio.storage.store import FinishedCounts, Retention, Sampled
from bunqueue_trio.storage.tally import Tally

# What to prune is named by one JSON list. Each row that crosses from SQLite to Python takes the interpreter's
# lock anew, and may wait for it while the commits wait for us.
_SIZE = (
    "length(data) + coalesce(length(result), 0) + coalesce(octet_length(note), 0) + "
    "coalesce((SELECT sum(size) FROM trail WHERE key = finished.id), 0) AS size"
)
# Sizes are in the heads of rows: none of them is read for it. The one that passes the limit is still named.
_NAMED = (
    "SELECT count(*), max(key), json_group_array(key) FROM "  # noqa: S608 - a number
    f"(SELECT key, sum(size) OVER (ORDER BY key) - size AS before FROM ({{}})) WHERE before < {PRUNE_BYTES}"
)
_SURPLUS = _NAMED.format(
    f"SELECT fin AS key, {_SIZE} FROM finished WHERE fin > ? AND state = ? ORDER BY fin LIMIT ?"  # noqa: S608 - ours
)
_AGED = _NAMED.format(
    "SELECT key, size FROM "  # noqa: S608 - a constant
    f"(SELECT fin AS key, finished_at, {_SIZE} FROM finished WHERE fin > ? ORDER BY fin LIMIT ?) WHERE finished_at < ?"
)
_SURPLUS_OF = _NAMED.format(
    f"SELECT fin AS key, {_SIZE} FROM finished WHERE queue = ? AND state = 'failed' ORDER BY fin LIMIT ?"  # noqa: S608 - ours
)
_AGED_OF = _NAMED.format(
    "SELECT key, size FROM "  # noqa: S608 - a constant
    f"(SELECT fin AS key, finished_at, {_SIZE} FROM finished WHERE queue = ? AND state = 'failed' ORDER BY fin LIMIT ?) "
    "WHERE finished_at < ?"
)
_PAST_EVENTS = _NAMED.format(
    "SELECT key, size FROM (SELECT last_id AS key, length(body) AS size FROM event_batch ORDER BY last_id LIMIT ?) "
    "WHERE key < ? AND key <= ?"
)
# The end of the next rows, and the last of them that is too old. What is before that one is older still, whatever the
# clock said: so events go from the front only, and a replay has no hole.
_NEXT_EVENTS = (
    "SELECT max(last_id), max(CASE WHEN at < ? THEN last_id END), count(*) FROM "
    "(SELECT last_id, at FROM event_batch WHERE last_id > ? ORDER BY last_id LIMIT ?)"
)
_NEXT_FINISHED = "SELECT max(fin), count(*) FROM (SELECT fin FROM finished WHERE fin > ? ORDER BY fin LIMIT ?)"
_COUNT = "SELECT queue, state, count(*) FROM finished WHERE fin IN (SELECT value FROM json_each(?)) GROUP BY 1, 2"
_COUNT_GROUPS = (
    "SELECT queue, fingerprint, count(*) FROM finished "
    "WHERE fin IN (SELECT value FROM json_each(?)) AND fingerprint IS NOT NULL GROUP BY 1, 2"
)
_PRUNE = "DELETE FROM finished WHERE fin IN (SELECT value FROM json_each(?))"
_PRUNE_EVENTS = "DELETE FROM event_batch WHERE last_id IN (SELECT value FROM json_each(?))"

# Each point is a look at the index of the table: none of the rows between them is read.
_SAMPLE = (
    "WITH RECURSIVE step (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM step WHERE n + 1 < :points), "  # noqa: S608 - ours
    "ends AS MATERIALIZED (SELECT (SELECT min(fin) FROM finished) AS low, (SELECT max(fin) FROM finished) AS high), "
    "named AS (SELECT DISTINCT (SELECT fin FROM finished WHERE fin >= low + (high - low) * n / max(1, :points - 1) "
    "ORDER BY fin LIMIT 1) AS named FROM step, ends) "
    f"SELECT finished_at, {_SIZE}, queue, state FROM finished WHERE fin IN (SELECT named FROM named) ORDER BY fin"
)


def sample(connection: apsw.Connection, points: int) -> list[Sampled]:
    """Return some of the ended jobs; see :class:`Store`."""
    return [Sampled(*row) for row in connection.execute(_SAMPLE, {"points": points})]


class Pruner:
    """Where the retention of one store stands."""

    def __init__(self, writer: apsw.Connection, tally: Tally) -> None:
        self._writer = writer
        self._tally = tally
        self._bounded = Bounded()
        self._pruned_to: dict[str, int] = {}
        """No record of this state has a smaller key."""
        # Where the search for what is too old goes on: records of a clock that was ahead may stand before it.
        self._aged_seen = 0
        self._events_seen = 0
        self._events_aged = 0
        """The last event that is known to be too old."""
        self._events_since = 0
        """From when on it was known."""

    def prune(self, keep: Retention, last_event_id: int) -> int:
        """Delete some rows that are not to be kept; return how many, 0 when all is done."""
        deleted = 0
        # Nothing is locked to find out that there is nothing to do, which is the usual case.
        for state, limit in keep.finished_max().items():
            surplus = self._tally.totals[state] - limit
            if surplus > 0:
                # The records of other states before the oldest of this one are not read each time.
                oldest = (self._pruned_to.get(state, 0), state, min(surplus, PRUNE_ROWS))
                rows, last = self._prune_finished(_SURPLUS, oldest)
                deleted += rows
                self._pruned_to[state] = last or 0
        aged = self._prune_finished(_AGED, (0, PRUNE_ROWS, keep.finished_since))[0]
        deleted += aged or self._prune_further(keep.finished_since)
        for queue, surplus in self._bounded.over(keep, self._tally):
            deleted += self._prune_finished(_SURPLUS_OF, (queue, min(surplus, PRUNE_ROWS)))[0]
        for queue, since in self._bounded.aged(keep, self._tally):
            deleted += self._prune_finished(_AGED_OF, (queue, PRUNE_ROWS, since))[0]
        # Never the batch of the last event, which remembers the newest id and time.
        past = max(last_event_id - keep.events_max, self._aged_events(keep.events_since))
        rows, _, keys = self._listed(_PAST_EVENTS, (PRUNE_ROWS, last_event_id, past))
        if rows:
            self._writer.execute(_PRUNE_EVENTS, (keys,))
        return deleted + rows + prune_actions(self._writer, keep.actions_max, keep.actions_since)

    def _prune_further(self, since: int) -> int:
        """Delete what is too old among the next records behind the oldest; a pass over all takes many calls."""
        begin = self._aged_seen
        [(end, rows)] = self._writer.execute(_NEXT_FINISHED, (begin, PRUNE_ROWS))
        self._aged_seen = end if rows == PRUNE_ROWS else 0
        return self._prune_finished(_AGED, (begin, PRUNE_ROWS, since))[0]

    def _aged_events(self, since: int) -> int:
        """Return the last event known to be too old, after a look at some more; 0 when there is none."""
        # The clock was set back: what was too old may not be so any more.
        if since < self._events_since:
            self._events_seen = self._events_aged = 0
        self._events_since = since
        [(end, aged, rows)] = self._writer.execute(_NEXT_EVENTS, (since, self._events_seen, PRUNE_ROWS))
        self._events_aged = max(self._events_aged, aged or 0)
        self._events_seen = end if rows == PRUNE_ROWS else self._events_aged
        return self._events_aged

    def _listed(self, query: str, values: tuple[int | str, ...]) -> tuple[int, int, str]:
        """Return how many rows ``query`` names, the last of them (None if there are none), and their list."""
        [(rows, last, keys)] = self._writer.execute(query, values)
        return rows, last, keys

    def _prune_finished(self, query: str, values: tuple[int | str, ...]) -> tuple[int, int]:
        """Delete the records that ``query`` names; return how many, and the last."""
        rows, last, keys = self._listed(query, values)
        if rows:
            with Transaction(self._writer):
                counted = self._writer.execute(_COUNT, (keys,))
                added: FinishedCounts = Counter({(queue, state): -n for queue, state, n in counted})
                counted = self._writer.execute(_COUNT_GROUPS, (keys,))
                grouped: FinishedCounts = Counter({(queue, key): -n for queue, key, n in counted})
                self._writer.execute(_PRUNE, (keys,))
            self._tally.add(added, grouped)
        return rows, last
