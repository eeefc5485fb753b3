"""When the flusher looks: at once where somebody waits for a commit, and else a little later. It knows no jobs."""

import trio

from bunqueue_trio.config import COMMIT_LINGER_S
from bunqueue_trio.runtime.bell import Bell


class Summons:
    """One task, the flusher, waits to be summoned; anybody summons it.

    What gathers only because of deliveries, which are answered already, *lingers*: its commit comes after COMMIT_LINGER_S, or with one
    that is awaited. A job that is done by then is written once, and a worker that has no company makes half of the commits.
    """

    __slots__ = ("_bell", "is_awaited", "lingers")

    def __init__(self) -> None:
        self._bell = Bell()
        self.is_awaited: bool = False
        """Somebody waits for what gathers."""
        self.lingers: bool = False
        """The flusher has been summoned, and looks when the time is over, or somebody is in a hurry."""

    def send(self) -> None:
        """Let the flusher look."""
        if not self.lingers:
            self._bell.ring()

    def hurry(self) -> None:
        """Let it linger no longer."""
        if self.lingers:
            self.lingers = False
            self._bell.ring()

    async def wait(self) -> None:
        """Wait for a summons."""
        await self._bell.wait()

    async def linger(self) -> None:
        """Wait a little, for somebody who is in a hurry."""
        self.lingers = True
        try:
            with trio.move_on_after(COMMIT_LINGER_S):
                await self._bell.wait()
        finally:
            self.lingers = False
