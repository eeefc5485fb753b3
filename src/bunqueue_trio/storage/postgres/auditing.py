"""What the self-audit reads of a store in a database, over a connection of its own: what is there, whatever the server knows."""

from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.audit_kept import Kept
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.postgres.link import DatabaseLink
from bunqueue_trio.storage.postgres.reads import Read, Reads, T
from bunqueue_trio.storage.rows import FactRow


class Audited:
    """The part of a store that is looked at from outside."""

    _auditor: DatabaseLink
    _reads: Reads
    _recounts: bool
    """Nobody knows how many records there are: they are counted anew by what deletes next."""

    def _answer(self, read: Read[T], link: DatabaseLink | None = None) -> T:
        raise NotImplementedError

    def stored(self, after: int, upto: int, limit: int) -> list[Stored]:
        """Return unfinished jobs as they are in the database; see :class:`Store`."""
        return self._answer(self._reads.stored(after, upto, limit), self._auditor)

    def stored_facts(self, after: tuple[str, str], limit: int) -> list[FactRow]:
        """Return facts as they are in the database; see :class:`Store`."""
        return self._answer(self._reads.stored_facts(after, limit), self._auditor)

    def stored_kept(self, queue: str) -> Kept:
        """Return how many records of a queue there are; see :class:`Store`."""
        if self._recounts:
            raise StoreError("what has ended is to be counted anew first")
        return self._answer(self._reads.stored_kept(queue), self._auditor)
