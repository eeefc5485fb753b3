"""What is read of the archive: each as a query and what its rows mean, for whoever asks now and for whoever waits."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from bunqueue_trio.config import AUDIT_DATA_BYTES, REPLAY_BYTES
from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.audit_kept import Kept
from bunqueue_trio.engine.job import Job, Records, State, Trace, weight
from bunqueue_trio.engine.trails import TrailPage
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.postgres.arrays import names, number, with_nul, without_nul
from bunqueue_trio.storage.postgres.link import Query, Row
from bunqueue_trio.storage.rows import FactRow, FinishedRow, JobRow, Reader, outcome, trace
from bunqueue_trio.storage.store import StoredEvent, stored_events

T = TypeVar("T")
# None is as late.
_NO_END = 2**63 - 1
_JOB, _FINISHED = ", ".join(JobRow._fields), ", ".join(FinishedRow._fields)
_WITHOUT_RESULT = _FINISHED.replace("result", "NULL::bytea AS result")
_FINISHED_PROGRESS = FinishedRow._fields.index("progress")
_JOB_PROGRESS = JobRow._fields.index("progress")
_WEIGHT = "octet_length(data) + coalesce(octet_length(note), 0) + coalesce(octet_length(options), 0)"
# Whole texts in code: a schema is a name that was looked at.
_FIND = f"SELECT {_FINISHED} FROM bq.finished WHERE id = $1"  # noqa: S608
_OUTCOMES = "SELECT id, state FROM bq.finished WHERE id = ANY ($1::text[])"
_TRACES = "SELECT id, state, started_at, finished_at, note FROM bq.finished WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3::bigint"
_RECORDS = (
    f"SELECT n, fin, {_FINISHED} FROM ("  # noqa: S608
    "SELECT *, row_number() OVER w AS place, sum(weight) OVER w - weight AS before, count(*) OVER () AS n FROM ("
    f"SELECT fin, {_WITHOUT_RESULT}, {_WEIGHT} AS weight FROM bq.finished "
    "WHERE queue = $1 AND state = $2 AND fin {1} $3::bigint {0} ORDER BY fin {2} LIMIT $4::bigint + 1"
    f") AS part WINDOW w AS (ORDER BY fin {{2}})) AS page WHERE place <= $4::bigint AND before < {REPLAY_BYTES} ORDER BY fin {{2}}"
)
_FIRST_SEEN = (
    "SELECT min(first.finished_at) FROM unnest($1::text[]) AS its(name), LATERAL ("
    "SELECT finished_at FROM bq.finished WHERE queue = its.name AND fingerprint = $2 ORDER BY fin LIMIT 1) AS first"
)
_TRAIL = (
    "SELECT h.next - h.first, l.n, l.body, l.more FROM bq.trail AS h LEFT JOIN LATERAL ("  # noqa: S608
    "SELECT n, body, place, before, count(*) OVER () AS more FROM ("
    "SELECT n, body, row_number() OVER w AS place, sum(octet_length(body)) OVER w - octet_length(body) AS before "
    "FROM (SELECT n, body FROM bq.trail_line WHERE trail = h.id AND n {0} $3::bigint ORDER BY n {1} LIMIT $4::bigint + 1) AS part "
    "WINDOW w AS (ORDER BY n {1})) AS page) AS l "
    f"ON l.place <= $4::bigint AND l.before < {REPLAY_BYTES} WHERE h.key = $1 AND h.kind = $2 ORDER BY l.n {{1}}"
)
_EVENTS = (
    "SELECT last_id, whole, body FROM ("  # noqa: S608
    "SELECT last_id, whole, body, sum(count) OVER w - count AS events, sum(octet_length(body)) OVER w - octet_length(body) AS before "
    "FROM (SELECT last_id, last_id - greatest(last_id - count, $1::bigint) AS count, count AS whole, body FROM bq.event_batch WHERE last_id > $1::bigint ORDER BY last_id LIMIT $2::bigint) AS part "
    f"WINDOW w AS (ORDER BY last_id)) AS page WHERE events < $2::bigint AND before < {REPLAY_BYTES} ORDER BY last_id"
)
SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
    "WHERE relkind = 'r' AND relnamespace = to_regnamespace($1)"
)
"""Bytes of all tables of a schema, with their indexes."""
_FIRST_EVENT = "SELECT last_id - count + 1 FROM bq.event_batch ORDER BY last_id LIMIT 1"
_LAST_EVENT_AT = "SELECT greatest(at, stamp) FROM bq.event_batch ORDER BY last_id DESC LIMIT 1"
_FACTS = f"SELECT {', '.join(FactRow._fields)} FROM bq.fact ORDER BY kind, key"  # noqa: S608
_SOME_JOBS = f"SELECT {_JOB} FROM bq.job WHERE seq > $1::bigint AND seq <= $2::bigint ORDER BY seq LIMIT $3::bigint"  # noqa: S608
_STORED = _SOME_JOBS.replace(" data,", f" substr(data, 1, {AUDIT_DATA_BYTES}) AS data,")
_SOME_FACTS = (
    f"SELECT {', '.join(FactRow._fields)} FROM bq.fact WHERE (kind, key) > ($1, $2) ORDER BY kind, key LIMIT $3::bigint"  # noqa: S608
)
_KEPT = (
    "SELECT state, NULL, count(*) FROM bq.finished WHERE queue = $1 AND state IN ('completed', 'failed') GROUP BY 1 "
    "UNION ALL SELECT 'group', fingerprint, count(*) FROM bq.finished WHERE queue = $1 AND fingerprint IS NOT NULL GROUP BY 2"
)
_OF_LEADER = (
    "SELECT leader.term, leader.life::text, leader.batch, part.* FROM bq.leader LEFT JOIN ("
    "SELECT row_number() OVER () AS nth, asked.* FROM ({}) AS asked) AS part ON true ORDER BY part.nth"
)
"""Around another one: what it answers, and who led then, in one moment."""


class Read(NamedTuple, Generic[T]):
    """A query, and what makes an answer of its rows."""

    query: Query
    answer: Callable[[list[Row]], T]


class Left(NamedTuple):
    """How a leader has left its database: its term, its life, and its last batch."""

    term: int
    life: str
    batch: int


class Reads:
    """The reads of a store in one schema, by the names that they have in :class:`Store`."""

    def __init__(self, qualified: Callable[[str], str]) -> None:
        self._in_schema = qualified
        self._rows = Reader()

    def _read(self, text: str, *values: int | str | bytes, answer: Callable[[list[Row]], T]) -> Read[T]:
        return Read(Query(self._in_schema(text), values), answer)

    def as_left(self, read: Read[T], left: Left) -> Read[T]:
        """The same, of a database that is as a leader has ``left`` it, or further on.

        One that has gone back does not have yet what is about to be written again, and one that another server leads may have
        what this one does not know: neither has an answer.
        """

        def answer(rows: list[Row]) -> T:
            if [row[:2] for row in rows[:1]] != [left[:2]] or rows[0][2] < left.batch:
                raise StoreError("the database is not as this server has left it")
            return read.answer([row[4:] for row in rows if row[3] is not None])

        text = self._in_schema(_OF_LEADER).replace("{}", read.query.text)
        return Read(read.query._replace(text=text), answer)

    def find(self, job_id: str) -> Read[Job | None]:
        """A finished job, or None."""
        return self._read(
            _FIND, without_nul(job_id), answer=lambda rows: self._rows.finished(_record(rows[0])) if rows else None
        )

    def outcomes(self, job_ids: Sequence[str]) -> Read[dict[str, State]]:
        """How some jobs ended."""
        return self._read(
            _OUTCOMES, names(job_ids),
            answer=lambda rows: {with_nul(job_id): outcome(state) for job_id, state in rows},
        )  # fmt: skip

    def traces(self, first: str, end: str, limit: int) -> Read[list[Trace]]:
        """What is kept of some finished jobs."""

        def answer(rows: list[Row]) -> list[Trace]:
            return [trace((with_nul(job_id), *rest)) for job_id, *rest in rows]

        return self._read(_TRACES, without_nul(first), without_nul(end), limit, answer=answer)

    def records(
        self, queue: str, state: State, before: int | None, limit: int, fingerprint: str | None = None,
        *, oldest: bool = False,
    ) -> Read[Records]:  # fmt: skip
        """Some of the finished jobs of a queue."""

        def answer(rows: list[Row]) -> Records:
            found: list[Job] = []
            places: list[int] = []
            size = 0
            for _, fin, *row in rows:
                # By the exact order, of which the query knows only the larger part.
                if size >= REPLAY_BYTES:
                    break
                found.append(self._rows.finished(_record(row)))
                places.append(fin)
                size += weight(found[-1])
            return Records(found, places[-1] if rows and rows[0][0] > len(found) else None, places)

        place = before if before is not None else 0 if oldest else _NO_END
        way = (">", "") if oldest else ("<", "DESC")
        if fingerprint is None:
            return self._read(_RECORDS.format("", *way), queue, state.value, place, limit, answer=answer)
        text = _RECORDS.format("AND fingerprint = $5", *way)
        return self._read(text, queue, state.value, place, limit, fingerprint, answer=answer)

    def first_seen(self, queues: tuple[str, ...], fingerprint: str) -> Read[int | None]:
        """When the oldest dead letter of an error has died."""
        return self._read(_FIRST_SEEN, names(queues), fingerprint, answer=lambda rows: rows[0][0])

    def trail(self, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> Read[TrailPage]:
        """Some of the lines of a trail."""

        def answer(rows: list[Row]) -> TrailPage:
            lines = [(n, body) for _, n, body, _ in rows if n is not None]
            more = bool(lines) and rows[0][3] > len(lines)
            return TrailPage(lines, rows[0][0] if rows else 0, lines[-1][0] if more else None)

        text = _TRAIL.format(*(("<", "DESC") if newest else (">", "")))
        start = (_NO_END if newest else -1) if place is None else place
        return self._read(text, without_nul(key), kind, start, limit, answer=answer)

    def events_after(self, event_id: int, limit: int) -> Read[list[StoredEvent]]:
        """Kept events behind one."""

        def answer(rows: list[Row]) -> list[StoredEvent]:
            found: list[StoredEvent] = []
            for last_id, whole, body in rows:
                found += stored_events(last_id, whole, body, event_id, limit - len(found))
            return found

        return self._read(_EVENTS, event_id, limit, answer=answer)

    def first_event_id(self) -> Read[int | None]:
        """The id of the oldest kept event, or None."""
        return self._read(_FIRST_EVENT, answer=lambda rows: rows[0][0] if rows else None)

    def last_event_at(self) -> Read[int]:
        """The time of the newest events, or 0."""
        return self._read(_LAST_EVENT_AT, answer=lambda rows: rows[0][0] if rows else 0)

    def load_facts(self) -> Read[list[FactRow]]:
        """Every fact."""
        return self._read(
            _FACTS, answer=lambda rows: [FactRow(with_nul(kind), with_nul(key), value) for kind, key, value in rows]
        )

    def some_jobs(self, after: int, limit: int) -> Read[tuple[list[Job], int | None]]:
        """The next unfinished jobs, and the key of the last one; None behind the last of all."""

        def answer(rows: list[Row]) -> tuple[list[Job], int | None]:
            jobs = list(self._rows.unfinished(map(_job, rows)))
            return jobs, rows[-1][0] if len(rows) == limit else None

        return self._read(_SOME_JOBS, after, _NO_END, limit, answer=answer)

    def stored(self, after: int, upto: int, limit: int) -> Read[list[Stored]]:
        """Unfinished jobs as they are in the database."""

        def answer(rows: list[Row]) -> list[Stored]:
            # Of its own: this may run beside the event loop.
            reader = Reader()
            return [reader.stored(_job_as_it_is(row)) for row in rows]

        return self._read(_STORED, after, upto, limit, answer=answer)

    def stored_facts(self, after: tuple[str, str], limit: int) -> Read[list[FactRow]]:
        """Facts as they are in the database, behind a kind and key."""
        kind, key = map(without_nul, after)
        return self._read(
            _SOME_FACTS, kind, key, limit,
            answer=lambda rows: [FactRow(with_nul(kind), with_nul(key), value) for kind, key, value in rows],
        )  # fmt: skip

    def stored_kept(self, queue: str) -> Read[Kept]:
        """How many records of a queue there are."""

        def answer(rows: list[Row]) -> Kept:
            states = {state: n for state, key, n in rows if key is None}
            return Kept(
                states.get("completed", 0), states.get("failed", 0), {key: n for _, key, n in rows if key is not None}
            )

        return self._read(_KEPT, queue, answer=answer)


def _record(row: Sequence[Any]) -> Row:
    values = list(row)
    values[0] = with_nul(values[0])
    values[_FINISHED_PROGRESS] = number(values[_FINISHED_PROGRESS])
    return tuple(values)


def _job(row: Row) -> Row:
    return (row[0], with_nul(row[1]), *row[2:_JOB_PROGRESS], number(row[_JOB_PROGRESS]), *row[_JOB_PROGRESS + 1 :])


def _job_as_it_is(row: Row) -> Row:
    try:
        return _job(row)
    except ValueError:
        # There is no progress.
        return (row[0],)
