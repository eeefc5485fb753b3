"""What becomes of a step that raises what none may: has it changed nothing, it is refused; else the engine is not to be trusted, and the process ends.

It is logged first, nothing that the engine holds is written any more, and the next start recovers from the disk.
"""

import structlog
import trio

from bunqueue_trio import errors
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.errors import InvariantBroken, StoreError
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.storage.awaited import Unread

_log = structlog.get_logger()

Mark = tuple[int, int]
"""How many changed jobs and events had gathered before a step."""


class Broken:
    """Whether an invariant is broken, and by what."""

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self._engine = engine
        self._journal = journal
        self._event = trio.Event()
        self._by: InvariantBroken | None = None

    def is_set(self) -> bool:
        """Return whether one is."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Wait until one is, and raise what says so.

        Raises:
            InvariantBroken: by then.
        """
        await self._event.wait()
        assert self._by is not None
        raise self._by

    def note(self, error: Exception) -> InvariantBroken:
        """Return what ends the process because of ``error``."""
        if self._by is None:
            _log.critical("an invariant is broken, the server ends", exc_info=error)
            self._by = InvariantBroken(str(error) if isinstance(error, AssertionError) else repr(error))
            self._journal.halt(self._by)
            self._event.set()
        return self._by

    def judge(self, error: Exception, before: Mark | None) -> None:
        """Raise what becomes of an ``error`` of a step, unless it may stay; ``before``: how much had gathered, if it should have changed all or nothing.

        Raises:
            InvariantBroken: it has left half a step.
            Refused: it has changed nothing.
        """
        is_known, engine = isinstance(error, StoreError | Unread), self._engine
        if before is None:
            has_changed = not is_known
        else:
            has_changed = isinstance(error, AssertionError) or before != (len(engine.changed), len(engine.events))
        # What is kept beside jobs may be of another command.
        if has_changed or (not is_known and (engine.facts.changed or engine.trails.changed or engine.is_reusing)):
            raise self.note(error) from error
        if not is_known:
            _log.error("a command has failed, and changed nothing", exc_info=error)
            raise errors.INTERNAL_ERROR.refuse() from error
