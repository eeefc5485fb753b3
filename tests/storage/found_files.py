"""Files that a server may find in the place of its store."""

from pathlib import Path

import apsw

from bunqueue_trio.storage.sqlite import SqliteStore
from tests.storage.ledger import Ledger, make_job


def database(path: Path, *statements: str) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement).fetchall()
    return connection


def our_own(path: Path, *statements: str) -> None:
    """A store with a job in it, closed, and then changed by somebody."""
    store = SqliteStore(path)
    Ledger(store).write([make_job(1)])
    store.close()
    database(path, *statements).close()
