"""A result that is dear to make, made once for all who ask within a while; it keeps nothing else."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Shared(Generic[T]):
    """The last result, for ``for_ms`` after it was begun; one is made at a time."""

    def __init__(self, for_ms: int) -> None:
        self._for_s = for_ms / 1000
        self._making = trio.Lock()
        self._last: tuple[float, T] | None = None

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """Return the last result if it is young enough, or a new one of ``make``.

        Whoever asks while it is made waits for that one. If its maker is cancelled, the next makes it.
        """
        async with self._making:
            now = trio.current_time()
            if self._last is None or now - self._last[0] >= self._for_s:
                self._last = now, await make()
            return self._last[1]

    def forget(self) -> None:
        """Let go of the last result, for which nobody may ask for long."""
        self._last = None
