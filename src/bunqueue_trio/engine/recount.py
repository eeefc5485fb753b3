"""Counting the unfinished jobs anew while they change, for the self-audit (``audit.py``).

Jobs are counted in the order of their keys. One that changes its state while the count is under way
matters if it has been counted already or was born after its start: then the count moves with it. So at
the end the count is exact, although the world never stood still.
"""

from bunqueue_trio.engine.job import UNFINISHED, Job, State


class Recount:
    """How many jobs of each queue are in each unfinished state, of those counted so far."""

    __slots__ = ("born_after", "numbers", "upto")

    def __init__(self, born_after: int) -> None:
        self.born_after: int = born_after
        """Jobs with greater keys are counted when they are born."""
        self.upto: int = 0
        """Jobs up to this key have been counted."""
        self.numbers: dict[State, dict[str, int]] = {state: {} for state in UNFINISHED}
        """By state and queue."""

    def add(self, queue: str, state: State, n: int = 1) -> None:
        """Count ``n`` jobs more."""
        numbers = self.numbers[state]
        numbers[queue] = numbers.get(queue, 0) + n

    def put_into(self, job: Job, queue: str) -> None:
        """Go along with a job that comes into another queue."""
        self.moved(job, job.state, State.REMOVED)
        if job.seq <= self.upto or job.seq > self.born_after:
            self.add(queue, job.state)

    def moved(self, job: Job, before: State, to: State) -> None:
        """Go along with a job that changes its state."""
        if job.seq <= self.upto or job.seq > self.born_after:
            if before in UNFINISHED:
                self.add(job.queue, before, -1)
            if to in UNFINISHED:
                self.add(job.queue, to)
