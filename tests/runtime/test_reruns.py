"""Reruns that go on by themselves, a second at a time, as long as new work is welcome."""

from typing import Any

import pytest
import trio

from bunqueue_trio import errors
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import StoreDamaged
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol import rerun_replies as rr
from bunqueue_trio.runtime import services
from bunqueue_trio.runtime.services import RerunRunner, looped
from tests.looks import look
from tests.runtime.runtime_world import World


async def dead(world: World, n: int) -> None:
    for _ in range(n):
        job_id = await world.push(max_attempts=1)
        assert await world.pull() == job_id
        await world.core.execute(c.Fail(id=job_id, error="late"))


async def told(world: World) -> tuple[str, int, int, int]:
    reply = await world.core.execute(c.ListReruns())
    assert isinstance(reply, rr.RerunsReply)
    one = reply.reruns[0]
    return one.state, one.retried, one.open, one.died


async def begin(world: World, nursery: trio.Nursery, **how: int) -> None:
    nursery.start_soon(looped(RerunRunner(world.core, world.engine, world.store)))
    await world.core.execute(c.RerunDlq(filter=c.Filter(queue="q"), force=True, **how))


async def end(world: World, n: int, error: str | None = None) -> None:
    reply = await world.core.execute(c.PullBatch(queue="q", count=n))
    assert isinstance(reply, r.PullBatchReply)
    assert len(reply.jobs) == n
    for job in reply.jobs:
        done = c.Ack(id=job.id) if error is None else c.Fail(id=job.id, error=error, unrecoverable=True)
        await world.core.execute(done)


async def test_the_first_go_at_once_and_the_others_at_their_rate(running: World, nursery: trio.Nursery):
    await dead(running, 300)
    await begin(running, nursery, count=150, rate=150)
    await trio.sleep(1.5)
    assert await told(running) == ("first", 150, 150, 0)
    await trio.sleep(5)
    assert await told(running) == ("first", 150, 150, 0)
    await end(running, 150)
    await trio.sleep(1)
    assert await told(running) == ("rest", 300, 150, 0)
    await end(running, 150)
    assert await told(running) == ("done", 300, 0, 0)


async def test_the_log_tells_of_one_that_has_stopped_by_itself(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    said: list[tuple[str, object]] = []
    monkeypatch.setattr(services._log, "warning", lambda event, **what: said.append((event, what["why"])))
    await dead(running, 30)
    await begin(running, nursery)
    await trio.sleep(1.5)
    await end(running, 3, "again")
    await trio.sleep(5)
    assert await told(running) == ("stopped", 10, 7, 3)
    assert said == [("a rerun has stopped by itself", "by then 3 of 10 had died again, more than 20 %")]


async def test_it_waits_while_its_queue_is_paused_and_while_the_disk_has_no_room(running: World, nursery: trio.Nursery):
    await dead(running, 3)
    await begin(running, nursery)
    await running.core.execute(c.Pause(queue="q"))
    await trio.sleep(3)
    assert await told(running) == ("first", 0, 0, 0)
    running.journal.note_room(nearly_full=True)
    await running.core.execute(c.Resume(queue="q"))
    await trio.sleep(3)
    assert await told(running) == ("first", 0, 0, 0)
    running.journal.note_room(nearly_full=False)
    await trio.sleep(1.5)
    assert await told(running) == ("first", 3, 3, 0)


async def test_it_says_that_the_disk_lets_it_retry_nothing(running: World, nursery: trio.Nursery):
    await dead(running, 5)
    await begin(running, nursery, count=2)
    await trio.sleep(2)
    await end(running, 2)
    running.journal.note_room(nearly_full=True)
    await trio.sleep(2)
    reply = look(running.core, c.ListReruns())
    assert isinstance(reply, rr.RerunsReply)
    assert reply.reruns[0].why is not None
    assert reply.reruns[0].why.startswith("Storage is nearly full")
    running.journal.note_room(nearly_full=False)
    await trio.sleep(2)
    reply = look(running.core, c.ListReruns())
    assert isinstance(reply, rr.RerunsReply)
    assert (reply.reruns[0].why, reply.reruns[0].retried) == (None, 5)


async def test_one_that_cannot_be_read_says_so_and_holds_up_no_other(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    records = running.store.records

    def read(queue: str, *args: Any, **how: Any) -> Any:
        if queue == "damaged":
            raise StoreDamaged("malformed")
        return records(queue, *args, **how)

    lost = await running.push("damaged", max_attempts=1)
    assert await running.pull("damaged") == lost
    await running.fail(lost)
    await dead(running, 3)
    await running.core.execute(c.RerunDlq(filter=c.Filter(queue="damaged"), force=True))
    monkeypatch.setattr(running.store, "records", read)
    await begin(running, nursery)
    await trio.sleep(3)
    reply = look(running.core, c.ListReruns())
    assert isinstance(reply, rr.RerunsReply)
    told = [(one.retried, one.why) for one in reply.reruns]
    assert sorted(told) == [(0, errors.STORAGE_DAMAGED.message), (3, None)]
    monkeypatch.undo()
    await trio.sleep(2)
    assert running.state(lost) is State.WAITING
