"""A look at a job never tells what a crash could take back; it waits for that one commit and for no other."""

import msgspec
import pytest
import trio

from bunqueue_trio.config import GIVE_UP_S, LOOK_PATIENCE_MS
from bunqueue_trio.engine.commands import HANDLERS
from bunqueue_trio.errors import STORAGE_DOWN, Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import READS, SPECS
from bunqueue_trio.runtime import core
from tests.runtime.runtime_world import Answers, VirtualThread, World
from tests.storage.faulty import Fault

BY_JOB = {c.GetJob, c.GetState, c.GetProgress, c.GetResult, c.WaitJob, c.GetAttempts, c.GetLogs}
"""Looks at one job."""
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
    """The state that a client is answered, None for no such job."""
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


async def test_a_job_whose_change_waits_for_the_disk_is_shown_when_that_is_committed(
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


async def test_a_job_whose_change_is_being_written_is_shown_when_that_is_committed(
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


async def test_a_job_that_was_just_cancelled_is_gone_when_that_is_committed(
    world: World, nursery: trio.Nursery
) -> None:
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


def command_of(kind: type[c.Command]) -> c.Command:
    """Return a list of something that is there, or of nothing."""
    needed = [f.name for f in msgspec.structs.fields(kind) if f.required]
    return kind(**dict.fromkeys(needed, "q"))


async def refused_now(nursery: trio.Nursery) -> World:
    """A server whose disk refuses what has just changed, and will."""
    world = World([Fault.NONE, *[Fault.REFUSED] * 1000])
    world.start(nursery)
    await world.push(job_id="one")
    await world.core.execute(c.Pull(queue="q"))
    await Answers(world, nursery).ask("ack", world.ack, "one")
    assert world.journal.failing is not None
    assert world.journal.last_epoch
    return world


async def listed(world: World, kind: type[c.Command]) -> int:
    """Ask for a list; return the status of its answer."""
    try:
        await world.core.execute(command_of(kind))
    except Refused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize("kind", sorted(READS - BY_JOB, key=lambda kind: kind.__name__))
async def test_whatever_is_not_one_job_is_shown_while_the_disk_refuses(
    nursery: trio.Nursery, kind: type[c.Command]
) -> None:
    """Else nobody could look what is wrong: a list is answered from memory, with what may never be committed."""
    world = await refused_now(nursery)
    with trio.fail_after(0.001):
        assert await listed(world, kind) in (200, 400, 404)


@pytest.mark.parametrize("kind", sorted(BY_JOB, key=lambda kind: kind.__name__))
async def test_a_look_at_one_job_is_committed_or_no_answer(nursery: trio.Nursery, kind: type[c.Command]) -> None:
    world = await refused_now(nursery)
    with pytest.raises(Refused) as refused:
        await world.core.execute(kind(id="one"))
    assert (refused.value.status, str(refused.value)) == (503, STORAGE_DOWN.message)


@pytest.mark.parametrize("kind", [c.FindJobs, c.Actions])
async def test_who_waits_for_a_list_as_the_disk_begins_to_refuse_gets_it(
    world: World, nursery: trio.Nursery, kind: type[c.Command]
) -> None:
    world.store.commits = iter([Fault.REFUSED] * 1000)
    answers = Answers(world, nursery)
    await busy(world, answers)
    begun = world.core.begin(command_of(kind))
    assert begun.epoch
    await answers.ask("list", world.core.finish, begun)
    await trio.sleep(GIVE_UP_S)
    assert "list" not in answers
    await trio.sleep(2 * SECOND)
    assert answers["list"] is begun.reply
    assert isinstance(answers["other"], Refused)
    assert world.core.finish_nowait(begun) is begun.reply, "as the hot loop and the doors end it"


async def test_lists_do_not_wait_for_a_commit_that_hangs(
    world: World, nursery: trio.Nursery, thread: VirtualThread
) -> None:
    thread.delay_s = 3600
    answers = Answers(world, nursery)
    await busy(world, answers)
    await trio.sleep(LOOK_PATIENCE_MS / 1000)
    await answers.ask("patient", listed, world, c.FindJobs)
    assert "patient" not in answers
    await trio.sleep(0.001)
    await answers.ask("list", listed, world, c.FindJobs)
    assert answers["list"] == 200


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


async def test_why_a_job_is_not_running_waits_for_what_is_said_of_its_queue(world: World, nursery: trio.Nursery):
    """A pause that is on its way to the disk is no reason yet: a crash would take it back."""
    answers = Answers(world, nursery)
    await busy(world, answers)
    await answers.ask("pause", world.core.execute, c.Pause(queue="q", reason="no"))
    await answers.ask("why", world.core.execute, c.Why(id="two"))
    assert "why" not in answers
    await trio.sleep(3 * SECOND)
    told = answers["why"]
    assert isinstance(told, r.WhyReply)
    assert told.code == "paused"


@pytest.mark.parametrize(
    "command", [c.GetState(id="one"), c.WaitJob(id="one", timeout=60_000), c.GetResult(id="one", timeout=60_000)]
)
async def test_who_looks_while_the_disk_goes_away_is_not_told_of_a_change(nursery: trio.Nursery, command: c.Command):
    """It has changed nothing: that it may still be committed, and is to be looked at before it is repeated, would be of no use."""
    world = World([Fault.NONE, *[Fault.REFUSED] * 60])
    world.start(nursery)
    await world.push(job_id="one")
    answers = Answers(world, nursery)
    await answers.ask("pull", world.pull)
    await answers.ask("ack", world.ack, "one")
    await answers.ask("look", world.core.execute, command)
    await trio.sleep(2 * GIVE_UP_S)
    refused = answers["look"]
    assert isinstance(refused, Refused)
    assert (refused.status, str(refused)) == (503, STORAGE_DOWN.message)
