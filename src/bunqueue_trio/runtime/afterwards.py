"""What is done after a commit and nobody waits for: some of a large batch in each step, and its memory given back."""

from collections.abc import Callable, Sequence
from typing import Any

import trio

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.storage.making import FILLED_AT_ONCE
from bunqueue_trio.storage.rows import FinishedRow
from bunqueue_trio.storage.store import Batch

Count = Callable[[Sequence[Event], Sequence[FinishedRow]], None]
"""Counts some events and records that are committed; must not block or raise."""


class Afterwards:
    """Counts what a committed batch did, lets the engine forget what has ended, and lets go of the batch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.on_rows: list[Count] = []
        self._counted: tuple[Sequence[Event], Sequence[FinishedRow]] = (), ()
        self._at = 0
        self._batch: Batch | None = None
        self.is_busy: bool = False
        """Whether something of a large batch is left: to take a small one now would be to do all of that first."""

    def begin(self, batch: Batch) -> None:
        """Take over a batch that is committed; what is left of the last one is done at once."""
        while self.is_busy:
            self.do_some()
        self._engine.forget(batch.jobs)
        if len(batch.jobs) > FILLED_AT_ONCE:
            self._batch, self.is_busy = batch, True
            self._counted, self._at = (batch.heard, batch.finished), 0

    def count(self, batch: Batch, seconds: float) -> None:
        """Count what a small batch did (one of ``Journal.on_told``); what a large one did is counted with the rest of it."""
        if not self.is_busy:
            for count in self.on_rows:
                count(batch.heard, batch.finished)

    async def rest(self) -> None:
        """Do what is left, letting others run in between."""
        is_done = False
        while not is_done:
            await trio.lowlevel.checkpoint()
            is_done = self.do_some()

    def do_some(self) -> bool:
        """Do some more; return whether nothing is left."""
        has_forgotten = self._engine.forget_some()
        if self._count_some() or not has_forgotten:
            return False
        if self._batch is not None and not self._let_go(self._batch):
            self._batch = None
        self.is_busy = self._batch is not None
        return not self.is_busy

    def _count_some(self) -> bool:
        """Count some events and records; return whether there were any."""
        heard, finished = self._counted
        at, end = self._at, self._at + FILLED_AT_ONCE // 2
        if at >= max(len(heard), len(finished)):
            self._counted = (), ()
            return False
        self._at = end
        for count in self.on_rows:
            count(heard[at:end], finished[at:end])
        return True

    def _let_go(self, batch: Batch) -> bool:
        """Let go of some of what a batch holds, 3 ms at most; return whether it was anything."""
        rows: Any
        for rows in (batch.new, batch.changed, batch.rewritten, batch.ended, batch.finished):
            if rows:
                del rows[-2 * FILLED_AT_ONCE :]
                return True
        jobs: Any = batch.jobs
        if jobs:
            for _ in range(min(len(jobs), 2 * FILLED_AT_ONCE)):
                jobs.popitem()
            return True
        # Readers that lag may have these, whole.
        if batch.heard:
            batch.heard = ()
            return True
        has_events, batch.events = bool(batch.events), []
        return has_events
