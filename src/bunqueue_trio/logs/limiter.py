"""The limit of log lines of one kind a second: lines that clients can cause at will must not fill a disk.

Events are distinguished by their text, their level and the type of their exception, so that none hides another.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

# Lines of one kind: enough to see what happens, and 40 MB a day of short lines at worst.
A_SECOND = 5
# Kinds told apart in one second; texts of libraries may be without number.
KINDS_MAX = 1000
WINDOW_S = 1.0

Kind = tuple[str, str, str]


class Limiter:
    """Lets :data:`A_SECOND` lines of a kind through each second, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped = 0
        self._clock = clock
        self._ends = 0.0
        self._seen: dict[Kind, int] = {}
        # As the sink's.
        self._lock = threading.RLock()

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        """Return ``event``, unless there were enough of its kind in this second.

        Raises:
            structlog.DropEvent: there were.
        """
        kind = _kind(method, event)
        with self._lock:
            now = self._clock()
            if not self._seen:
                self._ends = now + WINDOW_S
            if kind not in self._seen and len(self._seen) >= KINDS_MAX:
                kind = ("other events", method, "")
            seen = self._seen[kind] = self._seen.get(kind, 0) + 1
            # A second that is over and not yet told of goes on: fewer lines come through, not more.
            if seen <= A_SECOND:
                return event
            self.dropped += 1
        raise structlog.DropEvent

    def overdue(self, *, at_once: bool) -> tuple[list[tuple[str, int]], float | None]:
        """Return each text that was left out and how often, when the second is over; and when the next is, in s."""
        with self._lock:
            if not self._seen:
                return [], None
            left_s = self._ends - self._clock()
            if left_s > 0 and not at_once:
                return [], left_s
            seen, self._seen = self._seen, {}
        return [(kind[0], n - A_SECOND) for kind, n in seen.items() if n > A_SECOND], None


def _kind(method: str, event: Mapping[str, Any]) -> Kind:
    # Of a library: its text before the values were put in.
    record = event.get("_record")
    text = str(event.get("event") if record is None else record.msg)
    error = event.get("exc_info") or (record is not None and record.exc_info)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    return text, method, type(error).__name__ if error else ""
