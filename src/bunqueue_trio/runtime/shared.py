"""Something expensive that many may ask for at once: made by one of them, given to all, and kept for a moment."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from bunqueue_trio.config import PICTURE_S, PICTURE_SHARE

T = TypeVar("T")


class Shared(Generic[T]):
    """The last thing that was made, at most PICTURE_S old; what is quickly made is made anew sooner."""

    def __init__(self) -> None:
        self._making = trio.Lock()
        self._made: T | None = None
        self._good_until = float("-inf")

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """Return it; whoever asks first when it is too old calls ``make``, and the others wait for that."""
        async with self._making:
            begun = trio.current_time()
            if self._made is None or begun >= self._good_until:
                self._made = await make()
                ended = trio.current_time()
                self._good_until = ended + min(PICTURE_S, PICTURE_SHARE * (ended - begun))
            return self._made
