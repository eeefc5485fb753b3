"""The last deadline of a process: past it, it ends, whatever still waits, is shielded, or hangs in a thread.

What was answered is on the disk, so ending at once loses nothing; a process that holds the lock of its file and does
not answer is worse. Only a real server has one: a test in virtual time must not be ended by the time of the wall.
"""

import os
import threading
from types import TracebackType
from typing import Self

import structlog

from bunqueue_trio.logs.lines import flush_logs

_log = structlog.get_logger()


class LastDeadline:
    """Ends the process some seconds after it is set, unless it was left before. Use as a context manager.

    Hold it around ``trio.run``: async generators are finalized after the last task.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def set(self, seconds: float, code: int) -> None:
        """End the process with ``code`` after ``seconds``; an earlier setting is forgotten."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, _end, (seconds, code))
        self._timer.daemon = True
        self._timer.start()


def _end(seconds: float, code: int) -> None:
    try:
        _log.critical("the server has not come to its end, it is ended now", after_s=seconds)
        # For at most a second.
        flush_logs()
    finally:
        os._exit(code)
