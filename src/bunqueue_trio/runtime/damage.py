"""What is known of damage to the store: since when, and a look at all of it."""

import time
from functools import partial
from typing import NamedTuple

import structlog
import trio

from bunqueue_trio.config import LOOK_AGAIN_S, LOOK_OVER_AFTER_S, LOOK_OVER_EVERY_S, LOOK_OVER_PAUSE_S, LOOK_OVER_S
from bunqueue_trio.errors import StoreDamaged, StoreError
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.storage.store import Store

_log = structlog.get_logger()

# Whoever asks hears of it at once; this is for the log.
_NOTE_S = 1


class Damage(NamedTuple):
    """What has said that a file is damaged, first, and since when that is known, in epoch ms."""

    what: str
    since: int
    file: str


class DamageWatch:
    """Notes that the store is damaged, whatever has met it, and looks over what nothing may read for long."""

    def __init__(self, store: Store, clock: Clock, file: str) -> None:
        self._store = store
        self._clock = clock
        self._file = file
        self._found: Damage | None = None

    def look(self) -> Damage | None:
        """Return what is damaged; it is noted, and logged, once."""
        if self._found is None and (what := self._store.damage) is not None:
            self._found = Damage(what, self._clock.now(), self._file)
            _log.error("the file is damaged", file=self._file, what=what)
        return self._found

    async def run(self) -> None:
        """Look over all parts soon after the start, and every day; say within a second what is found, here or by others.

        What could not be looked at, since the file was away or the disk did not read, is tried again soon.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_over)
            while True:
                self.look()
                await trio.sleep(_NOTE_S)

    async def _look_over(self) -> None:
        await trio.sleep(LOOK_OVER_AFTER_S)
        while True:
            left, told = await self._parts(), set[str]()
            while left:
                for part in tuple(left):
                    if await self._look_at(part, told):
                        left.remove(part)
                    await trio.sleep(LOOK_OVER_PAUSE_S)
                if left:
                    await trio.sleep(LOOK_AGAIN_S)
            await trio.sleep(LOOK_OVER_EVERY_S)

    async def _parts(self) -> list[str]:
        is_logged = False
        while True:
            try:
                return list(self._store.parts())
            except StoreError as error:
                if not is_logged:
                    _log.warning("what the file has cannot be looked at", error=str(error))
                is_logged = True
                if isinstance(error, StoreDamaged):
                    return []
            await trio.sleep(LOOK_AGAIN_S)

    async def _look_at(self, part: str, told: set[str]) -> bool:
        """Return whether one part was looked at, so far as there is time for it; why not is logged once for each that is not among ``told``.

        It has a thread of no lower priority than others: one that holds the interpreter and gets no time would hold the loop.
        """
        try:
            is_whole = await trio.to_thread.run_sync(
                self._store.look_over, part, partial(_is_over, time.monotonic() + LOOK_OVER_S)
            )
        except StoreError as error:
            if part not in told:
                told.add(part)
                if isinstance(error, StoreDamaged):
                    _log.warning("a table is damaged", table=part, error=str(error))
                else:
                    _log.warning("a table cannot be looked at", table=part, error=str(error))
            return isinstance(error, StoreDamaged)
        if not is_whole:
            _log.info("a table was not looked at to its end: that would take too long", table=part)
        return True


def _is_over(ends: float) -> bool:
    """Return whether the time is up; a stop of the server raises instead."""
    trio.from_thread.check_cancelled()
    return time.monotonic() > ends
