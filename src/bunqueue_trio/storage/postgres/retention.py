"""What of the history is deleted, in steps that are small enough for the commits that wait meanwhile."""

from collections import Counter
from collections.abc import Callable

from bunqueue_trio.config import PRUNE_BYTES, PRUNE_ROWS
from bunqueue_trio.engine.trails import ACTIONS
from bunqueue_trio.storage.bounded import Bounded
from bunqueue_trio.storage.postgres.arrays import ints
from bunqueue_trio.storage.postgres.link import Query, Row
from bunqueue_trio.storage.store import FinishedCounts, Retention, Sampled
from bunqueue_trio.storage.tally import Tally

# Sizes are known without reading what is large. The record that passes the limit is still named.
_SIZE = (
    "octet_length(data) + coalesce(octet_length(result), 0) + coalesce(octet_length(note), 0) + "
    "coalesce((SELECT sum(size) FROM bq.trail WHERE key = finished.id), 0) AS size"
)
_NAMED = (
    "SELECT fin FROM (SELECT fin, sum(size) OVER (ORDER BY fin) - size AS before FROM ({}) AS oldest) AS named "  # noqa: S608
    f"WHERE before < {PRUNE_BYTES} ORDER BY fin"
)
_SURPLUS = _NAMED.format(
    f"SELECT fin, {_SIZE} FROM bq.finished WHERE fin > $1::bigint AND state = $2 ORDER BY fin LIMIT $3::bigint"  # noqa: S608
)
_AGED = _NAMED.format(
    "SELECT fin, size FROM "  # noqa: S608
    f"(SELECT fin, finished_at, {_SIZE} FROM bq.finished WHERE fin > $1::bigint ORDER BY fin LIMIT $2::bigint) AS next "
    "WHERE finished_at < $3::bigint"
)
_SURPLUS_OF = _NAMED.format(
    f"SELECT fin, {_SIZE} FROM bq.finished WHERE queue = $1 AND state = 'failed' ORDER BY fin LIMIT $2::bigint"  # noqa: S608
)
_AGED_OF = _NAMED.format(
    "SELECT fin, size FROM "  # noqa: S608
    f"(SELECT fin, finished_at, {_SIZE} FROM bq.finished WHERE queue = $1 AND state = 'failed' ORDER BY fin LIMIT $2::bigint) AS next "
    "WHERE finished_at < $3::bigint"
)
# By number and not by id: takeovers leave some ids out.
_PAST_EVENTS = (
    "SELECT last_id, count FROM (SELECT last_id, count, sum(count) OVER (ORDER BY last_id) AS upto FROM "
    "(SELECT last_id, count FROM bq.event_batch ORDER BY last_id LIMIT $1::bigint) AS oldest) AS counted "
    "WHERE last_id < $2::bigint AND (last_id <= $3::bigint OR upto <= $4::bigint) ORDER BY last_id"
)
EVENTS = "SELECT coalesce(sum(count), 0)::bigint FROM bq.event_batch"
_NEXT_EVENTS = (
    "SELECT max(last_id), max(last_id) FILTER (WHERE at < $1::bigint), count(*) FROM "
    "(SELECT last_id, at FROM bq.event_batch WHERE last_id > $2::bigint ORDER BY last_id LIMIT $3::bigint) AS next"
)
_NEXT_FINISHED = "SELECT max(fin), count(*) FROM (SELECT fin FROM bq.finished WHERE fin > $1::bigint ORDER BY fin LIMIT $2::bigint) AS next"
_PRUNE = "SELECT * FROM bq.prune_finished_1($1::bigint, $2::uuid, $3::bigint[])"
_PRUNE_EVENTS = "SELECT bq.prune_events_1($1::bigint, $2::uuid, $3::bigint[])"
_PRUNE_ACTIONS = "SELECT bq.prune_actions_1($1::bigint, $2::uuid, $3, $4::bigint, $5::bigint, $6::bigint)"

_SAMPLE = (
    "WITH ends AS (SELECT min(fin) AS low, max(fin) AS high FROM bq.finished), named AS (SELECT (SELECT fin FROM bq.finished "  # noqa: S608
    "WHERE fin >= low + (high - low) * n / greatest(1, $1::bigint - 1) ORDER BY fin LIMIT 1) AS fin "
    "FROM generate_series(0, $1::bigint - 1) AS n, ends) SELECT finished_at, size::bigint, queue, state FROM "
    f"(SELECT fin, finished_at, queue, state, {_SIZE} FROM bq.finished WHERE fin IN (SELECT fin FROM named)) AS found ORDER BY fin"
)

Ask = Callable[[Query], list[Row]]


class Pruner:
    """Where the retention of one store stands; the same steps as those of the SQLite store."""

    def __init__(self, ask: Ask, leader: tuple[int, str]) -> None:
        self._ask = ask
        self._leader = leader
        self._bounded = Bounded()
        self.events: int = 0
        """How many are kept."""
        self._pruned_to: dict[str, int] = {}
        """No record of this state has a smaller key."""
        # Where the search for what is too old goes on: records of a clock that was ahead may stand before it.
        self._aged_seen = 0
        self._events_seen = 0
        self._events_aged = 0
        """The last event that is known to be too old."""
        self._events_since = 0
        """From when on it was known."""

    def begin_anew(self) -> None:
        """Begin again at the front: rows that were deleted may be there once more."""
        self._pruned_to.clear()
        self._aged_seen = self._events_seen = self._events_aged = 0

    def prune(self, keep: Retention, last_event_id: int, tally: Tally) -> int:
        """Delete some rows that are not to be kept; return how many, 0 when all is done."""
        deleted = 0
        # Nothing is locked to find out that there is nothing to do, which is the usual case.
        for state, limit in keep.finished_max().items():
            surplus = tally.totals[state] - limit
            if surplus > 0:
                oldest = Query(_SURPLUS, (self._pruned_to.get(state, 0), state, min(surplus, PRUNE_ROWS)))
                rows, last = self._prune_finished(oldest, tally)
                deleted += rows
                self._pruned_to[state] = last
        aged = self._prune_finished(Query(_AGED, (0, PRUNE_ROWS, keep.finished_since)), tally)[0]
        deleted += aged or self._prune_further(keep.finished_since, tally)
        for queue, surplus in self._bounded.over(keep, tally):
            deleted += self._prune_finished(Query(_SURPLUS_OF, (queue, min(surplus, PRUNE_ROWS))), tally)[0]
        for queue, since in self._bounded.aged(keep, tally):
            deleted += self._prune_finished(Query(_AGED_OF, (queue, PRUNE_ROWS, since)), tally)[0]
        # Never the batch of the last event, which remembers the newest id and time.
        past = (last_event_id, self._aged_events(keep.events_since), self.events - keep.events_max)
        batches = self._ask(Query(_PAST_EVENTS, (PRUNE_ROWS, *past)))
        if batches:
            self._ask(Query(_PRUNE_EVENTS, (*self._leader, ints([key for key, _ in batches]))))
            self.events -= sum(count for _, count in batches)
        acts = (ACTIONS, keep.actions_max, keep.actions_since, PRUNE_ROWS)
        [(lines,)] = self._ask(Query(_PRUNE_ACTIONS, (*self._leader, *acts)))
        return deleted + len(batches) + int(lines)

    def sample(self, points: int) -> list[Sampled]:
        """Return some of the ended jobs; see :class:`Store`."""
        return [Sampled(*row) for row in self._ask(Query(_SAMPLE, (points,)))]

    def _prune_further(self, since: int, tally: Tally) -> int:
        """Delete what is too old among the next records behind the oldest; a pass over all takes many calls."""
        begin = self._aged_seen
        [(end, rows)] = self._ask(Query(_NEXT_FINISHED, (begin, PRUNE_ROWS)))
        self._aged_seen = end if rows == PRUNE_ROWS else 0
        return self._prune_finished(Query(_AGED, (begin, PRUNE_ROWS, since)), tally)[0]

    def _aged_events(self, since: int) -> int:
        """Return the last event known to be too old, after a look at some more; 0 when there is none."""
        # The clock was set back: what was too old may not be so any more.
        if since < self._events_since:
            self._events_seen = self._events_aged = 0
        self._events_since = since
        [(end, aged, rows)] = self._ask(Query(_NEXT_EVENTS, (since, self._events_seen, PRUNE_ROWS)))
        self._events_aged = max(self._events_aged, aged or 0)
        self._events_seen = end if rows == PRUNE_ROWS else self._events_aged
        return self._events_aged

    def _prune_finished(self, which: Query, tally: Tally) -> tuple[int, int]:
        """Delete the records that ``which`` names; return how many, and the last, 0 of none."""
        keys = [key for (key,) in self._ask(which)]
        if not keys:
            return 0, 0
        added: FinishedCounts = Counter()
        grouped: FinishedCounts = Counter()
        for queue, state, fingerprint, n in self._ask(Query(_PRUNE, (*self._leader, ints(keys)))):
            added[queue, state] -= n
            if fingerprint is not None:
                grouped[queue, fingerprint] -= n
        tally.add(added, grouped)
        return len(keys), keys[-1]
