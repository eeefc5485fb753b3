"""The tables of the simulated database, its transactions, and a replica that is behind.

A row is a tuple under its key. A transaction changes rows in place and remembers what was there, so that a statement that fails has
changed nothing; what it has changed goes to the replica, which has it some time later. Whoever promotes that goes on without the rest.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

Row = tuple[Any, ...]
NAMES = ("leader", "link", "job", "finished", "finished_id", "event_batch", "fact", "trail", "trail_line")


class Change(NamedTuple):
    """What one transaction has done to one row; None: there is none any more."""

    table: str
    key: Any
    row: Row | None


class Transaction:
    """The changes of one statement."""

    def __init__(self, tables: "Tables") -> None:
        self._tables = tables
        self._before: list[Change] = []
        self.changes: list[Change] = []

    def put(self, table: str, key: Any, row: Row | None) -> None:
        """Write a row, or delete it."""
        self._before.append(Change(table, key, self._tables[table].get(key)))
        self.changes.append(Change(table, key, row))
        self._tables.apply(self.changes[-1])

    def undo(self) -> None:
        for change in reversed(self._before):
            self._tables.apply(change)


class Tables(dict[str, dict[Any, Row]]):
    """All rows, by table and key."""

    def __init__(self) -> None:
        super().__init__({name: {} for name in NAMES})

    def apply(self, change: Change) -> None:
        if change.row is None:
            self[change.table].pop(change.key, None)
        else:
            self[change.table][change.key] = change.row

    def copy(self) -> "Tables":
        other = Tables()
        for name, rows in self.items():
            other[name] = dict(rows)
        return other


class Disk:
    """The primary, and a replica that has of its transactions those that are old enough."""

    def __init__(self) -> None:
        self.tables = Tables()
        self._replica = Tables()
        self._behind: deque[tuple[float, list[Change]]] = deque()
        self.lag_s = 0.0
        """How far the replica may be behind."""

    @contextmanager
    def transaction(self, now: float) -> Iterator[Transaction]:
        """Change rows; an error undoes it."""
        made = Transaction(self.tables)
        try:
            yield made
        except BaseException:
            made.undo()
            raise
        if made.changes:
            self._behind.append((now, made.changes))
        self._catch_up(now)

    def _catch_up(self, now: float) -> None:
        while self._behind and self._behind[0][0] <= now - self.lag_s:
            for change in self._behind.popleft()[1]:
                self._replica.apply(change)

    def promote(self, now: float) -> int:
        """Go on with the replica; return how many transactions are lost."""
        self._catch_up(now)
        lost = len(self._behind)
        self._behind.clear()
        self.tables, self._replica = self._replica, self._replica.copy()
        return lost
