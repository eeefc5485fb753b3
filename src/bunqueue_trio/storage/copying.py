"""Copying everything that a store holds into an empty one, of its kind or another, and comparing the two row by row.

Theory of operation. Whoever copies holds both stores, so that no server writes to either. Rows go from the one to the
other as a stream, table by table, and nothing keeps more than some of them. Then both are read once more, from the store and
not from memory, and compared. Only then is the copy what a server takes for a store: whatever ends this before,
the target holds nothing, or nothing that a server would open.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

import msgspec

from bunqueue_trio.config import MIB
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.rows import FactRow, FinishedRow, JobRow, Row

_TELL_ROWS, _TELL_BYTES = 500, MIB
"""After how much progress is reported, and a lease renewed."""

_encode = msgspec.msgpack.Encoder().encode


class Table(NamedTuple):
    """A table that both kinds of stores have, with its columns in their order; the first ``key`` of them are its key."""

    name: str
    columns: tuple[str, ...]
    key: int = 1

    @property
    def rows(self) -> str:
        """The text of a query for all of its rows, in the order of their keys."""
        names = ", ".join(self.columns)
        return f"SELECT {names} FROM {{}} ORDER BY {', '.join(self.columns[: self.key])}"  # noqa: S608 - names of ours


TABLES = (
    Table("job", JobRow._fields),
    Table("finished", ("fin", *FinishedRow._fields)),
    Table("event_batch", ("last_id", "count", "at", "body", "stamp")),
    Table("fact", FactRow._fields, key=2),
    Table("trail", ("id", "key", "kind", "first", "next", "size")),
    Table("trail_line", ("trail", "n", "at", "body"), key=2),
)
"""All that a queue is, in an order in which no row names one that is not there yet."""


class Held(Protocol):
    """A store that no server writes to meanwhile; its name is for people."""

    def __str__(self) -> str:
        """Return its name."""
        ...

    def count(self, table: Table) -> int:
        """Return how many rows a table has."""
        ...

    def rows(self, table: Table) -> Iterator[Row]:
        """Yield the rows of a table in the order of their keys, as SQLite has them."""
        ...

    def stay(self) -> None:
        """Keep others from it; called again and again.

        Raises:
            StoreError: it is another's by now.
        """
        ...


class Target(Held, Protocol):
    """One that is empty, and is filled."""

    def fill(self, table: Table, rows: Iterable[Row]) -> None:
        """Write all rows of a table."""
        ...

    def written(self) -> None:
        """Let later reads see what was written."""
        ...

    def finish(self) -> None:
        """Make it a store that a server opens, and as durable as a store can be."""
        ...


class Copied(NamedTuple):
    """A table that is there and here, how many rows it has, and the SHA-256 of all of them."""

    table: str
    rows: int
    digest: str


OnProgress = Callable[[int, int], None]


def copy_store(source: Held, target: Target, on_progress: OnProgress) -> list[Copied]:
    """Copy everything from ``source`` to ``target``, and compare both; ``on_progress`` gets the rows done, and in all.

    Raises:
        StoreError: saying what stands in the way, or which row differs; the target is no store then.
    """
    whole = 2 * sum(source.count(table) for table in TABLES)
    done = 0

    def watched(rows: Iterable[Row]) -> Iterator[Row]:
        nonlocal done
        size = 0
        for n, row in enumerate(rows, 1):
            yield row
            size += sum(len(value) for value in row if isinstance(value, bytes))
            done += 1
            if n % _TELL_ROWS == 0 or size > _TELL_BYTES:
                size = 0
                tell()
        tell()

    def tell() -> None:
        on_progress(done, whole)
        source.stay()
        target.stay()

    for table in TABLES:
        target.fill(table, watched(source.rows(table)))
    target.written()
    copied = [_compared(table, watched(source.rows(table)), target.rows(table), str(target)) for table in TABLES]
    target.finish()
    return copied


def _compared(table: Table, there: Iterable[Row], here: Iterable[Row], name: str) -> Copied:
    n, original, copy = 0, sha256(), sha256()
    for old, new in zip_longest(there, here):
        written, wanted = _encode(new), _encode(old)
        if written != wanted:
            row: Any = new if old is None else old
            key = " ".join(str(value) for value in row[: table.key])
            raise StoreError(f"{name}: is not what was copied: row {key} of the table {table.name} differs")
        original.update(wanted)
        copy.update(written)
        n += 1
    assert original.digest() == copy.digest()
    return Copied(table.name, n, copy.hexdigest())
