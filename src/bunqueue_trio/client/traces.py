"""Tracebacks as Python writes them, but from the handler on, and without the marks under what a line did.

The marks cost more than the job that failed, and where the worker called its handler is of no interest.

Owns how what a handler raised looks in a log and at the server; refuses to know what becomes of it.
"""

import linecache
import traceback
from types import CodeType, TracebackType
from typing import Any

from bunqueue_trio.logs.printable import name_of

# Functions whose lines are remembered: code that is made anew for each job must not gather.
CODES_MAX = 2000
# Exceptions that led to each other.
CHAIN_MAX = 20
# Equal frames, one after the other, which Python tells as one.
FOLDED_FROM = 4
HEAD = "Traceback (most recent call last):\n"
CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
MET = "\nDuring handling of the above exception, another exception occurred:\n\n"
# Characters of a text for the server, which keeps no more.
ERROR_MAX = 65_536
_CUT = "\n… %d characters left out …\n"
_SAY_MORE = (BaseExceptionGroup, SyntaxError, NameError, AttributeError, ImportError)
"""Of these Python says more than a text: what it is made of, where it is written, or what may have been meant."""


class Traces:
    """Makes tracebacks. It remembers the lines of code that it has told of, since what fails does so again and again."""

    def __init__(self) -> None:
        # By identity: code that was loaded anew is another one, and its file is looked at again.
        self._known: dict[int, tuple[CodeType, dict[int | None, str]]] = {}
        self._names: dict[type, str | None] = {}
        """What a kind of exception is called here; None: Python says more of it."""

    def of(self, error: BaseException) -> str:
        """Return the traceback of ``error`` and of whatever led to it."""
        parts: list[str] = []
        left: BaseException | None = error
        while left is not None:
            name = self._name(type(left))
            # What is met again ends Python's chain, too, but elsewhere in it.
            if name is None or len(parts) > 2 * CHAIN_MAX or getattr(left, "__notes__", None):
                return self._in_full(error)
            frames, text = "".join(self._frames(left.__traceback__)), str(left)
            parts.append(f"{HEAD if frames else ''}{frames}{name}{text and ': '}{text}\n")
            words, left = _led_to(left)
            if left is not None:
                parts.append(words)
        return "".join(reversed(parts)).rstrip()

    def _name(self, kind: type) -> str | None:
        if kind in self._names:
            return self._names[kind]
        if len(self._names) >= CODES_MAX:
            self._names.clear()
        name, module = kind.__qualname__, kind.__module__
        name = name if module in {"builtins", "__main__"} else f"{module}.{name}"
        self._names[kind] = None if issubclass(kind, _SAY_MORE) else name
        return self._names[kind]

    def _frames(self, trace: TracebackType | None) -> list[str]:
        """Return each frame as two lines, those that repeat once more than told."""
        frames: list[str] = []
        last, times = "", 0
        trace = _beyond_ours(trace)
        while trace is not None:
            frame = self._frame(trace)
            times = times + 1 if frame == last else 1
            if times < FOLDED_FROM:
                frames.append(frame)
            elif times == FOLDED_FROM:
                frames.append(_folded(1))
            else:
                frames[-1] = _folded(times - FOLDED_FROM + 1)
            last, trace = frame, trace.tb_next
        return frames

    def _frame(self, trace: TracebackType) -> str:
        code = trace.tb_frame.f_code
        # None of what the compiler has put in.
        number: int | None = trace.tb_lineno
        known = self._known.get(id(code))
        if known is None:
            if len(self._known) >= CODES_MAX:
                self._known.clear()
            known = self._known[id(code)] = (code, {})
            linecache.lazycache(code.co_filename, trace.tb_frame.f_globals)
            # Somebody may have edited it, and loaded it again.
            linecache.checkcache(code.co_filename)
        lines = known[1]
        if number not in lines:
            name, line = code.co_filename, "" if number is None else linecache.getline(code.co_filename, number).strip()
            lines[number] = f'  File "{name}", line {number}, in {code.co_name}\n' + (f"    {line}\n" if line else "")
        return lines[number]

    def _in_full(self, error: BaseException) -> str:
        """Return what Python says, at three times the cost, with our frames, which have no marks."""
        told = traceback.TracebackException(type(error), error, error.__traceback__, limit=0, compact=True)
        left: list[tuple[Any, BaseException | None]] = [(told, error)]
        while left:
            one, of = left.pop()
            if one is None or of is None:
                continue
            one.stack = _Frames(self._frames(of.__traceback__))
            left += [(one.__cause__, of.__cause__), (one.__context__, of.__context__)]
            if isinstance(of, BaseExceptionGroup):
                left += zip(one.exceptions, of.exceptions, strict=True)
        return "".join(told.format()).rstrip()


class _Frames(list[str]):
    """What stands where a traceback of Python has its frames."""

    def format(self, **_: object) -> list[str]:
        """Return them as they are."""
        return self


def _beyond_ours(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins in the handler; all of it where that was never reached."""
    theirs = trace
    while theirs is not None and theirs.tb_frame.f_globals.get("__package__") == __package__:
        theirs = theirs.tb_next
    return trace if theirs is None else theirs


def _led_to(error: BaseException) -> tuple[str, BaseException | None]:
    """Return what led to ``error``, if anything did, and the words between the two."""
    if error.__cause__ is not None:
        return CAUSED, error.__cause__
    return MET, None if error.__suppress_context__ else error.__context__


def _folded(times: int) -> str:
    return f"  [Previous line repeated {times} more time{'s' if times > 1 else ''}]\n"


def told(error: BaseException, traces: Traces) -> tuple[str, str]:
    """Return ``error`` as a text for the server, and with its traceback for the log, whatever it is."""
    name = name_of(type(error))
    try:
        # A text may be of a class of its own, too.
        text = str.__str__(str(error))
    except BaseException as mute:  # noqa: ASYNC103 - of code that waits for nothing
        text = f"its text cannot be made: {name_of(type(mute))}"
    text = _sendable(f"{name}: {text}" if text else name)
    try:
        trace = _sendable(traces.of(error))
    except BaseException:  # noqa: ASYNC103 - the same
        trace = text
    return text, trace


def _sendable(text: str) -> str:
    """Return ``text`` as one that can be encoded, without its middle if it is too long."""
    if len(text) > ERROR_MAX:
        half = (ERROR_MAX - 100) // 2
        text = text[:half] + _CUT % (len(text) - 2 * half) + text[-half:]
    # To ask that costs a tenth of it.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
