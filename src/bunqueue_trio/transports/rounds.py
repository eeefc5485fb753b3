"""How much the tasks of connections begin in one round of all tasks, first come, first served. It knows no requests."""

from heapq import heappop, heappush
from itertools import count

import trio

from bunqueue_trio.config import TURN_LONG_S


class Rounds:
    """At most ``each`` pieces of a kind of work begin in a round of all tasks, and none but the first after TURN_LONG_S of it, however many connections have some; the rest wait in line.

    A newcomer's request takes a few rounds (it is accepted, read, run, committed): how long they are must not grow
    with what others have sent. Who comes when they are used up waits for the next round; so does one of this many where little comes.

    What a piece costs is known when it is over. So who is let go on looks at the clock, and goes back to its place if those before it took too long.
    """

    def __init__(self, nursery: trio.Nursery, each: int) -> None:
        self._nursery = nursery
        self._each = each
        self._left = each
        self._ends = 0.0
        """When no more begins in this round."""
        self._has_begun = False
        """Something has, of what waited: whatever else takes its time, the line moves."""
        self._places = count()
        self._waiting: dict[int, trio.lowlevel.Task] = {}
        """By their places."""
        self._line: list[int] = []
        """A heap of the places: who was let go on too late comes first again. Thousands may be cancelled at once, so what they leave stays until its turn."""
        self._let_go = each
        """How many are let go on in a round: fewer while they have to go back."""
        self._went_back = False
        self._runs = False

    def begin_nowait(self, now: float) -> bool:
        """Begin something if there is room in this round; return whether there was."""
        if self._left <= 0 or self._waiting:
            return False
        if now > self._ends:
            if self._runs:
                return False
            # The end of this round has to be noticed.
            self._ends = now + TURN_LONG_S
            self._start()
        self._left -= 1
        return True

    async def begin(self) -> None:
        """Begin something, in this round if there is room; lets others run only if there is none."""
        if self.begin_nowait(trio.current_time()):
            return
        place = next(self._places)
        while True:
            await self._wait(place)
            if not self._has_begun or not self._runs or trio.current_time() <= self._ends:
                self._has_begun = True
                return
            self._went_back = True

    async def _wait(self, place: int) -> None:
        self._waiting[place] = trio.lowlevel.current_task()
        heappush(self._line, place)
        self._start()

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiting[place]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _let_first_go(self) -> None:
        """Let the first of those go on who wait; there must be one."""
        task = None
        while task is None:
            task = self._waiting.pop(heappop(self._line), None)
        trio.lowlevel.reschedule(task)

    def _start(self) -> None:
        if not self._runs:
            self._runs = True
            self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        """Begin a round, and let some go on in each, while there are any."""
        try:
            while True:
                self._let_go = max(1, self._let_go // 2) if self._went_back else min(self._each, 2 * self._let_go)
                self._left, self._ends = self._each, trio.current_time() + TURN_LONG_S
                self._has_begun = self._went_back = False
                if not self._waiting:
                    self._line.clear()
                    return
                for _ in range(min(self._let_go, len(self._waiting))):
                    self._left -= 1
                    self._let_first_go()
                await trio.lowlevel.checkpoint()
        finally:
            self._runs = False
            # Where it was cancelled, all others of its nursery are: nobody is left to wait for a round.
            while self._waiting:
                self._let_first_go()
