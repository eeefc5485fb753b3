"""How much the tasks of connections begin in one round of all tasks, first come, first served. It knows no requests."""

from collections import deque

import trio


class Rounds:
    """At most ``each`` pieces of a kind of work begin in a round of all tasks, however many connections have some; the rest wait in line.

    A newcomer's request takes a few rounds (it is accepted, read, run, committed): how long they are must not grow
    with what others have sent. Who comes when they are used up waits for the next round; so does one of this many where little comes.
    """

    def __init__(self, nursery: trio.Nursery, each: int) -> None:
        self._nursery = nursery
        self._each = each
        self._left = each
        self._waiting: deque[trio.lowlevel.Task] = deque()
        self._runs = False

    def begin_nowait(self) -> bool:
        """Begin something if there is room in this round; return whether there was."""
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return True
        return False

    async def begin(self) -> None:
        """Begin something, in this round if there is room; lets others run only if there is none."""
        if self.begin_nowait():
            return
        if not self._runs:
            self._runs = True
            self._nursery.start_soon(self._run)
        task = trio.lowlevel.current_task()
        self._waiting.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _run(self) -> None:
        """Let some go on in each round, while there are any."""
        try:
            while self._waiting:
                self._left = self._each
                while self._waiting and self._left:
                    self._left -= 1
                    trio.lowlevel.reschedule(self._waiting.popleft())
                await trio.lowlevel.checkpoint()
        finally:
            self._runs = False
            # Where it was cancelled, all others of its nursery are: nobody is left to wait for a round.
            while self._waiting:
                trio.lowlevel.reschedule(self._waiting.popleft())
