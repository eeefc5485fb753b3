"""Time for the runtime: one clock that never goes back, alarms that are never overslept, bells."""

import random
import time
from typing import Any

import pytest
import trio

from bunqueue_trio.config import CLOCK_LOOK_S
from bunqueue_trio.runtime.alarm import Alarm
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.clock import Clock, ClockWatch
from tests.runtime.runtime_world import START_MS, settled

# --- the clock ------------------------------------------------------------------------------------------


async def test_the_clock_starts_at_the_wall_clock_and_follows_trio(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: START_MS / 1000)
    clock = Clock()
    assert clock.now() == START_MS
    await trio.sleep(1.5)
    assert clock.now() == START_MS + 1500


async def test_a_step_of_the_wall_clock_does_not_move_it(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    before = clock.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    await trio.sleep(1)
    assert clock.now() == before + 1000


@pytest.mark.parametrize("offset_s", [0, 0.1, 12345.6789, 10**6 + 1 / 3])
async def test_a_time_and_back_is_the_same_time_to_the_millisecond(offset_s: float):
    await trio.sleep(offset_s)
    clock = Clock(START_MS)
    for due in (START_MS, START_MS + 1, START_MS + 365 * 86_400_000, START_MS + 999):
        await trio.sleep_until(clock.trio_time(due))
        assert clock.now() >= due


async def test_a_clock_that_is_set_is_warned_of_once_and_shown(logs: list[Any]):
    """And the server's time goes on as it did."""
    clock, ahead_s = Clock(START_MS), 0.0
    watch = ClockWatch(clock, lambda: clock.now() / 1000 + ahead_s)
    levels = []
    for ahead_s in (0, 1, 86_400, 86_401, 86_400, 0, -60):
        before = clock.now()
        await watch.wait_due()
        assert clock.now() == before + CLOCK_LOOK_S * 1000
        await watch.step()
        assert watch.offset_ms == ahead_s * 1000
        levels.append([entry["log_level"] for entry in logs])
        logs.clear()
    assert levels == [[], [], ["warning"], [], [], ["info"], ["warning"]]


async def test_a_clock_that_is_not_the_walls_is_not_compared(logs: list[Any]):
    watch = ClockWatch(Clock(START_MS))
    await watch.step()
    assert (watch.offset_ms, logs) == (0, [])


# --- alarms -----------------------------------------------------------------------------------------------


class Sleeper:
    """A task that waits for an alarm again and again, and notes when it was woken."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.clock = Clock(START_MS)
        self.woken_ms: list[int] = []

    async def run(self) -> None:
        while True:
            await self.alarm.wait_due(self.clock)
            self.woken_ms.append(self.clock.now() - START_MS)
            self.alarm.set(None)

    def set(self, due_ms: int | None) -> None:
        self.alarm.set(None if due_ms is None else START_MS + due_ms)


@pytest.fixture
async def sleeper(nursery: trio.Nursery) -> Sleeper:
    sleeper = Sleeper(Alarm())
    nursery.start_soon(sleeper.run)
    await settled()
    return sleeper


async def test_an_alarm_goes_off_exactly_at_its_time(sleeper: Sleeper):
    sleeper.set(1000)
    await trio.sleep(5)
    assert sleeper.woken_ms == [1000]


async def test_an_alarm_moved_earlier_goes_off_then_and_only_then(sleeper: Sleeper):
    sleeper.set(1000)
    await trio.sleep(0.1)
    for due_ms in (900, 500, 400, 300):
        sleeper.set(due_ms)
    await trio.sleep(5)
    assert sleeper.woken_ms == [300]


async def test_an_alarm_moved_later_goes_off_then(sleeper: Sleeper):
    sleeper.set(300)
    sleeper.set(1000)
    await trio.sleep(5)
    assert sleeper.woken_ms == [1000]


async def test_an_alarm_taken_back_does_not_go_off(sleeper: Sleeper):
    sleeper.set(300)
    sleeper.set(None)
    await trio.sleep(5)
    assert sleeper.woken_ms == []
    sleeper.set(6000)
    await trio.sleep(5)
    assert sleeper.woken_ms == [6000]


async def test_an_alarm_set_in_the_past_goes_off_at_once(sleeper: Sleeper):
    await trio.sleep(1)
    sleeper.set(10)
    await settled()
    assert sleeper.woken_ms == [1000]


async def test_an_alarm_set_before_anybody_sleeps_is_not_lost(nursery: trio.Nursery):
    sleeper = Sleeper(Alarm())
    sleeper.set(200)
    sleeper.set(100)
    nursery.start_soon(sleeper.run)
    await trio.sleep(1)
    assert sleeper.woken_ms == [100]


async def test_a_kick_that_came_with_the_deadline_does_not_wake_anybody_later(sleeper: Sleeper):
    """Both at once: whoever of the two tasks runs first, the kick may be left over."""
    sleeper.set(1000)
    await trio.sleep_until(sleeper.clock.trio_time(START_MS + 1000))
    sleeper.set(999)
    await settled()
    sleeper.set(3000)
    await trio.sleep(10)
    assert sleeper.woken_ms in ([1000, 3000], [1000, 1000, 3000])


async def test_waiting_for_an_alarm_that_is_due_lets_others_run():
    """An avalanche of deadlines is worked off in steps, between which the server serves."""
    alarm, clock = Alarm(), Clock(START_MS)
    alarm.set(START_MS)
    ran = False

    async def other() -> None:
        nonlocal ran
        ran = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(3):
            await alarm.wait_due(clock)
        assert ran


async def test_a_sleeper_that_is_cancelled_leaves_the_alarm_to_the_next_one():
    alarm = Alarm()
    sleeper = Sleeper(alarm)
    sleeper.set(1000)
    with trio.move_on_after(0.5):
        await sleeper.run()
    sleeper.set(700)
    with trio.move_on_after(0.5):
        await sleeper.run()
    assert sleeper.woken_ms == [700]


@pytest.mark.parametrize("seed", range(10))
async def test_however_it_is_set_the_last_word_counts(sleeper: Sleeper, seed: int):
    rng = random.Random(seed)
    expected: list[int] = []
    due: int | None = None
    now = 0
    for _ in range(200):
        due = rng.choice((None, now + rng.randrange(50), now + rng.randrange(1000)))
        sleeper.set(due)
        now += rng.choice((0, 1, 7, 100))
        await trio.sleep_until(sleeper.clock.trio_time(START_MS + now))
        await settled()
        if due is not None and due <= now:
            expected.append(due)
            due = None
    assert sleeper.woken_ms == expected


# --- bells --------------------------------------------------------------------------------------------------


async def test_a_ring_before_the_wait_is_kept_and_many_are_one():
    bell = Bell()
    bell.ring()
    bell.ring()
    with trio.fail_after(0.001):
        await bell.wait()
    with trio.move_on_after(1) as nothing:
        await bell.wait()
    assert nothing.cancelled_caught


async def test_a_wait_that_is_cancelled_loses_no_ring(nursery: trio.Nursery):
    bell = Bell()
    with trio.move_on_after(1):
        await bell.wait()
    bell.ring()
    with trio.fail_after(0.001):
        await bell.wait()
