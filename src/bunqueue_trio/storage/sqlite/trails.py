"""The trails of a SQLite store: their lines, and the heads that say how much there is."""

from collections.abc import Iterable
from typing import Any

import apsw

from bunqueue_trio.config import PRUNE_ROWS, REPLAY_BYTES
from bunqueue_trio.engine.trails import ACTIONS, BOUNDS, Bound, Line, TrailChange, TrailPage
from bunqueue_trio.storage.sqlite.opening import Transaction

_HAS_RECORD = "SELECT 1 FROM finished WHERE id=?"
_LAST = "SELECT coalesce(max(id), 0) FROM trail"
_BEGIN = "INSERT INTO trail VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT (key, kind) DO NOTHING"
_GROW = "UPDATE trail SET next = next + ?, size = size + ? WHERE id=?"
_ADD = "INSERT INTO trail_line VALUES (?, ?, ?, ?)"
_DROP_LINE = "DELETE FROM trail_line WHERE trail=? AND n=? RETURNING length(body)"
_SHORTEN = "UPDATE trail SET first=?, size=? WHERE id=?"
_CUT = "DELETE FROM trail WHERE key=?"
_CUT_KIND = "DELETE FROM trail WHERE key=? AND kind=?"
_HEAD = "SELECT id, first, next, size FROM trail WHERE key=? AND kind=?"
_BACK = "SELECT n, body FROM trail_line WHERE trail=? AND n<? ORDER BY n DESC LIMIT ?"
_ON = "SELECT n, body FROM trail_line WHERE trail=? AND n>? ORDER BY n LIMIT ?"
_AGED = "SELECT max(n) FROM (SELECT n, at FROM trail_line WHERE trail=? ORDER BY n LIMIT ?) WHERE at < ?"
_SIZE = "SELECT sum(length(body)) FROM trail_line WHERE trail=? AND n<=?"
_DROP_LINES = "DELETE FROM trail_line WHERE trail=? AND n<=?"
_BEGIN_AT = "UPDATE trail SET first=?, size=size-? WHERE id=?"


def write(connection: apsw.Connection, changes: Iterable[TrailChange]) -> None:
    """Write ``changes`` in their order, within a transaction."""
    grown: dict[tuple[str, str], list[Line]] = {}
    for change in changes:
        if isinstance(change, Line):
            if not change.of_record or connection.execute(_HAS_RECORD, (change.key,)).fetchone() is not None:
                grown.setdefault((change.key, change.kind), []).append(change)
            continue
        _grow(connection, grown)
        grown = {}
        if change.kind is None:
            connection.execute(_CUT, (change.key,))
        else:
            connection.execute(_CUT_KIND, (change.key, change.kind))
    _grow(connection, grown)


def _grow(connection: apsw.Connection, grown: dict[tuple[str, str], list[Line]]) -> None:
    """Add lines to trails, to all of them by the same few calls: most are failures, each of another job, and by the hundred.

    For most it is the first line: such a trail has an id that is given here, so nobody has to ask for it.
    """
    if not grown:
        return
    last: Any = connection.execute(_LAST).fetchall()[0][0]
    more = [(len(lines), sum([len(line.body) for line in lines])) for lines in grown.values()]
    heads: Any = [(trail, 1, 1 + count, size) for trail, (count, size) in enumerate(more, last + 1)]
    before = connection.total_changes()
    connection.executemany(_BEGIN, [(head[0], *trail, *head[2:]) for trail, head in zip(grown, heads, strict=True)])
    if connection.total_changes() - before < len(heads):
        there: Any = connection.executemany(_HEAD, list(grown)).fetchall()
        connection.executemany(
            _GROW, [(*each, head[0]) for each, head in zip(more, there, strict=True) if head[0] <= last]
        )
        heads = [
            (trail, first, following + count, size + more_bytes) if trail <= last else (trail, first, following, size)
            for (trail, first, following, size), (count, more_bytes) in zip(there, more, strict=True)
        ]
    rows: list[tuple[int, int, int, bytes]] = []
    for (trail, _, following, _), lines in zip(heads, grown.values(), strict=True):
        rows += [(trail, n, line.at, line.body) for n, line in enumerate(lines, following - len(lines))]
    connection.executemany(_ADD, rows)
    for (_, kind), head in zip(grown, heads, strict=True):
        bound = BOUNDS[kind]
        # A look without a call: hardly any is too long.
        if head[2] - head[1] > bound.lines or head[3] > bound.size:
            _shorten(connection, head, bound)


def _shorten(connection: apsw.Connection, head: tuple[int, int, int, int], bound: Bound) -> None:
    """Delete lines from the front of a trail until it is within its bound; its newest line stays."""
    trail, first, following, size = head
    begin = first
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
    trail, first, following, _ = head
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
    trail, first, following, _ = head
    aged: Any = connection.execute(_AGED, (trail, PRUNE_ROWS, since)).fetchall()
    last = min(max(following - 1 - most, aged[0][0] or 0), first + PRUNE_ROWS - 1)
    if last < first:
        return 0
    with Transaction(connection):
        doomed: Any = connection.execute(_SIZE, (trail, last)).fetchall()
        connection.execute(_DROP_LINES, (trail, last))
        connection.execute(_BEGIN_AT, (last + 1, doomed[0][0], trail))
    return int(last + 1 - first)
