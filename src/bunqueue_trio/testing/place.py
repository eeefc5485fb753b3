"""The place that all clients of the process go to while a test's server lives, whatever loop or thread they are on."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from random import Random  # noqa: TID251 - of a seed
from typing import Any

import trio

from bunqueue_trio.client.client import Client
from bunqueue_trio.client.connection import Connection
from bunqueue_trio.protocol.standin import STAND_INS, Awaited, Scope
from bunqueue_trio.testing import across
from bunqueue_trio.testing.http import Transport
from bunqueue_trio.testing.idle import Idle
from bunqueue_trio.testing.lives import Lives

# Of real time, between two looks at a job.
_LOOK_S = 0.01
# In real time nobody can know that nothing will happen.
WAIT_S = 60.0


class Place:
    """See ``StandIn``. It belongs to the Trio run in which it is made, which is that of the server.

    ``new_random`` gives what is random to clients that bring nothing of their own, so that a run repeats; ``client_of``, a
    client that is open on the loop that runs.
    """

    def __init__(self, lives: Lives, new_random: Callable[[], Random], client_of: Callable[[], Client]) -> None:
        self.home: across.Home = across.Home()
        self.new_random = new_random
        self._lives = lives
        self._client_of = client_of
        self._idle = Idle(self._why_stuck)
        self.wait_max_s: float = math.inf if self._idle.is_virtual else WAIT_S
        self.http: Transport = Transport(self.home, lives, self._idle)

    @property
    def client(self) -> Client:
        """See ``StandIn``."""
        return self._client_of()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Send everybody there, during the block."""
        with self._idle.watching():
            STAND_INS.enter(self)
            try:
                yield
            finally:
                STAND_INS.leave(self)

    def connect(self, queue: str | None, holder: object | None = None) -> AbstractAsyncContextManager[Connection]:
        """Connect a client, from any loop; see ``Connect``."""
        if self.home.is_here:
            return self._lives.connect(queue, holder)
        return across.connect(self.home, self._lives, queue, holder)

    def waiting(self, awaited: Awaited) -> AbstractContextManager[object]:
        """See ``StandIn``."""
        return self._idle.waiting(awaited) if self.home.is_here else nullcontext()

    def resting(self, scope: Scope) -> AbstractContextManager[object]:
        """See ``StandIn``."""
        return self._idle.resting(scope) if self.home.is_here else nullcontext()

    def now(self) -> float:
        """See ``StandIn``."""
        return self.home.step(trio.current_time) if self._idle.is_virtual else time.monotonic()

    def wait_change(self, seconds: float) -> str | None:
        """See ``StandIn``."""
        if not self._idle.is_virtual:
            time.sleep(min(seconds, _LOOK_S))
            return None
        stuck: Any = self.http.ask(self.http.wait_change, seconds)
        return None if stuck is None else str(stuck)

    def _why_stuck(self) -> str:
        return "for good, since nothing is left that could happen" + (
            ", and the server is down" if self._lives.server is None else ""
        )
