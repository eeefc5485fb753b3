"""Tracebacks as Python writes them, but without the marks under what a line did: those cost more than the job that failed.

Owns how what a handler raised looks in a log and at the server; refuses to know what becomes of it.
"""

import linecache
import traceback
from types import TracebackType

PLAIN_FRAMES_MAX = 50  # those of a handler and its libraries; an endless recursion has a thousand
FOLDED_FROM = 4  # equal frames, one after the other, which Python tells as one
HEAD = "Traceback (most recent call last):\n"


def trace_of(error: BaseException) -> str:
    """Return the traceback of ``error`` and of whatever led to it."""
    if not _is_alone(error):
        return _in_full(error)
    told = traceback.TracebackException(type(error), error, None, compact=True)
    frames = [] if error.__traceback__ is None else _frames(error.__traceback__)
    if frames is None:
        return _in_full(error)
    return "".join([HEAD if frames else "", *frames, *told.format_exception_only()]).rstrip()


def _is_alone(error: BaseException) -> bool:
    """Return whether it says nothing of other exceptions."""
    if isinstance(error, BaseExceptionGroup) or error.__cause__ is not None:
        return False
    return error.__context__ is None or error.__suppress_context__


def _frames(trace: TracebackType) -> list[str] | None:
    """Return each frame as two lines; None if there are many, or some are to be folded."""
    frames: list[str] = []
    looked: set[str] = set()
    at: TracebackType | None = trace
    while at is not None:
        code, number = at.tb_frame.f_code, at.tb_lineno
        name = code.co_filename
        if name not in looked:
            looked.add(name)
            linecache.lazycache(name, at.tb_frame.f_globals)
            linecache.checkcache(name)  # somebody may edit it, and reload
        line = linecache.getline(name, number).strip()
        frames.append(f'  File "{name}", line {number}, in {code.co_name}\n' + (f"    {line}\n" if line else ""))
        if len(frames) > PLAIN_FRAMES_MAX or frames[-FOLDED_FROM:].count(frames[-1]) == FOLDED_FROM:
            return None
        at = at.tb_next
    return frames


def _in_full(error: BaseException) -> str:
    """Return what Python says, at three times the cost, without the marks."""
    told = traceback.TracebackException.from_exception(error, compact=True)
    left: list[traceback.TracebackException] = [told]
    while left:
        one = left.pop()
        for frame in one.stack:
            frame.colno = None  # then there are no marks
        left += [led for led in (one.__cause__, one.__context__, *(one.exceptions or ())) if led is not None]
    return "".join(told.format()).rstrip()
