"""What is done to the file of the store when somebody asks for it: one thing at a time, and what became of the last of each kind.

Nothing is done here: the runtime says what would be, hears of what begins, and notes how far it is. It is in memory until the process ends.
"""

from collections.abc import Callable

from msgspec.structs import replace

from bunqueue_trio.protocol.commands.upkeep import NO_UPKEEP
from bunqueue_trio.protocol.server_replies import UpkeepView

PLANNED, RUNNING, DONE, FAILED = "planned", "running", "done", "failed"


def nothing_here(kind: str) -> UpkeepView:
    """Refuse: nobody has said what could be done."""
    raise NO_UPKEEP.refuse("there is no file")


class Upkeep:
    """The last work of each kind; one of them may be under way."""

    def __init__(self) -> None:
        self.plan: Callable[[str], UpkeepView] = nothing_here
        """Returns what would be done, from what is known without a look at a disk; raises ``Refused`` where it cannot be."""
        self.on_begin: Callable[[UpkeepView], None] = lambda work: None
        self.last: dict[str, UpkeepView] = {}

    @property
    def under_way(self) -> UpkeepView | None:
        """Return what has not ended."""
        return next((each for each in self.last.values() if each.state == RUNNING), None)

    def begin(self, planned: UpkeepView, who: str | None, now: int) -> UpkeepView:
        """Let a plan be done from now on."""
        work = self.last[planned.kind] = replace(planned, state=RUNNING, who=who, started_at=now)
        self.on_begin(work)
        return work
