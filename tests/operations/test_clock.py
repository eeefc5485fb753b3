"""Dates and times as people write them: what a clock leaves out, and what it shows twice."""

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from bunqueue_trio.cli.clock import when_shown


@pytest.fixture(params=["said", "of this machine"])
def berlin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The zone of Berlin: as it is said, or as None where the clock of this machine is in it."""
    if request.param == "said":
        yield ZoneInfo("Europe/Berlin")
    else:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
            time.tzset()
            yield None
        time.tzset()


@pytest.mark.parametrize(
    ("said", "meant", "remark"),
    [
        ("2034-07-01T08:00", "2034-07-01T06:00", None),
        ("2027-03-28T01:59:59.5", "2027-03-28T00:59:59.5", None),
        ("2027-03-28T02:00", "2027-03-28T01:00", "02:00 does not exist on this day: 03:00 is meant"),
        ("2027-03-28T02:30:15", "2027-03-28T01:00", "02:30:15 does not exist on this day: 03:00 is meant"),
        ("2027-03-28T02:59:59.999", "2027-03-28T01:00", "02:59:59 does not exist on this day: 03:00 is meant"),
        ("2027-03-28T03:00", "2027-03-28T01:00", None),
        ("2027-10-31T02:00", "2027-10-31T00:00", "02:00 happens twice on this day: the first time is meant"),
        ("2027-10-31T02:59", "2027-10-31T00:59", "02:59 happens twice on this day: the first time is meant"),
        ("2027-10-31T03:00", "2027-10-31T02:00", None),
    ],
)
def test_a_time_is_the_first_or_the_end_of_what_a_clock_leaves_out(
    berlin: ZoneInfo | None, said: str, meant: str, remark: str | None
):
    shown = when_shown(datetime.fromisoformat(said), berlin)
    assert (datetime.fromtimestamp(shown.ms / 1000, UTC).replace(tzinfo=None), shown.remark) == (
        datetime.fromisoformat(meant), remark,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "said", "meant", "remark"),
    [
        # Half an hour, and a whole day.
        ("Australia/Lord_Howe", "2026-10-04T02:10", "2026-10-03T15:30", "02:10 does not exist on this day: 02:30 is meant"),
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", "12:00 does not exist on this day: 2011-12-31 00:00+14:00 is meant"),
    ],
)  # fmt: skip
def test_a_clock_may_leave_out_other_times_than_an_hour(zone: str, said: str, meant: str, remark: str):
    shown = when_shown(datetime.fromisoformat(said), ZoneInfo(zone))
    assert (datetime.fromtimestamp(shown.ms / 1000, UTC).isoformat()[:16], shown.remark) == (meant, remark)
