"""Bytes that the server holds for its clients, of all of them together; what does not fit is refused.

Only much is counted, what is over ``RECEIVE_BYTES``: of less, each connection may hold that once or twice anyway.
"""

from typing import Self

from bunqueue_trio import errors
from bunqueue_trio.config import RECEIVE_BYTES


class Budget:
    """The bytes for all clients together; each connection or request has a :meth:`hold` of it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held: int = 0

    def hold(self) -> "Hold":
        """Return a part of the budget for one connection or request: empty at first."""
        return Hold(self)

    def check(self, count: int) -> None:
        """Refuse what would not fit, before it is made.

        Raises:
            Refused: there is no room for ``count`` bytes more, and they are many.
        """
        if count > RECEIVE_BYTES and not self.has_room(count):
            raise errors.BUFFERS_FULL.refuse(retry_after=1)

    def has_room(self, count: int) -> bool:
        """Return whether ``count`` bytes more may be held."""
        return self.held + count <= self._limit


class Hold:
    """What is held for one connection or request. It is given back at the end of a ``with``, or by :meth:`release`."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def grow(self, count: int) -> None:
        """Hold ``count`` bytes more.

        Raises:
            Refused: there is no room for them, and no more are held.
        """
        if not self._budget.has_room(count):
            raise errors.BUFFERS_FULL.refuse(retry_after=1)
        self.add(count)

    def add(self, count: int) -> None:
        """Hold ``count`` bytes more, or fewer if it is negative, whether there is room or not."""
        self.size += count
        self._budget.held += count

    def fit(self, size: int) -> bool:
        """Hold ``size`` bytes in all, or nothing when that is little; return False, with nothing changed, when there is no room."""
        more = (size if size > RECEIVE_BYTES else 0) - self.size
        if more > 0 and not self._budget.has_room(more):
            return False
        self.add(more)
        return True

    def release(self) -> None:
        """Hold nothing any more."""
        self.add(-self.size)
