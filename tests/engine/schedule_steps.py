"""Short words for the tests of schedules: put one, look at it, and at what became of its slots."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import scheduled as s
from tests.engine.make import Bench

MINUTE, DAY = 60_000, 86_400_000

NOON = int(datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp() * 1000)


def put(bench: Bench, name: str = "s", **fields: Any) -> s.ScheduleReply:
    reply: s.ScheduleReply = bench.do(c.PutSchedule(name=name, **{"queue": "q", "data": Raw(b"1"), **fields}))
    return reply


def view(bench: Bench, name: str = "s") -> s.ScheduleView:
    shown: s.ScheduleView = bench.do(c.GetSchedule(name=name)).schedule
    return shown


def past(bench: Bench, **fields: Any) -> list[tuple[int, str]]:
    return [(each.slot, each.outcome) for each in bench.do(c.GetScheduleRuns(name="s", **fields)).past]


def refusal(bench: Bench, command: c.Command) -> Refused:
    with pytest.raises(Refused) as caught:
        bench.do(command)
    return caught.value


def jobs(bench: Bench) -> list[str]:
    return sorted(bench.engine.jobs)


@pytest.fixture
def day(bench: Bench) -> Bench:
    """A bench at noon of a day in January."""
    bench.now = NOON
    return bench
