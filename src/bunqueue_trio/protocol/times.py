"""Times as programs say them, to any client or worker, and what they are in seconds and in milliseconds. It knows no clock."""

import math
from typing import Protocol, overload

from bunqueue_trio.config import parse_duration_ms


class Span(Protocol):
    """What a ``timedelta`` is."""

    def total_seconds(self) -> float:
        """Return how long it is."""
        ...


Time = float | str | Span
"""Seconds, a text such as ``"60s"`` or ``"5m"``, or a timedelta."""


def seconds_of(name: str, value: object, *, zero: bool) -> float:
    """Return the seconds that ``value`` means; for ever for None. ``zero``: whether it may be 0.

    Raises:
        TypeError: it is no :data:`Time`.
        ValueError: it is a text that says no time, or is less than it may be.
    """
    if value is None:
        return math.inf
    seconds = _read(name, value)
    if not (seconds >= 0 if zero else seconds > 0):
        least = "0 or more" if zero else "more than 0"
        raise ValueError(f"{name} must be {least}, not {value!r}")
    return seconds


@overload
def to_ms(name: str, value: Time) -> int: ...
@overload
def to_ms(name: str, value: Time | None) -> int | None: ...
def to_ms(name: str, value: Time | None) -> int | None:
    """Return the milliseconds that ``value`` means, for a server, which judges how many they may be; None for None.

    Raises:
        TypeError: it is no :data:`Time`.
        ValueError: it is a text that says no time, or is endless, or no number at all.
    """
    if value is None:
        return None
    try:
        ms = float(_read(name, value)) * 1000
    except OverflowError:
        ms = math.inf
    if not math.isfinite(ms):
        raise ValueError(f"{name} must have an end, not {str(value)[:20]} seconds")
    # Little is not nothing, which may mean something else.
    return round(ms) or math.ceil(ms)


def _read(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if callable(total := getattr(value, "total_seconds", None)):
        return float(total())
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a number of seconds, or a time such as '60s', not {value!r}")
    # A number alone is ms in a setting, and seconds everywhere here.
    if not value.strip()[-1:].isalpha():
        raise ValueError(
            f"{name} must be a time with a unit, such as '60s', '5m' or '500ms', or a number of seconds, not {value!r}"
        )
    try:
        return parse_duration_ms(value) / 1000
    except ValueError:
        raise ValueError(f"{name} must be a time such as '60s', '5m' or '500ms', not {value!r}") from None
