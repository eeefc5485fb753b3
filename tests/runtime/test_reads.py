"""A look at a job never tells what a crash could take back; it waits for that one commit and for no other."""

import pytest
import trio

from bunqueue_trio.engine.commands import HANDLERS
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.runtime import core
from tests.runtime.world import Answers, VirtualThread, World
from tests.storage.faulty import Fault

SECOND = 1  # what a commit takes here


@pytest.fixture
async def world(nursery: trio.Nursery, thread: VirtualThread) -> World:
    """A server whose commits take a second, with three jobs, one of them active."""
    world = World()
    world.start(nursery)
    for name in ("one", "two", "three"):
        await world.push(job_id=name)
    assert await world.pull() == "one"
    world.store.inline, thread.delay_s = False, SECOND
    return world


async def look(world: World, job_id: str) -> str | None:
    """The state that a client is told, None for no such job."""
    try:
        reply = await world.core.execute(c.GetState(id=job_id))
    except Refused as refused:
        if refused.status != 404:
            raise
        return None
    assert isinstance(reply, r.StateReply)
    return reply.state


async def busy(world: World, answers: Answers) -> None:
    """Let a commit begin that takes its second, so that what comes next waits for the one after it."""
    await answers.ask("other", world.push, "elsewhere", durable=True)


async def test_a_job_whose_change_waits_for_the_disk_is_shown_when_that_is_a_fact(
    world: World, nursery: trio.Nursery
) -> None:
    answers = Answers(world, nursery)
    await busy(world, answers)
    await answers.ask("ack", world.ack, "one")
    await answers.ask("look", look, world, "one")
    assert "look" not in answers
    await trio.sleep(3 * SECOND)
    assert answers["look"] == "completed"
    assert answers.at_ms["look"] == answers.at_ms["ack"] > 0


async def test_a_job_whose_change_is_being_written_is_shown_when_that_is_a_fact(
    world: World, nursery: trio.Nursery
) -> None:
    answers = Answers(world, nursery)
    await answers.ask("push", world.push, job_id="new", durable=True)
    assert world.journal.writing
    await answers.ask("look", look, world, "new")
    assert "look" not in answers
    await trio.sleep(3 * SECOND)
    assert answers["look"] == "waiting"
    assert answers.at_ms["look"] == answers.at_ms["push"] > 0


async def test_other_jobs_are_shown_at_once(world: World, nursery: trio.Nursery) -> None:
    answers = Answers(world, nursery)
    await busy(world, answers)
    await answers.ask("ack", world.ack, "one")
    for name in ("two", "three"):
        await answers.ask(name, look, world, name)
        assert answers[name] == "waiting"
    assert "ack" not in answers


async def test_a_job_that_was_just_cancelled_is_gone_when_that_is_a_fact(world: World, nursery: trio.Nursery) -> None:
    answers = Answers(world, nursery)
    await busy(world, answers)
    await answers.ask("cancel", world.core.execute, c.Cancel(id="two"))
    await answers.ask("look", look, world, "two")
    assert "look" not in answers
    await trio.sleep(3 * SECOND)
    assert answers["look"] is None
    assert answers.at_ms["look"] == answers.at_ms["cancel"]
    await answers.ask("again", look, world, "two")  # nothing waits for the disk any more
    assert answers.at_ms["again"] == world.now_ms()


async def test_while_the_disk_refuses_a_change_its_job_is_not_shown_and_others_are(nursery: trio.Nursery) -> None:
    world = World([Fault.NONE, Fault.NONE, Fault.NONE, Fault.REFUSED, Fault.REFUSED])
    world.start(nursery)
    answers = Answers(world, nursery)
    await world.push(job_id="one")
    await world.push(job_id="two")
    assert await world.pull() == "one"
    await trio.sleep(1)
    await answers.ask("ack", world.ack, "one")
    assert world.journal.failing is not None
    with pytest.raises(Refused) as refused:
        await look(world, "one")
    assert (refused.value.status, refused.value.retry_after) == (503, 2)
    assert await look(world, "two") == "waiting"
    await trio.sleep(5)
    assert await look(world, "one") == "completed"


async def count(world: World) -> object:
    """A look that is of no job: how many there are."""
    return await world.core.execute(c.Ping())


@pytest.mark.parametrize("settled_by", ["everything", "nothing"])
async def test_a_look_at_no_one_job_waits_for_all_that_has_changed_or_for_nothing(
    world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, settled_by: str
) -> None:
    monkeypatch.setattr(core, "READS", core.READS | {c.Ping})
    monkeypatch.setitem(SPECS, c.Ping, SPECS[c.Ping]._replace(settled_by=settled_by))  # type: ignore[arg-type]
    monkeypatch.setitem(HANDLERS, c.Ping, lambda engine, *_: r.DataReply(data={"jobs": len(engine.jobs)}))
    answers = Answers(world, nursery)
    await answers.ask("before", count, world)
    assert "before" in answers  # all is committed
    await busy(world, answers)
    await answers.ask("written", count, world)
    await answers.ask("ack", world.ack, "one")
    await answers.ask("gathering", count, world)
    assert ("written" in answers, "gathering" in answers) == ((settled_by == "nothing",) * 2)
    await trio.sleep(3 * SECOND)
    if settled_by == "everything":
        assert answers.at_ms["written"] == answers.at_ms["other"] < answers.at_ms["gathering"] == answers.at_ms["ack"]
