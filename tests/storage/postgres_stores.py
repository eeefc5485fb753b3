"""Stores in PostgreSQL that a test opens, looks into and cuts off."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query
from bunqueue_trio.storage.postgres.place import Place, parse_place
from bunqueue_trio.storage.postgres.store import PostgresStore

Open = Callable[..., PostgresStore]


@pytest.fixture
def place(url: str) -> Place:
    return parse_place(url)


@pytest.fixture
def open_(place: Place) -> Iterator[Open]:
    """Makes stores that are closed at the end."""
    opened: list[PostgresStore] = []

    def open_one(lease_s: float = 10, *, leads: bool = True) -> PostgresStore:
        opened.append(PostgresStore(place, lease_s))
        if leads:
            assert opened[-1].take() is None
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_: Open) -> PostgresStore:
    return open_()


@pytest.fixture
def sql(place: Place) -> Iterator[Callable[..., Any]]:
    """Asks the database beside every store."""
    link = DatabaseLink(place.conninfo)
    yield lambda text, *values: link.ask(Query(place.qualified(text), values))
    link.close()
