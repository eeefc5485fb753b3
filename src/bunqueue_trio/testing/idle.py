"""Virtual time, in a test with a server: it waits for threads, and it says when nothing can happen any more."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import trio
import trio.testing

from bunqueue_trio.protocol.standin import Awaited, Scope

# Of real time; a thread that does nothing for that long is taken for hung.
THREADS_S = 60.0
# Of real time, between two looks at a thread that runs; each of its ends costs one.
_LOOK_S = 0.001

_log = structlog.get_logger()


class Idle:
    """Watches the clock of this run; in real time it does nothing.

    The clock jumps to the next deadline when no task can go on. That is wrong while a thread runs, since what it does
    takes no time here; and where nothing is left but sleeps after which nothing follows, time has no end.
    """

    def __init__(self, why: Callable[[], str]) -> None:
        """``why`` is said to those who wait for what cannot come."""
        clock = trio.lowlevel.current_clock()
        self.is_virtual: bool = isinstance(clock, trio.testing.MockClock)
        self._clock = clock
        self._why = why
        self._waits: dict[Awaited, None] = {}
        self._rests: dict[Scope, None] = {}
        self._asking = 0
        self._threads_since: float | None = None
        self._is_weary = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Do so during the block."""
        clock = self._clock
        if not isinstance(clock, trio.testing.MockClock):
            yield
            return
        # There is no other place that knows of a jump before it is made.
        threshold, jump = clock.autojump_threshold, clock._autojump  # noqa: SLF001

        def look() -> None:
            if self._waits_for_threads():
                clock.autojump_threshold = max(threshold, _LOOK_S)
                return
            clock.autojump_threshold = threshold
            if self._waits and self._seconds_left() == math.inf:
                self._give_up()
            else:
                jump()

        clock._autojump = look  # type: ignore[method-assign]  # noqa: SLF001
        try:
            yield
        finally:
            clock._autojump = jump  # type: ignore[method-assign]  # noqa: SLF001
            clock.autojump_threshold = threshold

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Know that a thread waits for this run during the block, and does nothing else."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    @contextmanager
    def waiting(self, awaited: Awaited) -> Iterator[None]:
        """Know of a wait for the end of a job."""
        self._waits[awaited] = None
        try:
            yield
        finally:
            del self._waits[awaited]

    @contextmanager
    def resting(self, scope: Scope) -> Iterator[None]:
        """Know of a sleep after which nothing happens that anybody waits for."""
        self._rests[scope] = None
        try:
            yield
        finally:
            del self._rests[scope]

    def _waits_for_threads(self) -> bool:
        if trio.testing.active_thread_count() <= self._asking:
            self._threads_since, self._is_weary = None, False
            return False
        if self._is_weary:
            return False
        now = time.monotonic()
        if self._threads_since is None:
            self._threads_since = now
        if now - self._threads_since < THREADS_S:
            return True
        self._is_weary = True
        _log.warning("virtual time goes on without a thread", running=trio.testing.active_thread_count())
        return False

    def _seconds_left(self) -> float:
        """Return when something happens next that is no rest."""
        before = [(scope, scope.deadline) for scope in self._rests]
        for scope, _ in before:
            scope.deadline = math.inf
        left = trio.lowlevel.current_statistics().seconds_to_next_deadline
        for scope, deadline in before:
            scope.deadline = deadline
        return left

    def _give_up(self) -> None:
        why = self._why()
        for awaited in list(self._waits):
            awaited.give_up(why)
