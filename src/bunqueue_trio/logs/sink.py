"""Where log lines go: a file descriptor that may be full, slow or gone. Whoever logs never waits and never fails.

A thread writes, in order. What it cannot write is counted and dropped, and so is what comes while too much waits
already: the reader of a pipe has stopped, or a disk hangs. As soon as it works again one line says how many are lost.
"""

import atexit
import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

# Lines that may wait: a worker's handlers may log much at once.
LINES_MAX = 10_000
# And their size; a traceback has some KiB.
BYTES_MAX = 4 * 1024 * 1024
# How long an end waits for a reader that does not read.
FLUSH_S = 1.0
# Between two looks at a pipe that takes nothing and must not be waited for by `write`.
_WRITABLE_MS = 1000


class Overdue(Protocol):
    """What has lines to write by the clock."""

    def __call__(self, *, at_once: bool) -> tuple[Iterable[str], float | None]:
        """Return the lines that are due, or all of them, and in how many seconds to ask again."""
        ...


class Sink:
    """Lines on their way to descriptor ``fd``; each call of structlog for a logger returns it itself.

    ``lost`` makes the line that says how many were lost. ``overdue`` is asked after each line, and
    again when it says so.
    """

    def __init__(self, fd: int, lost: Callable[[int], str], overdue: Overdue) -> None:
        self.dropped = 0
        self._fd = fd
        self._lost = lost
        self._overdue = overdue
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._untold = 0
        self._torn = False
        self._stuck = False
        self._thread: threading.Thread | None = None
        # Reentrant: a signal handler or a finalizer may log while its own thread is in here.
        self._changed = threading.Condition(threading.RLock())
        atexit.register(self.flush)

    def __call__(self, *names: object) -> "Sink":
        """Return itself: it is structlog's factory of loggers and the one logger."""
        return self

    def msg(self, line: str) -> None:
        """Have ``line`` written, or count it as dropped."""
        content = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            if len(self._lines) >= LINES_MAX or (self._lines and self._bytes + len(content) > BYTES_MAX):
                self._drop()
                return
            self._lines.append(content)
            self._bytes += len(content)
            self._changed.notify_all()
            if self._thread is None:
                self._start()

    log = debug = info = warn = warning = err = error = critical = fatal = failure = exception = msg

    def drop(self) -> None:
        """Count a line that could not even be made."""
        with self._changed:
            self._drop()

    def flush(self, within_s: float = FLUSH_S) -> None:
        """Wait until all is written that can be, but not for long."""
        for line in self._overdue(at_once=True)[0]:
            self.msg(line)
        with self._changed:
            patience_s = 0 if self._stuck else within_s
            self._stuck = not self._changed.wait_for(lambda: not self._lines, patience_s)

    def _drop(self) -> None:
        self.dropped += 1
        self._untold += 1

    def _start(self) -> None:
        thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # No thread is to be had now; the next line tries again.
            self._drop()
            self._bytes -= len(self._lines.pop())
        else:
            self._thread = thread

    def _write_all(self) -> None:
        while True:
            due, again_s = self._overdue(at_once=False)
            for line in due:
                self.msg(line)
            with self._changed:
                if not self._changed.wait_for(lambda: self._lines, again_s):
                    continue
                content, untold = self._lines[0], self._untold
            written = self._written(content)
            with self._changed:
                # Only now: `flush` waits for it.
                self._bytes -= len(self._lines.popleft())
                if not written:
                    self._drop()
                self._stuck = False
                self._changed.notify_all()
            if written and untold:
                self._tell_lost(untold)

    def _tell_lost(self, untold: int) -> None:
        if self._written(self._lost(untold).encode("utf-8", "backslashreplace") + b"\n"):
            with self._changed:
                self._untold -= untold

    def _written(self, content: bytes) -> bool:
        """Write ``content`` after the end of a line, and return whether it is there as a whole."""
        rest = memoryview(b"\n" + content if self._torn else content)
        while rest:
            try:
                n = os.write(self._fd, rest)
            except BlockingIOError:
                # Somebody made the pipe non-blocking, for all who write to it.
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(_WRITABLE_MS)
            except OSError as error:
                if error.errno != errno.EINTR:
                    return False
            else:
                rest = rest[n:]
                self._torn = rest.nbytes > 0
        return True
