"""The records of finished jobs that a file holds, a page at a time."""

from collections.abc import Sequence

import apsw
from msgspec.json import encode

from bunqueue_trio.config import REPLAY_BYTES
from bunqueue_trio.engine.job import Job, Records, State, weight
from bunqueue_trio.storage.rows import Reader, record_columns

_PAGE = (
    f"SELECT fin, {record_columns(data=True, result=False)} FROM finished WHERE queue=? AND state=? AND fin<? "  # noqa: S608 - names of ours
    "ORDER BY fin DESC LIMIT ?"
)
_MORE = "SELECT 1 FROM finished WHERE queue=? AND state=? AND fin<? LIMIT 1"
"""Whether there is one more: with its payload, that would be read for nothing."""
_FIRST_SEEN = (
    "SELECT min((SELECT finished_at FROM finished WHERE queue=each.value AND fingerprint=? ORDER BY fin LIMIT 1)) "
    "FROM json_each(?) AS each"
)
# None is as late.
_NO_END = 2**63 - 1


def page(
    connection: apsw.Connection, rows: Reader, queue: str, state: State, *, before: int | None, limit: int,
    fingerprint: str | None, oldest: bool,
) -> Records:  # fmt: skip
    """Return some of the finished jobs of a queue; see :class:`Store`."""
    found: list[Job] = []
    places: list[int] = []
    size = 0
    query, more = (_PAGE, _MORE) if fingerprint is None else (_of_error(_PAGE), _of_error(_MORE))
    place = before if before is not None else 0 if oldest else _NO_END
    which = (queue, state.value) if fingerprint is None else (queue, state.value, fingerprint)
    if oldest:
        query, more = (each.replace("fin<?", "fin>?").replace(" DESC", "") for each in (query, more))
    for fin, *row in connection.execute(query, (*which, place, limit)):
        found.append(rows.finished(tuple(row)))
        size += weight(found[-1])
        places.append(int(fin))
        if size >= REPLAY_BYTES:
            break
    is_full = size >= REPLAY_BYTES or len(found) == limit
    goes_on = is_full and connection.execute(more, (*which, places[-1])).fetchone() is not None
    return Records(found, places[-1] if goes_on else None, places)


def _of_error(query: str) -> str:
    """Return ``query`` for the dead letters of one error."""
    return query.replace("AND fin<?", "AND fingerprint=? AND fin<?")


def first_seen(connection: apsw.Connection, queues: Sequence[str], fingerprint: str) -> int | None:
    """Return when the oldest dead letter of an error has died; see :class:`Store`."""
    ((moment,),) = connection.execute(_FIRST_SEEN, (fingerprint, encode(queues).decode()))
    return None if moment is None else int(moment)
