"""Slots by a walk over every minute, written from the documentation: it shares neither code nor library with the engine.

Times are s since 1970. A minute is what a clock on the wall shows; the walk asks the zone of each minute what that is.
"""

import calendar
import functools
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

NAMES = [
    {},
    {},
    {},
    {name.upper(): n for n, name in enumerate(calendar.month_abbr) if name},
    {name.upper(): n for n, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])},
]
RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


@functools.cache
def zone(name: str) -> ZoneInfo:
    with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def distinct_zones() -> list[str]:
    """Every zone, of those with the same rules one."""
    names = files("tzdata").joinpath("zones").read_text().split()
    rules = {files("tzdata.zoneinfo").joinpath(*name.split("/")).read_bytes(): name for name in names}
    return sorted(rules.values())


def numbers(field: int, text: str) -> set[int]:
    """The values of one field: lists of ranges with steps."""
    found: set[int] = set()
    low, high = RANGES[field]
    for term in text.split(","):
        span, _, step = term.partition("/")
        if span == "*":
            first, last = low, high
        elif "-" in span:
            first, last = (NAMES[field][end] if end in NAMES[field] else int(end) for end in span.split("-"))
        else:
            first = NAMES[field][span] if span in NAMES[field] else int(span)
            last = high if step else first
        found |= set(range(first, last + 1, int(step or 1)))
    return found


class Walk:
    """One expression of five fields."""

    def __init__(self, text: str) -> None:
        minute, hour, self.day, month, self.weekday = text.upper().split()
        self.minutes, self.hours = numbers(0, minute), numbers(1, hour)
        self.months = numbers(3, month)
        self.both = self.day.startswith("*") or self.weekday.startswith("*")
        self.names_times = not (minute.startswith("*") or hour.startswith("*"))
        self.days: dict[date, bool] = {}

    def is_day(self, day: date) -> bool:
        if day not in self.days:
            length = calendar.monthrange(day.year, day.month)[1]
            by_day = day.day == length if self.day == "L" else day.day in numbers(2, self.day)
            weekday = day.isoweekday() % 7
            if "#" in self.weekday:
                which, nth = self.weekday.split("#")
                by_weekday = weekday == min(numbers(4, which)) % 7 and (day.day - 1) // 7 + 1 == int(nth)
            elif re.fullmatch("[0-7]L", self.weekday):
                by_weekday = weekday == int(self.weekday[0]) % 7 and day.day + 7 > length
            else:
                by_weekday = weekday in {n % 7 for n in numbers(4, self.weekday)}
            matches = by_day and by_weekday if self.both else by_day or by_weekday
            self.days[day] = matches and day.month in self.months
        return self.days[day]

    def shows(self, clock: datetime) -> bool:
        return clock.minute in self.minutes and clock.hour in self.hours and self.is_day(clock.date())


def clocks(name: str, begin: int, end: int) -> Iterator[tuple[int, datetime, bool, list[datetime]]]:
    """Each minute of a time: what the clock shows, whether for the second time, and what it has just left out."""
    tz, minute = zone(name), timedelta(minutes=1)
    before = datetime.fromtimestamp(begin - 60, tz).replace(tzinfo=None)
    for second in range(begin, end, 60):
        there = datetime.fromtimestamp(second, tz)
        shown = there.replace(tzinfo=None, fold=0)
        skipped = []
        while before + minute < shown:
            before += minute
            skipped.append(before)
        before = shown
        yield second, shown, bool(there.fold), skipped


def slots(text: str, walked: list[tuple[int, datetime, bool, list[datetime]]]) -> list[int]:
    """When an expression runs, in the minutes of a walk."""
    walk = Walk(text)
    if not walk.names_times:
        return [second for second, shown, _, _ in walked if walk.shows(shown)]
    return [
        second
        for second, shown, again, skipped in walked
        if (walk.shows(shown) and not again) or any(map(walk.shows, skipped))
    ]


def changes(name: str, begin: int, end: int) -> list[int]:
    """The days, by their first second, in which the offset of a zone changes."""
    tz, day = zone(name), 86_400
    offsets = [datetime.fromtimestamp(second, tz).utcoffset() for second in range(begin, end, day)]
    return [begin + n * day for n in range(len(offsets) - 1) if offsets[n] != offsets[n + 1]]


YEAR_2024 = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
YEAR_2027 = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
