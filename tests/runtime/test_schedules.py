"""Schedules in a running server: its scheduler wakes for them, in steps, and the log has a line for each that was missed."""

import pytest
import trio
from structlog.testing import capture_logs

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.memory import MemoryStore
from tests.runtime.runtime_world import World, settled

MINUTE = 60_000
DAY = 24 * 60 * MINUTE


async def test_the_scheduler_wakes_for_a_schedule_and_the_job_is_committed_with_it(world: World, nursery: trio.Nursery):
    world.start(nursery)
    await world.core.execute(c.PutSchedule(name="s", queue="q", cron="* * * * *"))
    taken = [await world.pull(wait_ms=60_000)]
    await world.ack(taken[0] or "")
    taken.append(await world.pull(wait_ms=60_000))
    first = world.clock.now() // MINUTE * MINUTE - MINUTE
    assert taken == [f"s@{first}", f"s@{first + MINUTE}"]
    assert [row.key for row in world.store.load_facts() if row.kind == "schedule-progress"] == ["s"]


async def test_a_slot_that_waits_runs_as_soon_as_the_job_before_has_ended(world: World, nursery: trio.Nursery):
    world.start(nursery)
    await world.core.execute(c.PutSchedule(name="s", queue="q", every=1000, overlap="queue"))
    first = await world.pull(wait_ms=60_000)
    await trio.sleep(2.5)
    with trio.move_on_after(0.1) as scope:
        await world.ack(first or "")
        second = await world.pull(wait_ms=60_000)
        assert second is not None
    assert not scope.cancelled_caught


async def test_who_changes_something_meets_no_more_than_a_step_of_many_schedules(world: World):
    for n in range(300):
        world.core.begin(c.PutSchedule(name=f"s{n}", queue="q", cron="* * * * *"))
    world.skip(2 * MINUTE)
    world.core.begin(c.Push(queue="other", data=c.EMPTY.__class__(b"1")))
    assert len(world.engine.jobs) < 100
    for _ in range(20):
        world.core.advance()
    assert len(world.engine.jobs) == 301


async def test_the_log_has_one_line_for_each_schedule_that_was_missed(autojump_clock: object):
    store = MemoryStore()
    before = World(inner=store)
    for name in ("hourly", "daily"):
        before.core.begin(c.PutSchedule(name=name, queue=name, cron=f"@{name}"))
    before.core.begin(c.PutSchedule(name="yearly", queue="q", cron="@yearly"))
    await before.journal.flush()
    with capture_logs() as logs:
        after = World(inner=store)
        after.skip(30 * DAY)
        after.core.advance()
        after.core.advance()
    told = {entry["schedule"]: (entry["event"], entry["log_level"], entry["jobs"]) for entry in logs}
    assert told == dict.fromkeys(("hourly", "daily"), ("a schedule missed its time", "warning", 1))
    assert len(logs) == 2
    assert (logs[0]["first"][:10], logs[0]["last"][:10]) == ("2023-11-14", "2023-12-14")
    await settled()


@pytest.mark.slow
async def test_ten_thousand_schedules_of_one_second_are_all_run(world: World, nursery: trio.Nursery):
    for n in range(10_000):
        world.core.begin(c.PutSchedule(name=f"s{n}", queue="q", cron="* * * * *"))
        if n % 1000 == 0:
            await world.journal.flush()
    world.start(nursery)
    await trio.sleep(MINUTE / 1000)
    await settled()
    for _ in range(1000):
        if len(world.engine.jobs) < 10_000:
            await trio.sleep(0.001)
    assert world.engine.totals.pushed == 10_000
