"""Turns: steps of commands that commit at their end, so that the flusher hears only of what could not be committed then."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from bunqueue_trio.protocol.catalog import TAKES
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.runtime.journal import Journal

_NO_TURN = nullcontext()


class Turn:
    """Commits what the commands of its block, which is one step, have changed, at its end and together.

    Then ``settle`` is called. ``commit`` returns whether it could be done in this very step. With ``lingers`` it is not
    tried unless somebody has said that he waits (``Journal.hurry``).
    """

    # A class, and one for all blocks: a generator for each would cost a lone push 2 %.
    __slots__ = ("_commit", "_journal", "_lingers", "_settle")

    def __init__(
        self, journal: Journal, settle: Callable[[], None], commit: Callable[[], bool], *, lingers: bool = True
    ) -> None:
        self._journal = journal
        self._settle = settle
        self._commit = commit
        self._lingers = lingers

    def __enter__(self) -> None:
        self._journal.in_turn = True

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        journal = self._journal
        journal.in_turn = False
        if journal.gathering:
            is_awaited = journal.summons.is_awaited or not self._lingers
            if not (is_awaited and self._commit()):
                journal.note(is_awaited=is_awaited)
        # The answers have left in the step of the commit: who asks one after the other waits for this no more.
        self._settle()


class Turns:
    """The turns of one core."""

    __slots__ = ("_own", "lone", "many")

    def __init__(self, journal: Journal, settle: Callable[[], None]) -> None:
        self.many: Turn = Turn(journal, settle, journal.commit_at_once)
        """Of the commands of many clients."""
        self.lone: Turn = Turn(journal, settle, journal.commit_alone)
        """Of a command of one client; it commits if nobody shares the commit."""
        self._own = Turn(journal, settle, journal.commit_alone, lingers=False)

    def alone(self, kind: type[Command]) -> AbstractContextManager[None]:
        """Return the turn of one command of this ``kind``, after which its task waits; it commits if nobody shares the commit.

        A pull has none: it is answered at once, and its commit comes behind.
        """
        return _NO_TURN if kind in TAKES else self._own
