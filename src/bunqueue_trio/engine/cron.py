"""Cron expressions on a calendar without time zones: which local time matches next, and nothing of offsets.

A local time is written as if it were UTC, in whole seconds since 1970; what it is in a zone is the business of
``timing.py``. Parsing and matching are cronsim's.
"""

import functools
import re
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError
from cronsim.cronsim import SYMBOLIC_DAYS, SYMBOLIC_MONTHS

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Short names. There is no ``@reboot``: nothing runs because a server starts."""

# Characters; the longest that anybody needs lists some minutes.
EXPRESSION_MAX = 256

LAST_S = 221_845_392_000
"""The start of the year 9000: nothing is looked for behind it, since the calendar of Python ends in 9999."""

_LONGEST = {
    "second": (60, "a minute"),
    "minute": (60, "an hour"),
    "hour": (24, "a day"),
    "day-of-month": (31, "a month"),
    "month": (12, "a year"),
    "day-of-week": (7, "a week"),
}
"""The longest step that means something in each field."""
_ALLOWED = {
    "second": ("second", "0 to 59"),
    "minute": ("minute", "0 to 59"),
    "hour": ("hour", "0 to 23"),
    "day-of-month": ("day of the month", "1 to 31, L (the last day) or LW (the last weekday)"),
    "month": ("month", "1 to 12 or JAN to DEC"),
    "day-of-week": (
        "day of the week",
        "0 to 7 or SUN to SAT (0 and 7 are SUN), 5L (the last Friday) or MON#2 (the second Monday)",
    ),
}
"""The fields as cronsim calls them, in order: what they are to people, and what may stand in each."""
_FORMS_OF_ALL = "*, and lists (1,2), ranges that go up (1-5) and steps (*/5)"
# Characters of a field.
_SHOWN = 30

_ONE_VALUE = re.compile(r"(?<![^,])(\w+)-\1(?:/[1-9]\d*)?(?=,|$)")
_WORD = re.compile(r"\w+")
_STEP = re.compile(r"/(\d+)")
_NAMES = (dict(zip(SYMBOLIC_MONTHS, range(1, 13), strict=True)), dict(zip(SYMBOLIC_DAYS, range(7), strict=True)))
"""What the names of the last two fields stand for."""
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)
# Fields: without seconds, and with.
_FORMS = (5, 6)


class BadExpression(ValueError):
    """It is no cron expression; the message says what is wrong."""


class Expression:
    """One expression: fields for minute, hour, day, month and day of the week, and for seconds before them if there are six."""

    def __init__(self, text: str) -> None:
        self._matching = CronSim(text, _SOME_DAY)
        parts = text.split()
        # The rule of Debian's cron, which says what times of day are meant: those that are named, or all that pass.
        self.names_times: bool = not any(part.startswith("*") for part in parts[: len(parts) - 3])
        """Whether it names times of day, each of which is to happen once a day; else it runs along with real time."""
        found = self._matching
        clock = frozenset(found.seconds), frozenset(found.minutes), frozenset(found.hours)
        dates = frozenset(found.days), frozenset(found.months), frozenset(map(_with_one_sunday, found.weekdays))
        self.meaning: tuple[object, ...] = (*clock, *dates, found.day_and, self.names_times)
        """What all expressions have in common that have the same slots in every zone, however they are written."""

    def is_by_one_day(self, second: int) -> str | None:
        """Return which of the two days alone lets ``second`` match, as it does; None: both do."""
        day = datetime.fromtimestamp(second, UTC).date()
        of_month, of_week = self._matching.match_dom(day), self._matching.match_dow(day)
        return None if of_month == of_week else "month" if of_month else "week"

    def after(self, second: int) -> int | None:
        """Return the first local time after ``second`` that matches; None: there is none in the next 50 years."""
        self._matching.dt = datetime.fromtimestamp(second, UTC)
        try:
            return int(next(self._matching).timestamp())
        except StopIteration:
            return None


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """Return what ``text`` says.

    Raises:
        BadExpression: it says nothing, or nothing that ever happens.
    """
    expanded = _expanded(text)
    if expanded.strip().startswith("@"):
        raise BadExpression(f"{text.strip()[:20]} is not known: there are {', '.join(MACROS)}")
    if not expanded.isascii() or len(expanded) > EXPRESSION_MAX:
        raise BadExpression(f"it has other than ASCII characters, or more than {EXPRESSION_MAX}")
    parts = expanded.split()
    if len(parts) not in _FORMS:
        raise BadExpression(
            f"it has {len(parts)} field{'s' if len(parts) != 1 else ''}, not 5, or 6 with seconds first"
        )
    try:
        expression = Expression(" ".join(_plain(parts)))
    except (CronSimError, AssertionError, ValueError) as error:
        raise BadExpression(_why_wrong(parts, str(error).removeprefix("Bad "))) from None
    if expression.after(int(_SOME_DAY.timestamp())) is None:
        raise BadExpression("no day is like that")
    return expression


def check(text: str) -> None:
    """Look at an expression that somebody has just written: also at what can be read, and never meant.

    Raises:
        BadExpression: as :func:`parse`, or it has a step that is longer than its field, of which only the first value is left.
    """
    parse(text)
    parts = _expanded(text).split()
    for field, part in zip(list(_LONGEST)[-len(parts) :], parts, strict=True):
        longest, span = _LONGEST[field]
        if any(int(step) > longest for step in _STEP.findall(part)):
            raise BadExpression(
                f"the field of the {_ALLOWED[field][0]} has a step that is longer than {span}, {part[:_SHOWN]!r}: `every` takes any time"
            )


def _expanded(text: str) -> str:
    return MACROS.get(text.strip().lower(), text)


def _plain(parts: list[str]) -> list[str]:
    """Return the fields with each value written in one way, and each range of one value as that value.

    cronsim takes a step in a range of one value for one that goes on to the end of the field.
    """
    names = [dict[str, int]() for _ in parts[2:]] + [*_NAMES]
    return [
        _ONE_VALUE.sub(r"\1", _WORD.sub(functools.partial(_as_number, known), part))
        for known, part in zip(names, parts, strict=True)
    ]


def _with_one_sunday(day: int | tuple[int, int]) -> int | tuple[int, int]:
    return (day[0] % 7, day[1]) if isinstance(day, tuple) else day % 7


def _as_number(names: dict[str, int], found: re.Match[str]) -> str:
    word = found[0]
    return str(int(word)) if word.isdigit() else str(names.get(word.upper(), word))


def _why_wrong(parts: list[str], field: str) -> str:
    """Say which of ``parts`` is wrong, by the name that cronsim has for it, and what may stand there."""
    if field not in _ALLOWED:
        return f"a field is wrong; each takes {_FORMS_OF_ALL}"
    name, values = _ALLOWED[field]
    part = parts[list(_ALLOWED).index(field) - len(_ALLOWED) + len(parts)]
    if field == "day-of-month" and _is_right([*parts[:-2], "*", parts[-1]]):
        return f"no such month has the day {part[:_SHOWN]!r}"
    return (
        f"the field of the {name} is wrong, {part[:_SHOWN]!r}{_meant(field, part)}: it takes {values}; {_FORMS_OF_ALL}"
    )


def _meant(field: str, part: str) -> str:
    """Return which name stands in the field, if something like one does."""
    names = {"month": SYMBOLIC_MONTHS, "day-of-week": SYMBOLIC_DAYS}.get(field, [])
    for word in _WORD.findall(part.upper()):
        near = [name for name in names if word != name and (word.startswith(name) or name.startswith(word))]
        if len(near) == 1:
            return f" (do you mean {near[0]}?)"
    return ""


def _is_right(parts: list[str]) -> bool:
    try:
        Expression(" ".join(_plain(parts)))
    except (CronSimError, AssertionError, ValueError):
        return False
    return True
