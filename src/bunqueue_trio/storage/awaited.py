"""What a store that is a network away can do besides: be asked, be led, and say where its leader is."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

from bunqueue_trio.config import BEATS_A_LEASE
from bunqueue_trio.storage.cluster import Cluster, DoorFigures
from bunqueue_trio.storage.store import Store

GONE_BEATS = 1.5
"""The time, in its beats, in which a leader may still be heard of whose machine says that nobody listens there."""
# The part of its time that a leader believes in: who waits for its end has a clock of its own, which may go faster.
_SURE = 0.99


def sure_s(lease_s: float, *, is_deaf: bool) -> float:
    """Return how long nobody else leads for sure after a beat of a leader; ``is_deaf``: who waits finds nobody listening there, and follows sooner."""
    return _SURE * lease_s * (GONE_BEATS / BEATS_A_LEASE if is_deaf else 1)


class Question(NamedTuple):
    """What somebody wants to know of the archive: one of the reads of a :class:`Store`, by its name."""

    kind: str
    arguments: tuple[object, ...]
    """What it is called with, in its order."""
    named: tuple[tuple[str, object], ...] = ()
    """What it is called with by name."""
    ids: tuple[str, ...] = ()
    """The jobs that it names: what a commit says of them meanwhile makes an answer old."""

    def ask(self, store: Store) -> Any:
        """Return what ``store`` answers.

        Raises:
            StoreError: there is no answer.
        """
        return getattr(store, self.kind)(*self.arguments, **dict(self.named))


class Unread(Exception):
    """A command needs an answer of the archive that nobody has asked for yet."""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.question = question


class Leading(NamedTuple):
    """How a server leads: in which term, for how long nobody else may, for sure, and what it remembers of its newest batches."""

    term: int = 0
    lease_left_s: float = 0.0
    remembered: int = 0
    """In bytes."""
    lease_s: float = 0.0
    batches: int = 0
    """Those that it remembers."""
    remembers_s: float | None = None
    """Since when it remembers all of them, as an age; None: since it began."""


NoteLeader: TypeAlias = Callable[[str | None, bytes], DoorFigures]
"""Takes where the leader is reached, if it is known, and the key; returns how the door is doing that passes on requests there."""


def nobody_asks(where: str | None, key: bytes) -> DoorFigures:
    """Take it, and do nothing."""
    return DoorFigures()


class Announcer(Protocol):
    """Where servers that wait learn how to reach the one that leads."""

    async def key(self) -> bytes:
        """Return what they all know, and nobody else.

        Raises:
            StoreError: it cannot be read now.
        """
        ...

    async def reached(self) -> tuple[str | None, bytes]:
        """Return where the leader is reached, if it is, and the key.

        Raises:
            StoreError: nobody can tell now.
        """
        ...

    async def tell(self, where: str) -> None:
        """Say where this server is reached.

        Raises:
            StoreError: it cannot be said now.
        """
        ...

    def own_host(self) -> str:
        """Return the address of this machine, as the store sees it; the key was read before."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Watcher(Protocol):
    """Looks at the servers of a store, and at the database it is in."""

    async def look(self, jobs: int) -> Cluster:
        """Return what is there; ``jobs``: how many are unfinished.

        Raises:
            StoreError: nobody can tell now.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class AwaitedStore(Store, Protocol):
    """A store that is a network away. Its other reads are for the start, or come from memory."""

    lease_s: float
    """For how long nobody else may write here after a commit or a :meth:`beat`."""

    is_deaf: bool
    """Whether servers that wait find nobody listening here any more: they follow sooner when they hear nothing."""

    ids_skipped: int
    """How many event ids before the first one of this server nobody has, or who had them is forgotten."""

    def announcer(self) -> Announcer:
        """Return what tells servers that wait where this one is reached."""
        ...

    def leading(self) -> Leading:
        """Return how this server leads; costs nothing."""
        ...

    def watcher(self) -> Watcher:
        """Return what looks at those who serve this store."""
        ...

    def epoch_ms(self) -> int:
        """Return the time by the clock that all its servers share."""
        ...

    def leads(self) -> bool:
        """Return whether nobody else can write there yet, for sure: what is in memory is the truth."""
        ...

    async def beat(self) -> None:
        """Say that this server is alive, unless a commit has said it lately; never beside a commit.

        Raises:
            StoreError: it could not be said.
            TakenOver: another server writes there now.
        """
        ...

    async def look_up(self, question: Question) -> Any:
        """Return what the read of that name returns.

        Raises:
            StoreError: there is no answer.
        """
        ...
