"""When a schedule runs: the slots of a timing are a function of the timing alone, never of when it was asked or last ran.

Theory of operation. Between two changes of its offset a zone is a calendar shifted by a constant, so slots are looked for
period by period. An expression that names its times of day (see :mod:`bunqueue_trio.engine.cron`) runs once for each of
them: one that is skipped on a day runs when the clock goes on, and one that comes twice runs the first time. Any other goes
along with real time: what is skipped is skipped, and what comes twice runs twice.
"""

import functools
from hashlib import sha256

from msgspec import Struct

from bunqueue_trio.engine import cron, zones

_SECOND_MS = 1000


class Timing(Struct, frozen=True, omit_defaults=True):
    """When: by an expression in a zone, every ``every`` ms counted from an anchor, or once. Times in epoch ms."""

    cron: str | None = None
    timezone: str = "UTC"
    every: int | None = None
    anchor: int = 0
    at: int | None = None
    start: int | None = None
    end: int | None = None


class Slots(Struct, frozen=True):
    """The last slots of a time, oldest first, and whether there are others before them."""

    times: list[int]
    more: bool


def next_slot(timing: Timing, after: int) -> int | None:
    """Return the first slot after ``after``, or None."""
    if timing.start is not None and after < timing.start:
        after = timing.start - 1
    if timing.cron is not None:
        slot = _next_match(cron.parse(timing.cron), timing.timezone, after // _SECOND_MS)
        slot = None if slot is None else slot * _SECOND_MS
    elif timing.every is not None:
        slot = after + timing.every - (after - timing.anchor) % timing.every
    else:
        assert timing.at is not None
        slot = timing.at if timing.at > after else None
    return None if slot is None or (timing.end is not None and slot > timing.end) else slot


def last_slots(timing: Timing, after: int, upto: int, limit: int) -> Slots:
    """Return the last ``limit`` slots after ``after`` and up to ``upto``; it costs the same however many there are before."""
    times: list[int] = []
    gap = _SECOND_MS if timing.every is None else timing.every
    while (slot := _last_slot(timing, after, upto, gap)) is not None:
        if len(times) == limit:
            return Slots(times[::-1], more=True)
        gap = upto + 1 - slot
        times.append(slot)
        upto = slot - 1
    return Slots(times[::-1], more=False)


def _last_slot(timing: Timing, after: int, upto: int, gap: int) -> int | None:
    """Return the last slot after ``after`` and up to ``upto``; it is found the sooner the better ``gap`` is guessed."""
    begin, found = upto, None
    while found is None:
        if begin <= after:
            return None
        begin = max(after, upto - gap)
        found = _slot_between(timing, begin, upto)
        gap *= 4
    end = upto
    # The last one is found or is in (found, end].
    while (later := _slot_between(timing, found, end)) is not None:
        middle = later + (end - later) // 2
        behind = _slot_between(timing, middle, upto)
        if behind is not None:
            found = behind
        else:
            found, end = later, middle
    return found


def _slot_between(timing: Timing, after: int, upto: int) -> int | None:
    slot = next_slot(timing, after)
    return slot if slot is not None and slot <= upto else None


def jitter_ms(name: str, slot: int, most: int) -> int:
    """Return how much later than ``slot`` the schedule ``name`` runs: less than ``most``, and the same whenever it is asked."""
    return int.from_bytes(sha256(f"{name}:{slot}".encode()).digest()[:8]) * most >> 64


def remarks(timing: Timing, slot: int) -> list[str]:
    """Return what is special about a slot, in sentences for people.

    Its time of day does not exist, or comes twice, or its day is one of two that are enough.
    """
    if timing.every is not None:
        return []
    expression, second = None if timing.cron is None else cron.parse(timing.cron), slot // _SECOND_MS
    found = _about_clock(timing.timezone, expression, second)
    # Where a change of the clock has moved the time, it may fall on a day that the schedule does not name.
    if expression is None or found:
        return found
    day = expression.is_by_one_day(second + zones.offset(timing.timezone, second))
    return [] if day is None else [f"it is the day of the {day}: one of the two days is enough"]


def _about_clock(zone: str, expression: cron.Expression | None, second: int) -> list[str]:
    change = zones.next_change(zone, second - zones.DAY_S, second + zones.DAY_S)
    if change is None:
        return []
    if expression is not None and expression.names_times and change.at == second and change.behind > change.before:
        missing = [_clock(local) for local in _matches(expression, second + change.before - 1, second + change.behind)]
        if not missing:
            return []
        verb = "does" if len(missing) == 1 else "do"
        return [f"{' and '.join(missing)} {verb} not exist on this day: runs at {_clock(second + change.behind)}"]
    twice = change.before - change.behind
    local = second + (change.before if second < change.at else change.behind)
    if not change.at - twice <= second < change.at + twice:
        return []
    if expression is None:
        times = f"runs the {'first' if second < change.at else 'second'} time"
    else:
        times = "runs once, the first time" if expression.names_times else "runs both times"
    return [f"{_clock(local)} happens twice on this day: {times}"]


# Many schedules have the same expression, and are due in the same second.
@functools.lru_cache(maxsize=4096)
def _next_match(expression: cron.Expression, zone: str, after: int) -> int | None:
    """Return the first match after ``after``, both in s since 1970."""
    if after >= cron.LAST_S:
        return None
    now, shift = after, zones.offset(zone, after)
    local = expression.after(now + shift)
    while local is not None:
        change = zones.next_change(zone, now, local - shift)
        if change is None:
            repeated = _repeated_until(zone, local - shift) if expression.names_times else None
            if repeated is None:
                return local - shift
            local = expression.after(repeated - 1)
            continue
        # Nothing matches before the change.
        now, edge = change.at, change.at + change.behind
        if change.behind > change.before and local < edge:
            if expression.names_times:
                return now
            local = expression.after(edge - 1)
        elif change.behind < change.before and not expression.names_times:
            local = expression.after(edge - 1)
        shift = change.behind
    return None


def _repeated_until(zone: str, second: int) -> int | None:
    """Return until when the local time is one that was there before, if it is at ``second``."""
    change = zones.next_change(zone, second - zones.DAY_S, second)
    if change is None or second - change.at >= change.before - change.behind:
        return None
    return change.at + change.before


def _matches(expression: cron.Expression, after: int, before: int) -> list[int]:
    found: list[int] = []
    local = expression.after(after)
    while local is not None and local < before and len(found) < _NAMED_MAX:
        found.append(local)
        local = expression.after(local)
    return found


# Times that a remark names.
_NAMED_MAX = 3


def _clock(local: int) -> str:
    hours, rest = divmod(local % zones.DAY_S, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours:02}:{minutes:02}" + (f":{seconds:02}" if seconds else "")
