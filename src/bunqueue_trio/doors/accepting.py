"""How a door accepts connections, and stops: it accepts no more, and its connections end with what is under way on them."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from bunqueue_trio.config import DRAIN_S
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.transports.sockets import Listener


class Stop:
    """When a door is to stop, and whether somebody waits for that."""

    def __init__(self) -> None:
        self.wanted: trio.Event = trio.Event()
        self.hurry: trio.Event = trio.Event()
        """The server stops: idle connections end at once, as its own do."""

    def in_hurry(self) -> None:
        """Stop, for a server that does."""
        self.hurry.set()
        self.wanted.set()


async def accept(
    listeners: Sequence[Listener],
    door: FramingDoor,
    stop: Stop,
    grace_s: float,
    on_closed: Callable[[], Awaitable[None]],
    keeps: Callable[[], bool] = lambda: False,
) -> None:
    """Accept on ``listeners`` until ``stop``, then call ``on_closed``; return when all that was accepted has ended, or ``grace_s`` is over.

    The listeners are closed before that, unless somebody ``keeps`` them.
    """
    try:
        async with trio.open_nursery() as beside:
            beside.start_soon(door.run)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as nursery:
                    for listener in listeners:
                        nursery.start_soon(
                            partial(trio.serve_listeners, door.serve, [_Lasting(listener)], handler_nursery=connections)
                        )
                    await stop.wanted.wait()
                    # What is answered from now on says so.
                    door.asking.stop()
                    # What the kernel has accepted for us is not to be reset.
                    await trio.sleep(DRAIN_S)
                    nursery.cancel_scope.cancel()
                if not keeps():
                    await _close(listeners)
                await on_closed()
                beside.start_soon(door.end, stop.hurry)
                connections.cancel_scope.deadline = trio.current_time() + grace_s
            beside.cancel_scope.cancel()
    finally:
        if not keeps():
            with trio.move_on_after(1, shield=True):
                await _close(listeners)


async def _close(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        await listener.aclose()


class _Lasting(trio.abc.Listener[trio.abc.Stream]):
    """A listener that whoever accepts on it does not close."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    async def accept(self) -> trio.abc.Stream:
        """Wait for a connection, and return it."""
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Do nothing."""
        await trio.lowlevel.checkpoint()
