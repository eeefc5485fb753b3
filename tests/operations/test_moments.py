"""A moment of the past as people type it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from bunqueue_trio.pages.moments import past_moment

NOW = round(datetime(2026, 11, 30, 2, 30, 15, 500_000, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("02:05", "2026-11-30T02:05:00"), ("2:05", "2026-11-30T02:05:00"), ("02:05:07", "2026-11-30T02:05:07"),
        ("02:30:15", "2026-11-30T02:30:15"),
        # The last one: today's is still to come.
        ("23:50", "2026-11-29T23:50:00"), ("02:30:16", "2026-11-29T02:30:16"),
        ("2026-11-30 02:05", "2026-11-30T02:05:00"), ("2026-11-30T02:05:00Z", "2026-11-30T02:05:00"), ("2026-11-30T03:05+01:00", "2026-11-30T02:05:00"),
        ("2026-11-29", "2026-11-29T00:00:00"), ("15m", "2026-11-30T02:15:15.500"), ("2h", "2026-11-30T00:30:15.500"), (" 15m ", "2026-11-30T02:15:15.500"),
    ],
)  # fmt: skip
def test_a_moment_is_read_as_it_is_meant(text: str, said: str):
    wanted = datetime.fromisoformat(said).replace(tzinfo=UTC)
    assert past_moment(text, NOW, UTC) == round(wanted.timestamp() * 1000)


def test_a_clock_is_that_of_its_zone():
    east = timezone(timedelta(hours=5))
    assert past_moment("02:05", NOW, east) == round(datetime(2026, 11, 30, 2, 5, tzinfo=east).timestamp() * 1000)
    assert past_moment("2026-11-30 02:05", NOW, east) == past_moment("2026-11-29 21:05", NOW, UTC)


@pytest.mark.parametrize(
    "text", ["", "25:00", "02:60", "yesterday", "2026-13-01", "15", "-15m", "9" * 400 + "d", "2026-11-30 02:05 pm"]
)
def test_what_is_no_moment_is_refused(text: str):
    with pytest.raises(ValueError, match="is no time such as 02:05"):
        past_moment(text, NOW, UTC)
