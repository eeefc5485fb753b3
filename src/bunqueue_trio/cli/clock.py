"""What a date and time on some clock means: when it is, and what to say when the clock never shows it, or shows it twice."""

from datetime import UTC, datetime, timedelta, tzinfo
from math import floor
from typing import NamedTuple


class Shown(NamedTuple):
    """When a clock shows a date and time, in epoch ms, and what is special about that, for people."""

    ms: int
    remark: str | None


def when_shown(local: datetime, zone: tzinfo | None) -> Shown:
    """Return when the clock of a zone, or the one here, shows a date and time.

    One that the clock leaves out is the end of what it leaves out, as in an expression; of one that it shows twice the first is meant.

    Raises:
        ValueError, OverflowError, OSError: the calendar has no such time.
    """
    first, second = (local.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    if first <= second:
        twice = f"{_clock(local)} happens twice on this day: the first time is meant" if first < second else None
        return Shown(round(first * 1000), twice)
    # With the offset from before the change the time lies after it, and with the one from after it lies before: the change is in (low, high].
    low, high = floor(second), floor(first)
    behind = _offset(high, zone)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(middle, zone) == behind else (middle, high)
    begin = datetime.fromtimestamp(high, UTC).astimezone(zone)
    shown = _clock(begin) if begin.date() == local.date() else begin.isoformat(" ", "minutes")
    return Shown(high * 1000, f"{_clock(local)} does not exist on this day: {shown} is meant")


def _offset(second: int, zone: tzinfo | None) -> timedelta | None:
    return datetime.fromtimestamp(second, UTC).astimezone(zone).utcoffset()


def _clock(local: datetime) -> str:
    return local.strftime("%H:%M:%S" if local.second else "%H:%M")
