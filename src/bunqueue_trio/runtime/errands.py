"""Acts on many jobs that go on while nobody waits for them: in steps, each its own commit, in memory until the process ends.

What is done of one is done, and written down by its steps; a stop of the server ends it where it is.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio
from msgspec import Struct, field

from bunqueue_trio.config import ERRANDS_KEPT, ERRANDS_MAX
from bunqueue_trio.errors import NOT_COMMITTED, OVERLOADED, Fault, Refused, StoreError
from bunqueue_trio.runtime.clock import Clock

TOO_MANY_ACTS = Fault(503, "{} large acts are under way: wait until one has ended, or stop one", OVERLOADED.code)
PATIENCE_S = 600.0
"""How long an act waits for a server that is overloaded, or a disk that refuses changes: who comes back later may want something else."""
_PAUSE_S = 1.0


class Step(NamedTuple):
    """What a step has done, to how many it was refused, by code, and whether there is more to do."""

    done: int
    refused: dict[str, int]
    is_last: bool
    ending: int = 0
    """How many of the former their workers are to end first."""


Does = Callable[[], Awaitable[Step]]
"""Does the next step."""


class Errand(Struct):
    """One of them; times in epoch ms."""

    number: str
    title: str
    done_is: str
    """What is said of a job that it was done to: ``cancelled``."""
    who: str
    began_at: int
    total: int
    """How many there were to do, as it began."""
    is_more: bool
    """There were more than that."""
    done: int = 0
    ending: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    ended_at: int | None = None
    trouble: str = ""
    """Why it has ended before its end, or waits now."""
    is_stopped: bool = False
    """Somebody wants it to end."""


class Errands:
    """Those that go on, and the last that have ended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Errand] = {}
        self._send, self._receive = trio.open_memory_channel[tuple[Errand, Does]](ERRANDS_MAX)

    def find(self, number: str) -> Errand | None:
        """Return one of them."""
        return self._known.get(number)

    @property
    def go_on(self) -> int:
        """How many are under way."""
        return sum(each.ended_at is None for each in self._known.values())

    def all(self) -> list[Errand]:
        """Return them, newest first."""
        return [*self._known.values()][::-1]

    def begin(self, errand: Errand, step: Does) -> None:
        """Let it go on until a step is the last.

        Raises:
            Refused: too many are under way.
        """
        if self.go_on >= ERRANDS_MAX:
            raise TOO_MANY_ACTS.refuse(ERRANDS_MAX, retry_after=1)
        self._send.send_nowait((errand, step))
        self._known[errand.number] = errand
        for number in [each.number for each in self._known.values() if each.ended_at is not None][:-ERRANDS_KEPT]:
            del self._known[number]

    async def run(self) -> None:
        """Do them, each beside the others."""
        async with trio.open_nursery() as nursery:
            async for errand, step in self._receive:
                nursery.start_soon(self._do, errand, step)

    async def _do(self, errand: Errand, step: Does) -> None:
        try:
            while not errand.is_stopped:
                told = await self._patiently(errand, step)
                errand.done += told.done
                errand.ending += told.ending
                for code, n in told.refused.items():
                    errand.refused[code] = errand.refused.get(code, 0) + n
                if told.is_last:
                    break
            else:
                errand.trouble = "somebody stopped it"
        except (Refused, StoreError) as error:
            errand.trouble = str(error)
        errand.ended_at = self._clock.now()

    async def _patiently(self, errand: Errand, step: Does) -> Step:
        """Do a step, again and again while it is refused for now; not for ever, and not when somebody stops it.

        One that is done and not committed is not done again: it may be committed yet, and nobody would have counted it.

        Raises:
            Refused: it is refused for good, or for too long.
            StoreError: the same of the disk.
        """
        deadline = trio.current_time() + PATIENCE_S
        while True:
            try:
                told = await step()
            except (Refused, StoreError) as error:
                is_passing = (
                    isinstance(error, Refused) and error.retry_after is not None and error.code != NOT_COMMITTED.code
                )
                if not is_passing or trio.current_time() >= deadline:
                    raise
                errand.trouble = str(error)
            else:
                errand.trouble = ""
                return told
            if errand.is_stopped:
                return Step(0, {}, is_last=False)
            await trio.sleep(_PAUSE_S)
