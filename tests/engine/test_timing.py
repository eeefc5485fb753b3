"""When schedules run: against a walk over every minute, and the rules one by one."""

import random
import re
from datetime import UTC, datetime

import pytest

from bunqueue_trio.engine import cron, zones
from bunqueue_trio.engine import timing as timing_module
from bunqueue_trio.engine.timing import Slots, Timing, jitter_ms, last_slots, next_slot, remarks
from tests.engine import minutes
from tests.engine.minutes import YEAR_2024, YEAR_2027

DAY = 86_400
ODD = [
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Casablanca", "Asia/Gaza",
    "Pacific/Chatham", "America/St_Johns", "Asia/Kathmandu", "Europe/London", "Pacific/Apia", "UTC",
]  # fmt: skip
"""Zones that change by an hour, half of one, two, in other months each year, at odd minutes, and not at all."""


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)


def some_field(rng: random.Random, low: int, high: int, likes: list[str]) -> str:
    a, b = sorted(rng.sample(range(low, high + 1), 2))
    return rng.choice(
        [
            "*", f"*/{rng.randint(1, 20)}", str(a), f"{a},{b}", f"{a}-{b}", f"{a}-{b}/{rng.randint(1, 9)}",
            f"{a:02}-{a}/{rng.randint(1, 9)},{b:02}", *likes,
        ]
    )  # fmt: skip


def some_expression(rng: random.Random) -> str:
    """Most often about the small hours, when clocks are changed."""
    hours = ["1", "2", "3", "0-3", "1,2", "2-3", "*/2", "0,1,2,3"]
    day = rng.choice(["*", "*", "*", "L", "*/2", "15", "1-7", "29", "07-7/2"])
    weekday = rng.choice(
        ["*", "*", "*", "SUN", "7", "MON-FRI", "SAT#2", "0L", "*/2", "sat,sun", "0#1", "mon-1/2", "SUN-0/3"]
    )
    month = rng.choice(["*", "*", "*", "MAR", "3,10", "*/2", "APR-NOV", "mar-03/2"])
    return " ".join([some_field(rng, 0, 59, ["0", "30"]), some_field(rng, 0, 23, hours * 2), day, month, weekday])


def by_the_engine(text: str, zone: str, begin: int, end: int) -> list[int]:
    timing, found = Timing(cron=text, timezone=zone), []
    slot = next_slot(timing, begin * 1000 - 1)
    while slot is not None and slot < end * 1000:
        found.append(slot // 1000)
        slot = next_slot(timing, slot)
    return found


def check(zone: str, begin: int, end: int, rng: random.Random, expressions: int) -> None:
    walked = list(minutes.clocks(zone, begin, end))
    for _ in range(expressions):
        text = some_expression(rng)
        try:
            cron.parse(text)
        except cron.BadExpression:
            continue  # 29 April … of no Monday
        expected = minutes.slots(text, walked)
        assert by_the_engine(text, zone, begin, end) == expected, (text, zone)
        after, upto = sorted(rng.sample(range(begin, end), 2))
        among = [slot * 1000 for slot in expected if after < slot <= upto]
        limit = rng.choice([1, 3])
        found = last_slots(Timing(cron=text, timezone=zone), after * 1000, upto * 1000, limit)
        assert found == Slots(among[-limit:], len(among) > limit), (text, zone)


@pytest.mark.thorough
@pytest.mark.untraced
@pytest.mark.parametrize("zone", ODD)
def test_slots_are_those_of_a_walk_over_every_minute(zone: str):
    rng = random.Random(zone)
    for day in minutes.changes(zone, YEAR_2024, YEAR_2027)[:4] or [YEAR_2024]:
        check(zone, day - DAY // 2, day + DAY * 3 // 2, rng, 6)


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.parametrize("zone", ODD)
def test_slots_of_months_are_those_of_a_walk_over_every_minute(zone: str):
    check(zone, YEAR_2024 + 69 * DAY, YEAR_2024 + 105 * DAY, random.Random(zone + "!"), 20)


@pytest.mark.long
@pytest.mark.untraced
@pytest.mark.parametrize("zone", minutes.distinct_zones())
def test_slots_in_every_zone_are_those_of_a_walk_over_every_minute(zone: str):
    """Around each change of three years, and where there are any, through all of these years."""
    rng = random.Random(zone)
    changes = minutes.changes(zone, YEAR_2024, YEAR_2027)
    for day in changes or [YEAR_2024]:
        check(zone, day - DAY // 2, day + DAY * 3 // 2, rng, 6)
    if changes:
        check(zone, YEAR_2024, YEAR_2027, rng, 4)


def test_a_time_that_does_not_exist_runs_when_the_clock_goes_on_and_says_so():
    timing = Timing(cron="30 2 * * *", timezone="Europe/Berlin")
    slot = next_slot(timing, ms(2025, 3, 29, 12))
    assert slot == ms(2025, 3, 30, 1)
    assert remarks(timing, slot) == ["02:30 does not exist on this day: runs at 03:00"]
    assert next_slot(timing, slot) == ms(2025, 3, 31, 0, 30)
    several = Timing(cron="10,30,40,50 2,3 * * *", timezone="Europe/Berlin")
    assert next_slot(several, slot) == ms(2025, 3, 30, 1, 10)
    assert remarks(several, slot) == ["02:10 and 02:30 and 02:40 do not exist on this day: runs at 03:00"]


def test_what_goes_along_with_real_time_leaves_out_what_does_not_exist():
    timing = Timing(cron="*/30 2 * * *", timezone="Europe/Berlin")
    assert next_slot(timing, ms(2025, 3, 29, 12)) == ms(2025, 3, 31)
    hourly = Timing(cron="0 * * * *", timezone="Europe/Berlin")
    assert next_slot(hourly, ms(2025, 3, 30)) == ms(2025, 3, 30, 1)
    assert remarks(hourly, ms(2025, 3, 30, 1)) == []
    assert remarks(Timing(cron="0 3 * * *", timezone="Europe/Berlin"), ms(2025, 3, 30, 1)) == []


def test_a_time_that_comes_twice_runs_once_or_along_with_real_time_and_says_so():
    once, twice = (Timing(cron=f"{minute} 2 * * *", timezone="Europe/Berlin") for minute in ("30", "*/30"))
    first = next_slot(once, ms(2025, 10, 25, 12))
    assert first == ms(2025, 10, 26, 0, 30)
    assert remarks(once, first) == ["02:30 happens twice on this day: runs once, the first time"]
    assert next_slot(once, first) == next_slot(once, ms(2025, 10, 26, 1, 10)) == ms(2025, 10, 27, 1, 30)
    assert remarks(once, ms(2025, 10, 27, 1, 30)) == []
    found = [ms(2025, 10, 25, 12)]
    for _ in range(5):
        found.append(next_slot(twice, found[-1]) or 0)
    assert found[1:5] == [ms(2025, 10, 26, 0), ms(2025, 10, 26, 0, 30), ms(2025, 10, 26, 1), ms(2025, 10, 26, 1, 30)]
    assert remarks(twice, found[2]) == remarks(twice, found[4]) == ["02:30 happens twice on this day: runs both times"]
    assert remarks(Timing(cron="30 1 * * *", timezone="Europe/Berlin"), ms(2025, 10, 25, 23, 30)) == []
    assert remarks(Timing(cron="0 3 * * *", timezone="Europe/Berlin"), ms(2025, 10, 26, 2)) == []


def test_a_day_that_a_zone_leaves_out_runs_when_the_next_begins():
    timing = Timing(cron="0 12 * * *", timezone="Pacific/Apia")
    assert next_slot(timing, ms(2011, 12, 30)) == ms(2011, 12, 30, 10)
    assert next_slot(timing, ms(2011, 12, 30, 10)) == ms(2011, 12, 30, 22)


def test_seconds_are_the_first_of_six_fields():
    timing = Timing(cron="15,45 0 12 * * *")
    assert next_slot(timing, ms(2025, 1, 1)) == ms(2025, 1, 1, 12, 0, 15)
    assert next_slot(timing, ms(2025, 1, 1, 12, 0, 15)) == ms(2025, 1, 1, 12, 0, 45)
    assert next_slot(Timing(cron="* * * * * *"), ms(2025, 1, 1) + 1) == ms(2025, 1, 1, 0, 0, 1)
    gap = Timing(cron="5 30 2 * * *", timezone="Europe/Berlin")
    assert remarks(gap, ms(2025, 3, 30, 1)) == ["02:30:05 does not exist on this day: runs at 03:00"]


@pytest.mark.parametrize(
    "text", [*cron.MACROS, "@Daily", " 0 0 * * * ", "0 0 L * *", "0 0 * * MON#5", "0 0 * * 5L", "0 0 LW * *"]
)
def test_expressions_that_mean_something(text: str):
    assert next_slot(Timing(cron=text), ms(2025, 1, 1)) is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has 0 fields, not 5, or 6 with seconds first"),
        ("* * * *", "it has 4 fields"),
        ("@reboot", "@reboot is not known"),
        ("61 * * * *", "the field of the minute is wrong, '61': it takes 0 to 59; *, and lists"),
        ("0 61 * * * *", "the field of the minute is wrong, '61'"),
        ("60 0 * * * *", "the field of the second is wrong, '60'"),
        ("0 24 * * *", "the field of the hour is wrong, '24': it takes 0 to 23"),
        ("0 0 1 13 *", "the field of the month is wrong, '13': it takes 1 to 12 or JAN to DEC"),
        ("1-5-05 * * * *", "the field of the minute is wrong, '1-5-05'"),
        ("0 0 * * MON#2-2", "the field of the day of the week is wrong, 'MON#2-2'"),
        ("0 0 32 * *", "the field of the day of the month is wrong, '32': it takes 1 to 31, L"),
        ("0 0 * * " + "x" * 99, "the field of the day of the week is wrong, '" + "x" * 30 + "'"),
        ("* * * * FRI-MON", "the field of the day of the week is wrong, 'FRI-MON': it takes 0 to 7 or SUN to SAT"),
        ("*/0 * * * *", "the field of the minute is wrong, '*/0'"),
        ("0 0 30 2 *", "no such month has the day '30'"),
        ("0 0 */31 * MON#5", "no day is like that"),
        ("0 0 ² * *", "it has other than ASCII"),
        ("0," * 200 + "0 * * * *", "it has other than ASCII characters, or more than 256"),
        ("0 0 L-3 * *", "the field of the day of the month is wrong, 'L-3'"),
        ("R * * * *", "the field of the minute is wrong, 'R'"),
        ("0 3 * * MO", "the field of the day of the week is wrong, 'MO' (do you mean MON?): it takes"),
        ("0 3 * * tue-Sunday", "the field of the day of the week is wrong, 'tue-Sunday' (do you mean SUN?)"),
        ("0 3 1 june *", "the field of the month is wrong, 'june' (do you mean JUN?)"),
        ("0 3 1 J *", "the field of the month is wrong, 'J': it takes"),
    ],
)
def test_expressions_that_mean_nothing(text: str, said: str):
    with pytest.raises(cron.BadExpression, match="^" + re.escape(said)):
        cron.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "*/90 * * * *",
            "the field of the minute has a step that is longer than an hour, '*/90': `every` takes any time",
        ),
        ("0,5/61 * * * * *", "the field of the second has a step that is longer than a minute, '0,5/61'"),
        ("0 */48 * * *", "the field of the hour has a step that is longer than a day"),
        ("0 0 1/32 * *", "the field of the day of the month has a step that is longer than a month"),
        ("0 0 1 */13 *", "the field of the month has a step that is longer than a year"),
        ("0 0 * * */8", "the field of the day of the week has a step that is longer than a week"),
        ("* * * *", "it has 4 fields"),
    ],
)
def test_a_step_that_nobody_means_is_refused_where_it_is_written_and_read_where_it_was_stored(text: str, said: str):
    with pytest.raises(cron.BadExpression, match="^" + re.escape(said)):
        cron.check(text)
    if "fields" not in said:
        assert next_slot(Timing(cron=text), ms(2025, 1, 1)) is not None


@pytest.mark.parametrize("text", ["*/60 * * * *", "0 */24 1/31 */12 */7", "*/60 * * * * *", "@daily", "0 0 * * 1#2"])
def test_a_step_as_long_as_the_field_is_the_next_one_of_its_kind(text: str):
    cron.check(text)


def test_of_two_days_one_is_enough_and_it_is_said_which():
    timing = Timing(cron="0 23 1 * MON", timezone="America/New_York")
    found, slot = list[tuple[int, list[str]]](), ms(2025, 11, 28)
    for _ in range(3):
        slot = next_slot(timing, slot) or 0
        found.append((slot, remarks(timing, slot)))
    assert found == [
        # The first of December is a Monday, and the next two are not the first; where they run it is Tuesday in UTC.
        (ms(2025, 12, 2, 4), []),
        (ms(2025, 12, 9, 4), ["it is the day of the week: one of the two days is enough"]),
        (ms(2025, 12, 16, 4), ["it is the day of the week: one of the two days is enough"]),
    ]
    assert remarks(timing, ms(2026, 1, 2, 4)) == ["it is the day of the month: one of the two days is enough"]
    assert remarks(Timing(cron="0 0 */2 * MON"), ms(2025, 12, 1)) == []
    apia = Timing(cron="0 12 30 * *", timezone="Pacific/Apia")
    assert remarks(apia, next_slot(apia, ms(2011, 12, 20)) or 0) == ["12:00 does not exist on this day: runs at 00:00"]


def test_a_complaint_of_the_parser_that_names_no_field_is_passed_on_in_words():
    assert cron._why_wrong(["*"] * 5, "").startswith("a field is wrong; each takes *, and lists")


@pytest.mark.thorough
@pytest.mark.untraced
@pytest.mark.parametrize("seed", range(300))
def test_whatever_is_written_is_an_expression_or_refused(seed: int):
    rng = random.Random(seed)
    text = " ".join("".join(rng.choices("0123456789*/,-#LWSUNmon@?", k=rng.randint(1, 5))) for _ in range(5))
    try:
        timing = Timing(cron=text)
        cron.parse(text)
    except cron.BadExpression:
        return
    slot = next_slot(timing, ms(2025, 1, 1))
    assert slot is not None
    assert last_slots(timing, ms(2025, 1, 1), slot, 1).times == [slot]


def test_every_counts_from_its_anchor_however_late_it_is_asked():
    timing = Timing(every=1000, anchor=300)
    assert [next_slot(timing, after) for after in (0, 299, 300, 301, 1299, 1300)] == [300, 300, 1300, 1300, 1300, 2300]
    assert next_slot(Timing(every=60_000), 5_000_000_000_001) == 5_000_000_040_000
    assert last_slots(Timing(every=7), 0, 10**15, 2) == Slots([10**15 - 10**15 % 7 - 7, 10**15 - 10**15 % 7], more=True)
    assert last_slots(Timing(every=7, end=20), 0, 10**15, 5) == Slots([7, 14], more=False)
    assert remarks(timing, 300) == []


def test_at_is_once():
    assert next_slot(Timing(at=500), 499) == 500
    assert next_slot(Timing(at=500), 500) is None
    assert last_slots(Timing(at=500), 0, 10**15, 3) == Slots([500], more=False)
    assert last_slots(Timing(at=500), 500, 10**15, 3) == Slots([], more=False)


def test_nothing_is_before_the_start_or_after_the_end():
    timing = Timing(every=100, start=250, end=500)
    assert next_slot(timing, 0) == 300
    assert next_slot(timing, 499) == 500
    assert next_slot(timing, 500) is None
    assert next_slot(Timing(every=100, start=200), 0) == 200
    daily = Timing(cron="@daily", start=ms(2025, 1, 1), end=ms(2025, 1, 2))
    assert next_slot(daily, 0) == ms(2025, 1, 1)
    assert next_slot(daily, ms(2025, 1, 1)) == ms(2025, 1, 2)
    assert next_slot(daily, ms(2025, 1, 2)) is None


def test_the_calendar_ends():
    assert next_slot(Timing(cron="@daily"), ms(8999, 12, 31) + 86_400_000 + 1) is None
    assert next_slot(Timing(cron="@daily"), 2**53) is None
    assert next_slot(Timing(cron="@yearly", timezone="Europe/Berlin"), 2**53) is None


def test_what_no_day_is_like_never_comes():
    assert timing_module._next_match(cron.Expression("0 0 */31 * MON#5"), "UTC", 0) is None


def test_the_jitter_of_a_slot_is_always_the_same_and_spread():
    assert jitter_ms("a", 1, 1000) == jitter_ms("a", 1, 1000)
    drawn = [jitter_ms(f"name-{n}", 5, 1000) for n in range(2000)]
    assert min(drawn) < 10
    assert 990 < max(drawn) < 1000
    assert 450 < sum(drawn) / len(drawn) < 550
    assert jitter_ms("a", 1, 0) == 0


@pytest.mark.parametrize(
    ("utc", "said"),
    [
        ((2027, 10, 30, 23, 59), []),
        ((2027, 10, 31, 0, 30), ["02:30 happens twice on this day: runs the first time"]),
        ((2027, 10, 31, 1, 30), ["02:30 happens twice on this day: runs the second time"]),
        ((2027, 10, 31, 2), []),
        ((2027, 3, 28, 1), []),
    ],
)
def test_a_time_that_is_said_once_and_comes_twice_says_which_one_it_is(utc: tuple[int, ...], said: list[str]):
    timing = Timing(at=ms(*utc), timezone="Europe/Berlin")
    assert remarks(timing, ms(*utc)) == said


def test_zones_are_those_of_the_package_and_have_a_version():
    assert {"Europe/Berlin", "UTC", "America/New_York"} <= zones.names()
    assert "../etc/passwd" not in zones.names()
    assert zones.version().startswith("20")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("0 9-9/2 * * *", "0 9 * * *"),
        ("0 0 1-1/2,5 * *", "0 0 1,5 * *"),
        ("0 0 * * MON-mon/3", "0 0 * * MON"),
        ("0 3 * * MON-1/2", "0 3 * * MON"),
        ("0 3 7-07/1 * *", "0 3 7 * *"),
        ("05-5/2 * * * *", "5 * * * *"),
        ("005-05/10 * * * * *", "5 * * * * *"),
        ("0 3 * * SUN-0/3", "0 3 * * SUN"),
        ("0 3 * * 7-007/3", "0 3 * * 0"),
        ("0 3 1 jan-1/2 *", "0 3 1 1 *"),
        ("0 3 1 02-Feb/2,5-may *", "0 3 1 2,5 *"),
    ],
)
def test_a_step_in_a_range_of_one_value_leads_nowhere(said: str, meant: str):
    found = [last_slots(Timing(cron=text), 0, 40 * DAY * 1000, 99).times for text in (said, meant)]
    assert found[0] == found[1] != []
