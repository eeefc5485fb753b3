"""How it stands with the disk: whether it takes commits, since when it does not, and what is answered then. It writes nothing."""

import structlog

from bunqueue_trio import errors
from bunqueue_trio.errors import Refused, StoreDamaged, StoreError
from bunqueue_trio.runtime.clock import Clock

_log = structlog.get_logger()


class Standing:
    """The part of a journal that knows whether its batches can be written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.failing: str | None = None
        """Why the last attempt to commit failed, while it has not succeeded again."""
        self.failing_since: int | None = None
        """Epoch ms of the first of the failures that have followed each other."""
        self.is_damaged: bool = False
        """A commit has met a damaged page. It stays: no batch is tried again, nor is a later one, which may build on what is not written."""
        self.nearly_full_since: int | None = None
        """Epoch ms since when the last room on the disk is kept for commands that empty the queues: their commits need some, too."""

    def check_disk(self, *, fills: bool) -> None:
        """Raise ``Refused`` (503) when no change could be committed, or none that ``fills`` the disk."""
        if self.failing is not None:
            raise self.down()
        if fills and self.nearly_full_since is not None:
            raise errors.STORAGE_FULL.refuse(retry_after=2)

    def down(self) -> Refused:
        """Return what is answered while commits fail."""
        return errors.STORAGE_DAMAGED.refuse() if self.is_damaged else errors.STORAGE_DOWN.refuse(retry_after=2)

    def unsettled(self) -> Refused:
        """Return what is answered to a change whose batch was given up: it may still be committed, unless it has met damage."""
        return errors.STORAGE_DAMAGED.refuse() if self.is_damaged else errors.NOT_COMMITTED.refuse(retry_after=2)

    def note_room(self, *, nearly_full: bool) -> None:
        """Note whether the disk has its last room left."""
        if nearly_full is not (self.nearly_full_since is not None):
            self.nearly_full_since = self._clock.now() if nearly_full else None
            if nearly_full:
                _log.warning("the disk is nearly full: what brings jobs or data is refused")
            else:
                _log.info("the disk has room again")

    def _note_refusal(self, error: StoreError, jobs: int) -> None:
        """Note why a batch with this number of ``jobs`` cannot be written now."""
        if self.failing is None:
            _log.error("commit failed", error=str(error), jobs=jobs)
            self.failing_since = self._clock.now()
        if isinstance(error, StoreDamaged) and not self.is_damaged:
            self.is_damaged = True
            _log.critical("a commit has met damage: changes are refused until the next start", error=str(error))
        self.failing = str(error)

    def _note_success(self) -> None:
        """Note that a batch can be written."""
        if self.failing is not None:
            _log.info("commits work again")
            self.failing = self.failing_since = None
