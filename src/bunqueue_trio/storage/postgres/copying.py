"""A database that everything is copied from, or to; see :mod:`bunqueue_trio.storage.copying`.

Whoever copies leads there meanwhile, so that servers wait. What is copied to a database is one transaction: it is there whole,
or nothing is.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from bunqueue_trio.config import BEATS_A_LEASE, COPY_LEASE_S
from bunqueue_trio.errors import StoreError, TakenOver
from bunqueue_trio.storage.copying import TABLES, Table
from bunqueue_trio.storage.postgres.arrays import (
    Kind,
    blobs,
    ints,
    names,
    number,
    numbers,
    texts,
    with_nul,
    without_nul,
)
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query, Row
from bunqueue_trio.storage.postgres.parameters import EVENT, FACT, FINISHED, NEW
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.store import PostgresStore
from bunqueue_trio.storage.postgres.terms import DURABLE, own_name

_KINDS: dict[str, tuple[Kind, ...]] = {
    "job": NEW, "finished": FINISHED, "event_batch": EVENT, "fact": FACT,
    "trail": (ints, names, texts, ints, ints, ints), "trail_line": (ints, ints, ints, blobs),
}  # fmt: skip
_TYPES: dict[Kind, str] = {ints: "int8", blobs: "bytea", names: "text", texts: "text", numbers: "text"}
_OUT: dict[Kind, Callable[[Any], Any]] = {names: with_nul, numbers: number}
"""What a value of a kind is in other stores; nothing else is written in another way here."""
_IN: dict[Kind, Callable[[Any], Any]] = {names: without_nul, numbers: repr}

_NAME = "a copy by {}"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_PATIENT = (
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN "
    "('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_ENDS = "SET LOCAL idle_in_transaction_session_timeout = '5min'"
"""Of a copy that writes and hangs, in whose way whoever leads next would commit nothing."""
_IDS = "SELECT setval(pg_get_serial_sequence('bq.trail', 'id'), max(id)) FROM bq.trail"
# For a count, or what the database does at the end.
_WAIT_S = 3600


class Lead:
    """Leads at a store as long as somebody copies: a thread says so, whatever else takes long.

    Raises:
        StartupError: there is no store of ours, or it is of another version.
        StoreError: a server leads there, or the database cannot be reached.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._store = PostgresStore(place, COPY_LEASE_S)
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease of a copy", daemon=True)
        try:
            self._take()
        except BaseException:
            self._store.close()
            raise
        self._thread.start()

    def _take(self) -> None:
        try:
            leader = self._store.take(name=_NAME.format(own_name()), serves=False)
        except StoreError as error:
            raise StoreError(f"{self.place}: {error}") from None
        if leader == _NAME.format(own_name()):
            raise StoreError(f"{self.place}: is what is copied from")
        if leader is not None:
            raise StoreError(
                f"{self.place}: a server leads there ({leader}): end all that serve it, and wait for the end of the lease"
            )

    def _beat(self) -> None:
        while not self._over.wait(self._store.lease_s / BEATS_A_LEASE):
            try:
                self._store.beat_now()
            except TakenOver:
                self._lost = True
                return
            except StoreError:
                # For as long as the lease goes on.
                continue

    def stay(self) -> None:
        """Raise StoreError if another one leads, or may."""
        if self._lost or not self._store.leads():
            raise StoreError(f"{self.place}: a server may lead there again: end all that serve it, and begin anew")

    def stay_until_commit(self, link: DatabaseLink) -> None:
        """Raise StoreError if another one leads, and let nobody until the transaction of ``link`` ends."""
        try:
            self._store.lead(link)
        except TakenOver:
            self._lost = True
        self.stay()

    def close(self) -> None:
        """Let servers lead at once."""
        self._over.set()
        self._thread.join()
        self._store.close()


class DatabaseHeld:
    """A store in a database where no server leads."""

    def __init__(self, lead: Lead) -> None:
        self._lead = lead
        self._place = lead.place
        self._link = DatabaseLink(self._place.conninfo)

    def begin(self, text: str) -> None:
        """Begin its only transaction, which may take long."""
        self._ask(text)
        self._ask(_PATIENT)
        if text != _READ:
            self._ask(_ENDS)

    def __str__(self) -> str:
        """Return its name; see :class:`Held`."""
        return str(self._place)

    def count(self, table: Table) -> int:
        """Return how many rows a table has; see :class:`Held`."""
        [(n,)] = self._ask(f"SELECT count(*) FROM bq.{table.name}")  # noqa: S608 - ours
        return int(n)

    def rows(self, table: Table) -> Iterator[Row]:
        """Yield the rows of a table; see :class:`Held`."""
        kinds = _KINDS[table.name]
        text = f"COPY ({table.rows.format(f'bq.{table.name}')}) TO STDOUT (FORMAT BINARY)"
        with self._copying(text, kinds) as copy:
            for row in copy.rows():
                yield _changed(row, kinds, _OUT)

    def stay(self) -> None:
        """Raise StoreError if another one leads; see :class:`Held`."""
        self._lead.stay()

    def close(self) -> None:
        """End the connection; what was not committed is not there."""
        self._link.close()

    def _ask(self, text: str) -> list[Row]:
        try:
            return self._link.ask(Query(self._place.qualified(text)), _WAIT_S)
        except (StoreError, AssertionError) as error:
            raise StoreError(f"{self}: {error}") from None

    def _copying(self, text: str, kinds: tuple[Kind, ...]) -> Any:
        return self._link.copying(self._place.qualified(text), [_TYPES[kind] for kind in kinds], str(self))


class DatabaseTarget(DatabaseHeld):
    """One that is empty, and is filled in one transaction."""

    def refuse_full(self) -> None:
        """Raise StoreError if there is anything."""
        for table in TABLES:
            if self._ask(f"SELECT 1 FROM bq.{table.name} LIMIT 1"):  # noqa: S608 - ours
                raise StoreError(
                    f"{self}: holds something already: its table {table.name} is not empty; name a schema that has no queue"
                )

    def fill(self, table: Table, rows: Iterable[Row]) -> None:
        """Write all rows of a table; see :class:`Target`."""
        kinds = _KINDS[table.name]
        text = f"COPY bq.{table.name} ({', '.join(table.columns)}) FROM STDIN (FORMAT BINARY)"
        with self._copying(text, kinds) as copy:
            for row in rows:
                copy.write_row(_changed(row, kinds, _IN))

    def written(self) -> None:
        """Let ids go on behind those that were written; see :class:`Target`."""
        self._ask(_IDS)
        # The first start is not planned for empty tables.
        for table in TABLES:
            self._ask(f"ANALYZE bq.{table.name}")

    def finish(self) -> None:
        """Commit it, if nobody else leads; see :class:`Target`."""
        self._ask(DURABLE)
        self._lead.stay_until_commit(self._link)
        self._ask("COMMIT")


def _changed(row: Row, kinds: tuple[Kind, ...], changes: dict[Kind, Callable[[Any], Any]]) -> Row:
    """Return a row with its values as they are on the other side."""
    return tuple(changes[kind](value) if kind in changes else value for kind, value in zip(kinds, row, strict=True))


@contextmanager
def held(place: Place) -> Iterator[DatabaseHeld]:
    """Give the store at ``place``, only to be read, and keep servers from it.

    Raises:
        StartupError: there is no store of ours, or it is of another version.
        StoreError: a server leads there, or it cannot be read.
    """
    with closing(Lead(place)) as lead, closing(DatabaseHeld(lead)) as source:
        source.begin(_READ)
        yield source


@contextmanager
def filled(place: Place) -> Iterator[DatabaseTarget]:
    """Give the store at ``place``, which must be empty, to be filled; keep servers from it.

    Raises:
        StartupError: there is no store of ours, or it is of another version.
        StoreError: saying what stands in the way.
    """
    with closing(Lead(place)) as lead, closing(DatabaseTarget(lead)) as target:
        target.begin("BEGIN")
        target.refuse_full()
        yield target
