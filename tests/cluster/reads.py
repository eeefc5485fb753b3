"""What the statements that only read answer in the simulated database."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bunqueue_trio.config import AUDIT_DATA_BYTES, PRUNE_BYTES, REPLAY_BYTES
from bunqueue_trio.storage.postgres import reads as r
from bunqueue_trio.storage.postgres import retention, store
from bunqueue_trio.storage.rows import FinishedRow, JobRow
from tests.cluster.cluster_tables import Row

if TYPE_CHECKING:
    from tests.cluster.database import Database

_AT = {name: at + 1 for at, name in enumerate(FinishedRow._fields)}  # the key stands before them
_RESULT = _AT["result"]
_DATA = JobRow._fields.index("data")


def statements(database: "Database") -> dict[str, Callable[..., list[Row]]]:
    """Return what answers each of them, by its text."""
    reads = Reads(database)
    known: dict[str, Callable[..., list[Row]]] = {
        r._FIND: reads.find, r._OUTCOMES: reads.outcomes, r._TRACES: reads.traces, r._FIRST_SEEN: reads.first_seen,
        r._EVENTS: reads.events, r.SIZE: lambda _: [(100_001,)], r._FIRST_EVENT: reads.first_event,
        r._LAST_EVENT_AT: reads.last_event_at, r._FACTS: reads.facts, r._SOME_FACTS: reads.some_facts, r._KEPT: reads.kept,
        r._SOME_JOBS: reads.jobs, r._STORED: reads.stored,
        store._COUNTS: lambda: reads.count("queue", "state"), store._GROUPS: lambda: reads.count("queue", "fingerprint"),
        store._LAST_EVENT: lambda: [(max(database.tables["event_batch"], default=0),)],
        store._LAST_FIN: lambda: [(max(database.tables["finished"], default=0),)],
        retention._SURPLUS: lambda fin, state, n: reads.named(lambda row: row[0] > fin and row[_AT["state"]] == state, n, None),
        retention._AGED: lambda fin, n, since: reads.named(lambda row: row[0] > fin, n, since),
        retention._SURPLUS_OF: lambda queue, n: reads.named(lambda row: _is_dead(row, queue), n, None),
        retention._AGED_OF: lambda queue, n, since: reads.named(lambda row: _is_dead(row, queue), n, since),
        retention._PAST_EVENTS: reads.past_events, retention._NEXT_EVENTS: reads.next_events,
        retention.EVENTS: reads.count_events, retention._NEXT_FINISHED: reads.next_finished, retention._SAMPLE: reads.sample,
    }  # fmt: skip
    for oldest in (False, True):
        known[r._TRAIL.format(*((">", "") if oldest else ("<", "DESC")))] = _bound(reads.trail, newest=not oldest)
        for which in ("", "AND fingerprint = $5"):
            way = (">", "") if oldest else ("<", "DESC")
            known[r._RECORDS.format(which, *way)] = _bound(reads.page, oldest=oldest)
    of_leader = {r._OF_LEADER.replace("{}", text): partial(reads.of_leader, read) for text, read in known.items()}
    return known | of_leader


def _bound(read: Callable[..., list[Row]], **named: bool) -> Callable[..., list[Row]]:
    return lambda *values: read(*values, **named)


def _is_dead(row: Row, queue: str) -> bool:
    return (row[_AT["queue"]], row[_AT["state"]]) == (queue, "failed")


def _weight(row: Row) -> int:
    parts = (row[_AT["data"]], *(_encoded(row[_AT[name]]) for name in ("note", "options")))
    return sum(len(part or b"") for part in parts)


def _encoded(text: str | None) -> bytes:
    return (text or "").encode()


class Reads:
    """The reads, of whatever the database holds now."""

    def __init__(self, database: "Database") -> None:
        self._database = database

    def table(self, name: str) -> dict[Any, Row]:
        return self._database.tables[name]

    def of_leader(self, read: Callable[..., list[Row]], *values: Any) -> list[Row]:
        """The same behind who leads; one row where there is none."""
        leader = self._database.leader
        rows = [(n, *row) for n, row in enumerate(read(*values), 1)]
        return [(leader.term, leader.life, leader.batch, *row) for row in rows or [(None,)]]

    def find(self, job_id: str) -> list[Row]:
        found = self.table("finished_id").get(job_id)
        return [] if found is None else [self.table("finished")[found[0]][1:]]

    def outcomes(self, ids: bytes) -> list[Row]:
        from tests.cluster.database import decode

        rows = [row for job_id in dict.fromkeys(decode(ids)) for row in self.find(job_id)]
        return [(row[0], row[_AT["state"] - 1]) for row in rows]

    def traces(self, first: str, end: str, limit: int) -> list[Row]:
        ids = sorted((i for i in self.table("finished_id") if first <= i < end), reverse=True)[: int(limit)]
        names = ("id", "state", "started_at", "finished_at", "note")
        return [tuple(self.find(i)[0][_AT[name] - 1] for name in names) for i in ids]

    def page(
        self, queue: str, state: str, place: int, limit: int, fingerprint: str | None = None, *, oldest: bool
    ) -> list[Row]:
        part = [
            row for row in self._database.records()
            if (row[_AT["queue"]], row[_AT["state"]]) == (queue, state)
            and (row[0] > place if oldest else row[0] < place)
            and fingerprint in (None, row[_AT["fingerprint"]])
        ]  # fmt: skip
        part = (part if oldest else part[::-1])[: limit + 1]
        found, before = [], 0
        for row in part[:limit]:
            if before < REPLAY_BYTES:
                found.append((len(part), *row[:_RESULT], None, *row[_RESULT + 1 :]))
            before += _weight(row)
        return found

    def first_seen(self, queues: bytes, fingerprint: str) -> list[Row]:
        from tests.cluster.database import decode

        wanted, first = decode(queues), dict[str, int]()
        for row in self._database.records():
            if row[_AT["queue"]] in wanted and row[_AT["fingerprint"]] == fingerprint:
                first.setdefault(row[_AT["queue"]], row[_AT["finished_at"]])
        return [(min(first.values(), default=None),)]

    def trail(self, key: str, kind: str, place: int, limit: int, *, newest: bool) -> list[Row]:
        head = self.table("trail").get((key, kind))
        if head is None:
            return []
        first, after, _ = head
        numbers = [n for n in range(first, after) if (n < place if newest else n > place)]
        part = (numbers[::-1] if newest else numbers)[: limit + 1]
        found, before = [], 0
        for n in part[:limit]:
            body = self.table("trail_line")[key, kind, n][1]
            if before < REPLAY_BYTES:
                found.append((after - first, n, body, len(part)))
            before += len(body)
        return found or [(after - first, None, None, None)]

    def events(self, event_id: int, limit: int) -> list[Row]:
        found, events, size = [], 0, 0
        for last_id, row in sorted(self.table("event_batch").items()):
            if last_id > event_id and events < limit and size < REPLAY_BYTES:
                found.append((last_id, row[1], row[3]))
                events, size = events + last_id - max(last_id - row[1], event_id), size + len(row[3])
        return found

    def first_event(self) -> list[Row]:
        return [(last_id - row[1] + 1,) for last_id, row in sorted(self.table("event_batch").items())[:1]]

    def last_event_at(self) -> list[Row]:
        rows = self.table("event_batch")
        return [(max(rows[max(rows)][2], rows[max(rows)][4]),)] if rows else []

    def some_facts(self, kind: str, key: str, limit: int) -> list[Row]:
        return [row for row in self.facts() if row[:2] > (kind, key)][:limit]

    def kept(self, queue: str) -> list[Row]:
        of_it = [row for row in self._database.records() if row[_AT["queue"]] == queue]
        states = Counter(row[_AT["state"]] for row in of_it if row[_AT["state"]] in ("completed", "failed"))
        groups = Counter(row[_AT["fingerprint"]] for row in of_it if row[_AT["fingerprint"]] is not None)
        return [(state, None, n) for state, n in states.items()] + [("group", key, n) for key, n in groups.items()]

    def facts(self) -> list[Row]:
        return [(*name, *row) for name, row in sorted(self.table("fact").items())]

    def jobs(self, after: int, upto: int, limit: int) -> list[Row]:
        return [row for seq, row in sorted(self.table("job").items()) if after < seq <= upto][:limit]

    def stored(self, after: int, upto: int, limit: int) -> list[Row]:
        rows = self.jobs(after, upto, limit)
        return [(*row[:_DATA], row[_DATA][:AUDIT_DATA_BYTES], *row[_DATA + 1 :]) for row in rows]

    def count(self, *names: str) -> list[Row]:
        counts = Counter(tuple(row[_AT[name]] for name in names) for row in self._database.records())
        return [(*which, n) for which, n in counts.items() if None not in which]

    # --- what retention looks for ---------------------------------------------------------------

    def size(self, row: Row) -> int:
        trails = sum(size for (key, _), (_, _, size) in self.table("trail").items() if key == row[_AT["id"]])
        return sum(len(row[_AT[name]] or b"") for name in ("data", "result")) + len(_encoded(row[_AT["note"]])) + trails

    def named(self, wanted: Callable[[Row], bool], limit: int, since: int | None) -> list[Row]:
        found, before = [], 0
        for row in [row for row in self._database.records() if wanted(row)][:limit]:
            if since is not None and row[_AT["finished_at"]] >= since:
                continue
            if before < PRUNE_BYTES:
                found.append((row[0],))
            before += self.size(row)
        return found

    def past_events(self, limit: int, last_event_id: int, past: int, surplus: int) -> list[Row]:
        found, upto = [], 0
        for last_id, row in sorted(self.table("event_batch").items())[:limit]:
            upto += row[1]
            if last_id < last_event_id and (last_id <= past or upto <= surplus):
                found.append((last_id, row[1]))
        return found

    def count_events(self) -> list[Row]:
        return [(sum(row[1] for row in self.table("event_batch").values()),)]

    def next_events(self, since: int, after: int, limit: int) -> list[Row]:
        rows = [(i, row) for i, row in sorted(self.table("event_batch").items()) if i > after][:limit]
        aged = [i for i, row in rows if row[2] < since]
        return [(max((i for i, _ in rows), default=None), max(aged, default=None), len(rows))]

    def next_finished(self, after: int, limit: int) -> list[Row]:
        keys = sorted(fin for fin in self.table("finished") if fin > after)[:limit]
        return [(max(keys, default=None), len(keys))]

    def sample(self, points: int) -> list[Row]:
        keys = sorted(self.table("finished"))
        if not keys:
            return []
        low, high = keys[0], keys[-1]
        wanted = {
            next(fin for fin in keys if fin >= low + (high - low) * n // max(1, points - 1)) for n in range(points)
        }
        rows = [self.table("finished")[fin] for fin in sorted(wanted)]
        return [(row[_AT["finished_at"]], self.size(row), row[_AT["queue"]], row[_AT["state"]]) for row in rows]
