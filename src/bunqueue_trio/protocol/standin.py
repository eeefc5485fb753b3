"""The server of a test in the place of all others: what the clients of this process ask before they connect anywhere.

A registry and nothing else; `testing/server.py` has the server that registers itself.
"""

from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, Protocol


class Scope(Protocol):
    """A cancel scope, of any loop."""

    deadline: float

    def cancel(self) -> None:
        """Cancel what runs in it."""
        ...


class Awaited:
    """One wait for the end of a job. ``stuck`` says why it will never come, when that is known."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.stuck: str | None = None

    def give_up(self, reason: str) -> None:
        """End it, for this reason."""
        self.stuck = reason
        self.scope.cancel()


class StandIn(Protocol):
    """A server in this process that takes the clients of all others."""

    wait_max_s: float
    """How long a wait without a time-out of its own lasts."""
    http: Any
    """What sends a request of httpx to it: a ``BaseTransport``."""

    @property
    def client(self) -> Any:
        """A client of it that is open on the loop that runs."""
        ...

    def new_random(self) -> Any:
        """Return a ``random.Random`` for a client that has none of its own: with it, a run of the test repeats."""
        ...

    def connect(self, queue: str | None, holder: object | None) -> AbstractAsyncContextManager[Any]:
        """Connect a client; ``holder`` is the worker that it belongs to."""
        ...

    def waiting(self, awaited: Awaited) -> AbstractContextManager[object]:
        """Know of a wait for the end of a job, during the block."""
        ...

    def resting(self, scope: Scope) -> AbstractContextManager[object]:
        """Know of a sleep after which nothing happens that anybody waits for, during the block."""
        ...

    def now(self) -> float:
        """Return its time in seconds, for code without a loop."""
        ...

    def wait_change(self, seconds: float) -> str | None:
        """Wait, in code without a loop, until it is time for another look at a job; return why that is of no use, if so."""
        ...


class StandIns:
    """The stand-ins that live, the newest last: it is the one that counts."""

    def __init__(self) -> None:
        self._there: list[StandIn] = []

    @property
    def current(self) -> StandIn | None:
        """The one that clients go to; None in a program that is no test."""
        return self._there[-1] if self._there else None

    def enter(self, stand_in: StandIn) -> None:
        """Send every client to this one from now on."""
        self._there.append(stand_in)

    def leave(self, stand_in: StandIn) -> None:
        """Send nobody there any more."""
        self._there.remove(stand_in)

    def waiting(self, awaited: Awaited) -> AbstractContextManager[object]:
        """See :class:`StandIn`; nothing without one."""
        return nullcontext() if self.current is None else self.current.waiting(awaited)

    def resting(self, scope: Scope) -> AbstractContextManager[object]:
        """See :class:`StandIn`; nothing without one."""
        return nullcontext() if self.current is None else self.current.resting(scope)

    def refuse_real(self, address: str) -> None:
        """Refuse to speak to a real server while a test's own is there.

        Raises:
            RuntimeError: it is.
        """
        if self._there:
            raise RuntimeError(
                f"{address} would be a real server, and a Bunqueue of bunqueue_trio.testing lives in this process: "
                "while it does, all clients and workers go to it, and what cannot is refused"
            )


STAND_INS: StandIns = StandIns()
"""Of the whole process: a client at the top of a module is to find the test's server too, in whatever task or thread."""
