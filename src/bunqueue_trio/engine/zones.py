"""Time zones: what the offset of a zone is, and when it changes, by the rules that came with this version.

The rules are those of the package ``tzdata``, never the system's: a schedule means the same on every machine.
"""

import functools
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY_S = 86_400
_YEAR_DAYS = 366
# As a letter that is missing in five.
_NEAR_MAX, _LIKE = 3, 0.85
# Characters of a name that is compared with all cities: 2 ms.
_CITY_MAX = 32
# Years of zones whose changes are remembered: 0.2 ms each to find, 200 bytes to keep.
_KEPT = 8192


class Change(NamedTuple):
    """From ``at`` on, in s since 1970, a zone has the offset ``behind`` instead of ``before``."""

    at: int
    before: int
    behind: int


@functools.cache
def names() -> frozenset[str]:
    """Return the names of all zones."""
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


def near(wanted: str) -> list[str]:
    """Return up to three zones that the unknown name ``wanted`` may stand for: it has another case, no area, or a slip."""
    cities = _cities()
    city = wanted.strip().replace(" ", "_").rpartition("/")[2].lower()
    found = cities.get(city, [])
    if not found and len(city) <= _CITY_MAX:
        found = [name for close in get_close_matches(city, cities, _NEAR_MAX, _LIKE) for name in cities[close]]
    return found[:_NEAR_MAX]


@functools.cache
def _cities() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(names()):
        found.setdefault(name.rpartition("/")[2].lower(), []).append(name)
    return found


@functools.cache
def version() -> str:
    """Return which release of the rules this is, as IANA names it."""
    return str(import_module("tzdata").IANA_VERSION)


@functools.lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """Return a zone by its name, which is one of :func:`names`."""
    assert name in names(), "a name is checked before it becomes a path"
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def offset(name: str, second: int) -> int:
    """Return the offset of a zone in s at ``second`` since 1970."""
    return _offset(zone_of(name), second)


def _offset(zone: ZoneInfo, second: int) -> int:
    found = datetime.fromtimestamp(second, zone).utcoffset()
    assert found is not None
    # Local mean times before the zones have fractions of minutes, and some of seconds; those since 1970 have neither.
    return found // timedelta(seconds=1)


def local_text(name: str, time_ms: int) -> str:
    """Return what the clock of a zone shows at a time, with the offset."""
    return datetime.fromtimestamp(time_ms / 1000, zone_of(name)).isoformat(
        timespec="milliseconds" if time_ms % 1000 else "seconds"
    )


def next_change(name: str, after: int, upto: int) -> Change | None:
    """Return the first change of a zone's offset after ``after`` and not after ``upto``, or None."""
    if name == "UTC":
        return None
    for year in range(datetime.fromtimestamp(after, UTC).year, datetime.fromtimestamp(upto, UTC).year + 1):
        for change in _changes(name, year):
            if after < change.at <= upto:
                return change
    return None


@functools.lru_cache(maxsize=_KEPT)
def _changes(name: str, year: int) -> tuple[Change, ...]:
    """Find the changes in a year of UTC: a look at each day, and between two that differ a closer one."""
    zone = zone_of(name)
    begin, end = (int(datetime(year + n, 1, 1, tzinfo=UTC).timestamp()) for n in (0, 1))
    found = []
    low, before = begin - 1, _offset(zone, begin - 1)
    while low < end - 1:
        high = min(low + DAY_S, end - 1)
        behind = _offset(zone, high)
        if behind != before:
            # It is in (a, b].
            a, b = low, high
            while b - a > 1:
                middle = (a + b) // 2
                a, b = (a, middle) if _offset(zone, middle) != before else (middle, b)
            found.append(Change(b, before, _offset(zone, b)))
            behind = found[-1].behind
            high = b
        low, before = high, behind
    return tuple(found)
