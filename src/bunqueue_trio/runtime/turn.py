"""Turns: steps of commands that commit at their end, so that the flusher hears only of what could not be committed then."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from bunqueue_trio.protocol.catalog import TAKES
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.runtime.journal import Journal

_NO_TURN = nullcontext()


class Turn:
    """Commits what the commands of its block, which is one step, have changed, at its end and together.

    Before, ``settle`` is called. ``commit`` returns whether it could be done in this very step.
    """

    # A class, and one for all blocks: a generator for each would cost a lone push 2 %.
    __slots__ = ("_commit", "_journal", "_settle")

    def __init__(self, journal: Journal, settle: Callable[[], None], commit: Callable[[], bool]) -> None:
        self._journal = journal
        self._settle = settle
        self._commit = commit

    def __enter__(self) -> None:
        self._journal.in_turn = True

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._journal.in_turn = False
        self._settle()
        if self._journal.gathering and not self._commit():
            self._journal.note()


class Turns:
    """The turns of one core."""

    __slots__ = ("lone", "many")

    def __init__(self, journal: Journal, settle: Callable[[], None]) -> None:
        self.many: Turn = Turn(journal, settle, journal.commit_at_once)
        """Of the commands of many clients."""
        self.lone: Turn = Turn(journal, settle, journal.commit_alone)
        """Of a command of one client; it commits if nobody shares the commit."""

    def alone(self, kind: type[Command]) -> AbstractContextManager[None]:
        """Return the turn of one command of this ``kind``, after which its task waits; it commits if nobody shares the commit.

        A pull has none: it is answered at once, and its commit comes behind.
        """
        return _NO_TURN if kind in TAKES else self.lone
