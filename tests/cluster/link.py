"""The seam: what stands for a connection to PostgreSQL, in place of :class:`bunqueue_trio.storage.postgres.link.DatabaseLink`.

It has the same methods, raises the same errors, and asks the :class:`Database` over a way that may fail: :class:`Way`.
"""

from collections.abc import Callable
from typing import Any, Protocol

import trio

from bunqueue_trio.config import STORE_ANSWER_S
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.postgres.link import Query
from tests.cluster.cluster_tables import Row
from tests.cluster.database import Database


def as_written(query: Query) -> Query:
    """Return a statement as the program has it: the schema has that name, and is not quoted."""
    return query._replace(text=query.text.replace('"bq".', "bq."))


class Way(Protocol):
    """How a connection reaches the database."""

    def connect(self) -> int:
        """Return the number of a new session.

        Raises:
            StoreError: there is none to be had.
        """
        ...

    def at_once(self, session: int, query: Query) -> list[Row]:
        """Do it in this instant.

        Raises:
            StoreError: it was not done, or nobody has heard the answer.
        """
        ...

    async def soon(self, session: int, query: Query) -> list[Row]:
        """Do it, and wait for the answer, for ever if it does not come."""
        ...


class Direct:
    """A way on which nothing happens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def connect(self) -> int:
        return 1

    def at_once(self, session: int, query: Query) -> list[Row]:
        return self._database.run(query)

    async def soon(self, session: int, query: Query) -> list[Row]:
        await trio.lowlevel.checkpoint()
        return self._database.run(query)


class SimLink:
    """A connection; its subclass knows the way."""

    _find_way: Callable[[], Way]

    def __init__(self, place: str, prepared: Query | None = None) -> None:
        self._way = type(self)._find_way()
        self._session: int | None = None

    @property
    def is_open(self) -> bool:
        return self._session is not None

    def connect(self) -> None:
        self._session = None
        self._session = self._way.connect()

    def ask(self, query: Query, wait_s: float = STORE_ANSWER_S) -> list[Row]:
        if self._session is None:
            self.connect()
        assert self._session is not None
        try:
            return self._way.at_once(self._session, as_written(query))
        except (StoreError, AssertionError):
            self._session = None
            raise

    async def ask_soon(self, query: Query, wait_s: float = STORE_ANSWER_S, *, quick: bool = True) -> list[Row]:
        if self._session is None:
            await trio.to_thread.run_sync(self.connect)
        assert self._session is not None
        session, is_over = self._session, False
        try:
            with trio.move_on_after(wait_s):
                rows = await self._way.soon(session, as_written(query))
                is_over = True
                return rows
            raise StoreError(f"the database did not answer within {wait_s:g} s")
        except (StoreError, AssertionError):
            is_over = False
            raise
        except Exception:  # to say no is an answer
            is_over = True
            raise
        finally:
            if not is_over and self._session == session:
                self._session = None

    def own_host(self) -> str:
        return "127.0.0.1"

    def close(self) -> None:
        self._session = None

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)


def make_link(way: Callable[[], Way]) -> type:
    """Return what is put in the place of the real class; ``way`` is that of whoever makes a connection."""
    return type("SimLink", (SimLink,), {"_find_way": staticmethod(way)})
