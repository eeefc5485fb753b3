"""Where the leader is reached by other servers: it says so in its row, and they look there. The key is in the database, too."""

from bunqueue_trio.storage.postgres.link import Link, Query
from bunqueue_trio.storage.postgres.place import Place

_TELL = "UPDATE bq.leader SET link = $1 WHERE term = $2::bigint AND life = $3::uuid"
_LOOK = "SELECT leader.link, link.key FROM bq.leader, bq.link"


class Announcer:
    """Reads and writes it, over a connection of its own; ``leader`` is the term and the life of who writes."""

    def __init__(self, place: Place, leader: tuple[int, str] = (0, "")) -> None:
        self._place = place
        self._leader = leader
        self._link = Link(place.conninfo)

    def look(self) -> tuple[str | None, bytes]:
        """Return where the leader is reached, if it is, and the key; blocks.

        Raises:
            StoreError: nobody can tell now.
        """
        [(where, key)] = self._link.ask(Query(self._place.qualified(_LOOK)))
        return where, bytes(key)

    async def key(self) -> bytes:
        """Return the key.

        Raises:
            StoreError: it cannot be read now.
        """
        [(_, key)] = await self._link.ask_soon(Query(self._place.qualified(_LOOK)))
        return bytes(key)

    async def tell(self, where: str) -> None:
        """Say where this leader is reached; of who leads no more nothing is written.

        Raises:
            StoreError: it cannot be said now.
        """
        await self._link.ask_soon(Query(self._place.qualified(_TELL), (where, *self._leader)))

    def own_host(self) -> str:
        """Return the address of this machine, as the way to the database has it."""
        return self._link.own_host()

    def close(self) -> None:
        """End the connection."""
        self._link.close()
