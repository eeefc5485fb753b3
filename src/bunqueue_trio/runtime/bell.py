"""Wakes one waiting task, however often it is rung before the task looks."""

import trio


class Bell:
    """One task waits, anybody rings; a ring that nobody waits for is kept."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        """Let the waiting task, or the next one that waits, go on."""
        self._rung.set()

    async def wait(self) -> None:
        """Wait for a ring since the last return."""
        await self._rung.wait()
        self._rung = trio.Event()
