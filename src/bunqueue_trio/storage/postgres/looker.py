"""Reads for those who wait in the event loop: one after the other, over a connection of their own, and for no longer than each can be answered."""

from collections.abc import Callable

import trio

from bunqueue_trio.config import STORE_ANSWER_S
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query, Row, Unanswered
from bunqueue_trio.storage.postgres.reads import Read, T


class Looker:
    """Asks the database ``place``."""

    def __init__(self, place: str) -> None:
        self._link = DatabaseLink(place)
        self._turn = trio.Lock()

    async def ask(self, make: Callable[[], Read[T]]) -> T:
        """Return the answer to what ``make`` returns when it is its turn.

        Raises:
            StoreError: there is no answer.
        """
        with trio.move_on_after(STORE_ANSWER_S) as patience:
            await self._turn.acquire()
        if patience.cancelled_caught:
            raise Unanswered("the database is slow, and others wait for its answers")
        try:
            read = make()
            return read.answer(await self._ask(read.query))
        finally:
            self._turn.release()

    async def _ask(self, query: Query) -> list[Row]:
        link, was_open = self._link, self._link.is_open
        try:
            return await link.ask_soon(query)
        except Unanswered:
            raise
        except StoreError:
            if not was_open or link.is_open:
                raise
        # It had ended while nobody used it, and a read may be repeated.
        return await link.ask_soon(query)

    def close(self) -> None:
        """End the connection."""
        self._link.close()
