"""The trails of a SQLite store: their lines, and the heads that say how much there is."""

from collections.abc import Iterable
from typing import Any

import apsw

from bunqueue_trio.config import PRUNE_ROWS, REPLAY_BYTES
from bunqueue_trio.engine.trails import ACTIONS, BOUNDS, Line, TrailChange, TrailPage
from bunqueue_trio.storage.sqlite.opening import Transaction

_HAS_RECORD = "SELECT 1 FROM finished WHERE id=?"
_GROW = (
    "INSERT INTO trail (key, kind, first, next, size) VALUES (?, ?, 1, 2, ?) ON CONFLICT (key, kind) DO UPDATE "
    "SET next = next + 1, size = size + excluded.size RETURNING id, first, next, size"
)
_ADD = "INSERT INTO trail_line VALUES (?, ?, ?, ?)"
_DROP_LINE = "DELETE FROM trail_line WHERE trail=? AND n=? RETURNING length(body)"
_SHORTEN = "UPDATE trail SET first=?, size=? WHERE id=?"
_CUT = "DELETE FROM trail WHERE key=?"
_CUT_KIND = "DELETE FROM trail WHERE key=? AND kind=?"
_HEAD = "SELECT id, first, next FROM trail WHERE key=? AND kind=?"
_BACK = "SELECT n, body FROM trail_line WHERE trail=? AND n<? ORDER BY n DESC LIMIT ?"
_ON = "SELECT n, body FROM trail_line WHERE trail=? AND n>? ORDER BY n LIMIT ?"
_AGED = "SELECT max(n) FROM (SELECT n, at FROM trail_line WHERE trail=? ORDER BY n LIMIT ?) WHERE at < ?"
_SIZE = "SELECT sum(length(body)) FROM trail_line WHERE trail=? AND n<=?"
_DROP_LINES = "DELETE FROM trail_line WHERE trail=? AND n<=?"
_BEGIN_AT = "UPDATE trail SET first=?, size=size-? WHERE id=?"


def write(connection: apsw.Connection, changes: Iterable[TrailChange]) -> None:
    """Write ``changes`` in their order, within a transaction."""
    for change in changes:
        if isinstance(change, Line):
            _add(connection, change)
        elif change.kind is None:
            connection.execute(_CUT, (change.key,))
        else:
            connection.execute(_CUT_KIND, (change.key, change.kind))


def _add(connection: apsw.Connection, line: Line) -> None:
    if line.of_record and connection.execute(_HAS_RECORD, (line.key,)).fetchone() is None:
        return
    grown: Any = connection.execute(_GROW, (line.key, line.kind, len(line.body))).fetchall()
    [(trail, first, following, size)] = grown
    connection.execute(_ADD, (trail, following - 1, line.at, line.body))
    bound, begin = BOUNDS[line.kind], first
    while following - first > 1 and (following - first > bound.lines or size > bound.size):
        dropped: Any = connection.execute(_DROP_LINE, (trail, first)).fetchall()
        first, size = first + 1, size - dropped[0][0]
    if first > begin:
        connection.execute(_SHORTEN, (first, size, trail))


def page(connection: apsw.Connection, kind: str, key: str, place: int | None, limit: int, *, newest: bool) -> TrailPage:
    """Return some of the lines of a trail; see :meth:`Store.trail`."""
    head: Any = connection.execute(_HEAD, (key, kind)).fetchone()
    if head is None:
        return TrailPage([], 0, None)
    trail, first, following = head
    start = (following if newest else first - 1) if place is None else place
    lines: list[tuple[int, bytes]] = []
    size = 0
    found: Any = connection.execute(_BACK if newest else _ON, (trail, start, limit + 1))
    for n, body in found:
        if len(lines) >= limit or size >= REPLAY_BYTES:
            return TrailPage(lines, following - first, lines[-1][0])
        lines.append((n, body))
        size += len(body)
    return TrailPage(lines, following - first, None)


def prune_actions(connection: apsw.Connection, most: int, since: int) -> int:
    """Delete some of what operators did before ``since``, or before the last ``most`` acts; return how many lines."""
    head: Any = connection.execute(_HEAD, ("", ACTIONS)).fetchone()
    if head is None:
        return 0
    trail, first, following = head
    aged: Any = connection.execute(_AGED, (trail, PRUNE_ROWS, since)).fetchall()
    last = min(max(following - 1 - most, aged[0][0] or 0), first + PRUNE_ROWS - 1)
    if last < first:
        return 0
    with Transaction(connection):
        doomed: Any = connection.execute(_SIZE, (trail, last)).fetchall()
        connection.execute(_DROP_LINES, (trail, last))
        connection.execute(_BEGIN_AT, (last + 1, doomed[0][0], trail))
    return int(last + 1 - first)
