"""The service that lets schedules run where the store is a network away; elsewhere the scheduler does, on the spot."""

import structlog
import trio

from bunqueue_trio.config import SECOND_MS
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.runtime.alarm import Alarm
from bunqueue_trio.runtime.core import Core

_log = structlog.get_logger()


class Schedules:
    """Lets schedules bring their jobs, where the archive that knows which of these have been there is a network away."""

    def __init__(self, core: Core, engine: Engine, alarm: Alarm) -> None:
        self._core = core
        self._engine = engine
        self._alarm = alarm
        self._waits = False
        """The log has told so."""

    async def wait_due(self) -> None:
        """Sleep until schedules are due."""
        await self._alarm.wait_due(self._core.clock)

    async def step(self) -> None:
        """Let some of them run, as of now, however long the archive takes to answer; without an answer they stay due."""
        core = self._core
        await core.journal.wait_room()
        try:
            await core.step_knowing(self._engine.fire_schedules, core.clock.now())
            self._waits = False
        except (Refused, StoreError) as error:
            if not self._waits:
                _log.warning("schedules wait for an answer of the store", error=str(error))
            self._waits = True
            await trio.sleep(SECOND_MS / 1000)
