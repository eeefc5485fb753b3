"""What callers give a client or worker to keep to: times and numbers, judged where they are given and not when they bite."""

import math
from contextlib import suppress

from bunqueue_trio.config import parse_duration_ms

_PLACES = "_bunqueue_places"  # on a function: the queues whose handler it is, each with the name of the jobs
_NAME_MAX = 256  # the server takes no longer one

Time = float | str
"""Seconds, or a text such as ``"60s"`` or ``"5m"``."""


def seconds_of(name: str, value: object, *, zero: bool) -> float:
    """Return the seconds that ``value`` means; for ever for None. ``zero``: whether it may be none at all.

    Raises:
        TypeError: it is neither a number nor a text.
        ValueError: it is a text that says no time, or is less than it may be.
    """
    if value is None:
        return math.inf
    if isinstance(value, str):
        seconds = _read(name, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise TypeError(f"{name} must be a number of seconds, or a time such as '60s', not {value!r}")
    if not (seconds >= 0 if zero else seconds > 0):
        least = "0 or more" if zero else "more than 0"
        raise ValueError(f"{name} must be {least}, not {value!r}")
    return seconds


def count_of(name: str, value: object) -> int:
    """Return ``value``, which is a whole number from 1.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less than 1.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def name_of_jobs(value: object) -> str | None:
    """Return ``value``, which is a name that jobs can have, or None.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, or longer than the server takes.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"the name of jobs must be a text, not {value!r}")
    if not 1 <= len(value) <= _NAME_MAX:
        raise ValueError(f"the name of jobs must be 1 to {_NAME_MAX} characters, not {len(value)}")
    return value


def note_place(handler: object, queue: str, name: str | None) -> None:
    """Note that ``handler`` is for the jobs of ``queue`` with this ``name``, if it is a function, or else can have a note."""
    with suppress(AttributeError, TypeError):  # of C, or frozen
        setattr(handler, _PLACES, {**getattr(handler, _PLACES, {}), (queue, name): None})


def place_of(handler: object) -> tuple[str, str | None]:
    """Return the queue that ``handler`` is for, and the name of its jobs there.

    Raises:
        TypeError: it is for none.
        ValueError: it is for several.
    """
    places: list[tuple[str, str | None]] = list(getattr(handler, _PLACES, ()))
    if not places:
        raise TypeError(f"{handler!r} is no handler of a worker")
    if len(places) > 1:
        each = (queue if name is None else f"{queue} by the name {name}" for queue, name in places)
        raise ValueError(f"push by queue and name: {handler!r} is the handler of {' and '.join(each)}")
    return places[0]


def _read(name: str, text: str) -> float:
    # A number alone is ms in a setting, and seconds everywhere here.
    if not text.strip()[-1:].isalpha():
        raise ValueError(
            f"{name} must be a time with a unit, such as '60s', '5m' or '500ms', or a number of seconds, not {text!r}"
        )
    try:
        return parse_duration_ms(text) / 1000
    except ValueError:
        raise ValueError(f"{name} must be a time such as '60s', '5m' or '500ms', not {text!r}") from None
