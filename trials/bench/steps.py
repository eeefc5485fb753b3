"""How long the steps of a task are, counted by Trio itself; and how what is measured is shown beside what is required."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

STEP_MS = 5.0
"""What is required of any step."""


class Steps(trio.abc.Instrument):
    """How long the steps of the task that makes it took, in ms."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.found: list[float] = []
        self._task = trio.lowlevel.current_task()
        self._begun = 0.0

    @classmethod
    @contextmanager
    def counted(cls, clock: Callable[[], float] = time.perf_counter) -> Iterator["Steps"]:
        """Count the steps of the block by this clock."""
        steps = cls(clock)
        trio.lowlevel.add_instrument(steps)
        try:
            yield steps
        finally:
            trio.lowlevel.remove_instrument(steps)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when a step begins."""
        if task is self._task:
            self._begun = self._clock()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note how long it took."""
        if task is self._task and self._begun:
            self.found.append((self._clock() - self._begun) * 1000)


def tell(what: str, found: str, wanted: str, *, is_met: bool) -> int:
    """Print what was found; return 1 when it misses what is wanted."""
    print(
        f"{what:<40} {found:>10}   {'at least' if wanted.endswith('%') else 'at most'} {wanted}: {'met' if is_met else 'MISSED'}",
        flush=True,
    )
    return 0 if is_met else 1
