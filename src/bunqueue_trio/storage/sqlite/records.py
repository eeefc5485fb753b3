"""The records of finished jobs that a file holds, a page at a time."""

import apsw

from bunqueue_trio.config import REPLAY_BYTES
from bunqueue_trio.engine.job import Job, Records, State, weight
from bunqueue_trio.storage.rows import FinishedRow, Reader

_PAGE = (
    f"SELECT fin, {', '.join(FinishedRow._fields)} FROM finished WHERE queue=? AND state=? AND fin<? "  # noqa: S608 - names of ours
    "ORDER BY fin DESC LIMIT ?"
)
_OF_ERROR = _PAGE.replace("AND fin<?", "AND fingerprint=? AND fin<?")
_FIRST_SEEN = "SELECT finished_at FROM finished WHERE queue=? AND fingerprint=? ORDER BY fin LIMIT 1"
# None is as late.
_NO_END = 2**63 - 1


def page(
    connection: apsw.Connection, rows: Reader, queue: str, state: State, before: int | None, limit: int,
    fingerprint: str | None, *, oldest: bool,
) -> Records:  # fmt: skip
    """Return some of the finished jobs of a queue; see :class:`Store`."""
    found: list[Job] = []
    places: list[int] = []
    size = 0
    query, wanted = (_PAGE, ()) if fingerprint is None else (_OF_ERROR, (fingerprint,))
    place = before if before is not None else 0 if oldest else _NO_END
    values = (queue, state.value, *wanted, place, limit + 1)
    if oldest:
        query = query.replace("fin<?", "fin>?").replace(" DESC", "")
    for fin, *row in connection.execute(query, values):
        if len(found) >= limit or size >= REPLAY_BYTES:
            return Records(found, places[-1], places)
        found.append(rows.finished(tuple(row)))
        size += weight(found[-1])
        places.append(int(fin))
    return Records(found, None, places)


def first_seen(connection: apsw.Connection, queue: str, fingerprint: str) -> int | None:
    """Return when the oldest dead letter of an error has died; see :class:`Store`."""
    row = connection.execute(_FIRST_SEEN, (queue, fingerprint)).fetchone()
    return None if row is None else int(row[0])
