"""What one event means for many jobs: it is done in the order it came up, a bounded number in each step.

A crash loses none of it: a dependent on the disk still names what it waits for, and a job whose connection has gone still
has its lease.
"""

from collections import deque
from collections.abc import Callable

from bunqueue_trio.config import ADVANCE_MAX
from bunqueue_trio.engine.job import Job

Chore = tuple[Callable[[Job, int], None], deque[Job]]
"""What is still to be done, to each of many jobs. Who has had its turn is let go of: 100,000 that have ended meanwhile would be a step of 30 ms."""


class Chores:
    """What earlier steps have left to later ones."""

    __slots__ = ("_chores", "_is_working", "_losses", "left", "now")

    def __init__(self) -> None:
        self._chores: deque[Chore] = deque()
        """What the ends of jobs mean for others."""
        self._losses: deque[Chore] = deque()
        """What the ends of connections mean for their jobs; after the chores, so that one job is over before the next."""
        self._is_working = False
        self.now: int = 0
        """The time of the last :meth:`advance`."""
        self.left: int = ADVANCE_MAX
        """How many chores the present step may still do; whatever begins a step sets it anew."""

    def _work_off(self, now: int) -> None:
        """Do the chores, first come, first served, as far as this step may. The rest is for :meth:`advance`.

        What a crash leaves undone is taken up again when the jobs are loaded.
        """
        if self._is_working:
            # A chore has made others: they are in line.
            return
        self._is_working = True
        while self.left > 0 and (chores := self._chores or self._losses):
            do, jobs = chores[0]
            if jobs:
                self.left -= 1
                do(jobs.popleft(), now)
            else:
                chores.popleft()
        self._is_working = False
