"""What a batch writes into a file: its rows, a slice at a time."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import apsw

from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.storage.rows import ChangedRow, FactRow, FinishedRow, JobRow, Row
from bunqueue_trio.storage.sqlite import trails
from bunqueue_trio.storage.store import RS, Batch, FinishedCounts, event_rows

T = TypeVar("T")

# Rows that are written in one step of the event loop: 1 to 2 ms.
_SLICE = 500
# And of trails, each of which is four statements.
_LINES = 100

# All columns, in the order of the schema. Named, they would make a text that is looked up anew for each row: 7 % of what
# SQLite takes for many.
_INSERT = f"INSERT INTO job VALUES ({', '.join('?' for _ in JobRow._fields)})"  # noqa: S608 - names of ours
_REWRITE = _INSERT.replace("INSERT", "REPLACE", 1)
_UPDATE = f"UPDATE job SET {', '.join(f'{name}=?' for name in ChangedRow._fields[:-1])} WHERE seq=?"  # noqa: S608
_END = "DELETE FROM job WHERE seq=?"
_REUSE = "DELETE FROM finished WHERE id=? RETURNING queue, state, fingerprint"
_FINISH = f"INSERT INTO finished VALUES (?, {', '.join('?' for _ in FinishedRow._fields)})"  # noqa: S608
_NOTE = f"REPLACE INTO fact ({', '.join(FactRow._fields)}) VALUES (?, ?, ?)"  # noqa: S608
_UNNOTE = "DELETE FROM fact WHERE kind=? AND key=?"
_EVENTS = "INSERT INTO event_batch VALUES (?, ?, ?, ?, ?)"

_NONE: FinishedCounts = Counter()
"""Of a batch that adds and replaces no records; nobody writes to it."""


def counts(batch: Batch) -> tuple[FinishedCounts, FinishedCounts]:
    """Return where it is counted how many records ``batch`` adds, by queue and state, and by queue and group of errors."""
    return (Counter(), Counter()) if batch.finished or batch.reused_ids else (_NONE, _NONE)


def write_rows(
    cursor: apsw.Cursor, batch: Batch, fin: int, ended: FinishedCounts, grouped: FinishedCounts
) -> Iterator[None]:
    """Write the rows of ``batch``, the records from ``fin`` on; what is written between two yields takes 1 to 2 ms.

    The records are counted in ``ended`` and ``grouped``, less those that they replace.
    """
    write = cursor.executemany
    # All but one of these are empty in most batches.
    for ids in _slices(batch.reused_ids) if batch.reused_ids else ():
        for queue, state, key in write(_REUSE, ids):
            ended[str(queue), str(state)] -= 1
            if key is not None:
                grouped[str(queue), str(key)] -= 1
        yield
    jobs: tuple[tuple[str, Sequence[Row]], ...] = (
        (_INSERT, batch.new), (_UPDATE, batch.changed), (_REWRITE, batch.rewritten), (_END, batch.ended)
    )  # fmt: skip
    for statement, rows in jobs:
        for some in _slices(rows) if rows else ():
            write(statement, some)
            yield
    for finished in _slices(batch.finished) if batch.finished else ():
        write(_FINISH, [(fin, *row) for fin, row in enumerate(finished, fin + 1)])
        fin += len(finished)
        ended.update([(row.queue, row.state) for row in finished])
        grouped.update([(row.queue, row.fingerprint) for row in finished if row.fingerprint is not None])
        yield
    for facts in _slices(batch.facts) if batch.facts else ():
        _write_facts(cursor, facts)
        yield
    for changes in _slices(batch.trails, _LINES) if batch.trails else ():
        trails.write(cursor.connection, changes)
        yield
    for last_id, events in event_rows(batch):
        body = RS.join(events)
        cursor.execute(_EVENTS, (last_id, len(events), batch.at, body, batch.stamp))
        yield


def _write_facts(cursor: apsw.Cursor, facts: Iterable[Fact]) -> None:
    for kind, key, value in facts:
        if value is None:
            cursor.execute(_UNNOTE, (kind, key))
        else:
            cursor.execute(_NOTE, (kind, key, value))


def _slices(rows: Sequence[T], size: int = _SLICE) -> Iterable[Sequence[T]]:
    """Return ``rows`` as they are if there are few of them, else in parts."""
    if len(rows) <= size:
        return (rows,) if rows else ()
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]
