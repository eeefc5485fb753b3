"""Where the leader is reached by other servers: it says so in its row, and they look there. The key is in the database, too."""

import math
import time
from collections.abc import Callable

from bunqueue_trio import __version__
from bunqueue_trio.config import WAITING_SAID_S
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.cluster import DoorFigures
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query, Row
from bunqueue_trio.storage.postgres.place import Place
from bunqueue_trio.storage.postgres.terms import LOOK, WAIT, WAITS_NO_MORE, own_name


class Announcer:
    """Reads and writes it, over a connection of its own; ``tells`` returns what a leader writes."""

    def __init__(self, place: Place, tells: Callable[[str], Query] | None = None) -> None:
        self._place = place
        self._tells = tells
        self._link = DatabaseLink(place.conninfo)
        self._said_at = -math.inf

    def wait(self, doing: DoorFigures | None = None) -> tuple[str | None, bytes]:
        """Do as :meth:`look`, and say that this server waits, and how it is doing, unless it has lately; blocks.

        Raises:
            StoreError: nobody can tell now.
        """
        if time.monotonic() - self._said_at < WAITING_SAID_S:
            return self.look()
        if not self._link.is_open:
            self._link.connect()
        told = (None, None, None) if doing is None else (str(doing.reaches).lower(), doing.connections, doing.requests)
        values = (own_name(), __version__, self._link.own_host(), *told)
        found = _found(self._link.ask(Query(self._place.qualified(WAIT + LOOK), values)))
        self._said_at = time.monotonic()
        return found

    def look(self) -> tuple[str | None, bytes]:
        """Return where the leader is reached, if it is, and the key; blocks.

        Raises:
            StoreError: nobody can tell now.
        """
        return _found(self._link.ask(Query(self._place.qualified(LOOK))))

    async def reached(self) -> tuple[str | None, bytes]:
        """Do as :meth:`look`, without blocking."""
        return _found(await self._link.ask_soon(Query(self._place.qualified(LOOK))))

    async def key(self) -> bytes:
        """Return the key.

        Raises:
            StoreError: it cannot be read now.
        """
        return (await self.reached())[1]

    async def tell(self, where: str) -> None:
        """Say where this leader is reached; of who leads no more nothing is written.

        Raises:
            StoreError: it cannot be said now.
        """
        assert self._tells is not None, "who leads tells"
        await self._link.ask_soon(self._tells(where))

    def own_host(self) -> str:
        """Return the address of this machine, as the way to the database has it."""
        return self._link.own_host()

    def close(self) -> None:
        """End the connection; who has waited does so no more."""
        try:
            if self._said_at > -math.inf and self._link.is_open:
                self._link.ask(Query(self._place.qualified(WAITS_NO_MORE), (own_name(),)), 1)
        except StoreError:
            # It is forgotten in time.
            pass
        finally:
            self._link.close()


def _found(rows: list[Row]) -> tuple[str | None, bytes]:
    if not rows:
        raise StoreError("the row of the leader, or the key, is gone")
    [(where, key)] = rows
    return where, bytes(key)
