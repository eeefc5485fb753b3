"""The signals that stop a server: each that comes counts, also two in one step. What they mean is its reader's business."""

import signal
import socket
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import trio


class Signals:
    """The ``wanted`` signals, one after the other, from their first on: an asynchronous iterator. Use as a context manager, in Trio's main thread.

    Python runs a handler once for all signals of a kind that came in one step of the event loop, and whoever sends a
    second one means it. What the interpreter writes for each of them is counted instead, in place of Trio's own waking by it.

    Behind it they are ignored: the process ends, and its exit code tells how.
    """

    def __init__(self, wanted: Iterable[int]) -> None:
        self._wanted = frozenset(wanted)
        self._came: deque[int] = deque()
        self._ours, self._interpreters = socket.socketpair()
        self._before = -1

    def __enter__(self) -> Self:
        self._ours.settimeout(0)
        self._interpreters.settimeout(0)
        for number in self._wanted:
            signal.signal(number, _note)
        self._before = signal.set_wakeup_fd(self._interpreters.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._wanted:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self._before)
        self._ours.close()
        self._interpreters.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        while not self._came:
            await trio.lowlevel.wait_readable(self._ours)
            try:
                self._came.extend(number for number in self._ours.recv(4096) if number in self._wanted)
            except BlockingIOError:
                # Somebody else has read them.
                continue
        return self._came.popleft()


def _note(*_: object) -> None:
    """Do nothing: that there is a handler lets the interpreter write the signal down."""
