"""A wake-up time that may be moved earlier by somebody else."""

import trio

from bunqueue_trio.runtime.clock import Clock


class Alarm:
    """Lets one task sleep until a time in epoch ms that others keep setting."""

    def __init__(self) -> None:
        self._due: int | None = None
        self._sleeping_until: int | None = None
        self._asleep = False
        self._kick, self._kicked = trio.open_memory_channel[None](1)

    def set(self, due: int | None) -> None:
        """Set the next wake-up, or none; the sleeper is woken only if it would oversleep."""
        self._due = due
        if due is None or not self._asleep:
            return
        if self._sleeping_until is None or due < self._sleeping_until:
            # Once is enough.
            self._sleeping_until = due
            try:
                self._kick.send_nowait(None)
            except trio.WouldBlock:
                # It is being woken already.
                pass

    async def wait_due(self, clock: Clock) -> None:
        """Sleep until the alarm's time has come; always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while self._due is None or self._due > clock.now():
            self._sleeping_until, self._asleep = self._due, True
            try:
                deadline = float("inf") if self._due is None else clock.trio_time(self._due)
                with trio.move_on_at(deadline):
                    await self._kicked.receive()
            finally:
                self._asleep = False
