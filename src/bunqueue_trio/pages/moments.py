"""A moment of the past as somebody types it: ``02:05``, ``2026-11-30 02:05``, or ``15m`` ago."""

import re
from datetime import datetime, timedelta, tzinfo

from bunqueue_trio.config.spelling import parse_typed_ms

HELP = "such as 02:05, 2026-11-30 02:05, or 15m ago"
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")

# A day before or after it is a date, too.
FIRST_YEAR, LAST_YEAR = 1970, 9998


def is_clock(text: str) -> bool:
    """Return whether it is a time of the day alone."""
    return _CLOCK.fullmatch(text) is not None


def past_moment(text: str, now: int, zone: tzinfo | None) -> int:
    """Return the epoch ms of a moment; ``zone`` is that of a clock that says none. A time of the day is the last such one.

    Raises:
        ValueError: it is none; with a sentence that follows the text.
    """
    text = text.strip()
    try:
        if clock := _CLOCK.fullmatch(text):
            today = datetime.fromtimestamp(now / 1000, zone)
            hour, minute, second = (int(part or 0) for part in clock.groups())
            at = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
            return _ms(at if at <= today else at - timedelta(days=1))
        if re.match(r"[0-9]{4}-", text):
            at = datetime.fromisoformat(text)
            if not FIRST_YEAR <= at.year <= LAST_YEAR:
                raise ValueError
            return _ms(at if at.tzinfo is not None or zone is None else at.replace(tzinfo=zone))
        if not re.fullmatch(r"[0-9]+ ?[a-z]+", text):
            raise ValueError
        return max(0, now - parse_typed_ms(text))
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"is no time {HELP}") from None


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
