"""Who has waited for a job can be handed it in the step of its commit; no sooner, and once."""

import trio

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.runtime.runtime_world import Answers, VirtualThread, World, settled


def hand_in(world: World, *, takes: bool = True) -> list[r.Reply]:
    """Let the next pull that waits be handed its job, if its client ``takes`` it so; return what it is handed."""
    handed: list[r.Reply] = []

    def hand(reply: r.Reply) -> bool:
        handed.append(reply)
        return takes

    begin = world.core.begin

    def begin_once(command: c.Command, *args, **how):
        begun = begin(command, *args, **how)
        if begun.waits:
            begun.hand = hand
        return begun

    world.core.begin = begin_once  # type: ignore[method-assign]
    world.journal.on_commit.append(world.core.waiting.hand_over)
    return handed


async def test_it_has_its_job_in_the_step_of_the_commit(world: World, answers: Answers):
    handed = hand_in(world)
    await answers.ask("poll", world.pull, wait_ms=1000)
    begun = world.core.begin(c.Push(queue="q", data=c.Raw(b"1")))
    assert not handed
    assert world.journal.commit_at_once()
    [reply] = handed
    assert isinstance(reply, r.PullReply)
    assert reply.job is not None
    await settled()
    # Its task has nothing more to send.
    assert answers["poll"] is None
    assert world.core.finish_nowait(begun) == r.PushReply(id=reply.job.id)
    assert world.engine.jobs[reply.job.id].state.value == "active"


async def test_what_cannot_be_handed_is_its_tasks(world: World, answers: Answers):
    handed = hand_in(world, takes=False)
    world.start(answers.nursery)
    await answers.ask("poll", world.pull, wait_ms=1000)
    job_id = await world.push()
    await settled()
    assert len(handed) == 1
    assert answers["poll"] == job_id


async def test_the_commit_of_an_earlier_batch_hands_nothing_over(world: World, answers: Answers, thread: VirtualThread):
    world.store.inline, thread.delay_s = False, 1
    handed = hand_in(world)
    world.start(answers.nursery, services=False)
    await answers.ask("earlier", world.push, "other", durable=True)
    await answers.ask("poll", world.pull, wait_ms=5000)
    await answers.ask("later", world.push, durable=True)
    await trio.sleep(1.5)
    assert "earlier" in answers
    assert not handed
    assert "poll" not in answers
    await trio.sleep(1)
    assert answers["poll"] == answers["later"]
