"""The front door: what a command waits for, and who gets a job that many wait for."""

import pytest
import trio

from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import InvariantBroken, Refused
from bunqueue_trio.protocol import commands as c
from tests.runtime.runtime_world import Answers, World, settled

# --- jobs that are not committed yet ---------------------------------------------------------------------


async def test_a_job_is_not_delivered_before_its_push_is_committed(world: World, answers: Answers):
    await answers.ask("poll", world.pull, wait_ms=60_000)
    await answers.ask("push", world.push)
    await answers.ask("pull", world.push, queue="other")
    await answers.ask("direct", world.pull, "other")
    assert answers.given == []
    await world.journal.flush()
    await settled()
    assert answers["poll"] == answers["push"]
    assert answers["direct"] == answers["pull"]


async def test_a_waiting_pull_may_outlast_its_time_while_the_disk_has_its_job(world: World, answers: Answers):
    await answers.ask("poll", world.pull, wait_ms=1000)
    await answers.ask("push", world.push)
    await trio.sleep(5)
    assert "poll" not in answers
    await world.journal.flush()
    await settled()
    assert answers["poll"] == "id-000001"


async def test_a_job_of_an_earlier_commit_is_delivered_at_once(world: World, answers: Answers):
    await answers.ask("push", world.push)
    await world.journal.flush()
    assert await world.pull() == "id-000001"
    assert world.journal.dirty


@pytest.mark.parametrize("wait_ms", [0, 60_000])
async def test_a_pull_cancelled_while_it_waits_for_the_push_returns_the_job(
    world: World, answers: Answers, wait_ms: int
):
    if wait_ms:
        pull = await answers.ask("pull", world.pull, wait_ms=wait_ms)
    await answers.ask("first", world.push)
    await answers.ask("second", world.push)
    if not wait_ms:
        pull = await answers.ask("pull", world.pull)
    assert world.state("id-000001") is State.ACTIVE
    pull.cancel()
    await settled()
    assert world.state("id-000001") is State.WAITING
    assert world.engine.jobs["id-000001"].attempts == 0
    await world.journal.flush()
    await settled()
    assert await world.pull_batch(2) == [answers["first"], answers["second"]]


async def test_a_waiting_pull_cancelled_in_the_instant_of_the_delivery_returns_the_job_to_its_previous_position(
    running: World, answers: Answers
):
    ids = [await running.push(delay=1000) for _ in range(3)]
    poll = await answers.ask("poll", running.pull, wait_ms=60_000)
    await trio.sleep(0.5)
    poll.cancel()  # it runs only after this task has waited, and so after the step below
    running.skip(1000)
    running.engine.advance(running.clock.now())
    running.core._settle(running.clock.now())
    await settled()
    assert answers.given == []
    assert await running.pull_batch(3) == ids
    assert [running.engine.jobs[job_id].attempts for job_id in ids] == [0, 0, 0]


async def test_what_a_gone_waiting_pull_returns_goes_to_the_next(running: World, answers: Answers):
    first = await answers.ask("first", running.pull, wait_ms=60_000)
    await answers.ask("second", running.pull, wait_ms=60_000)
    first.cancel()
    begun = running.core.begin(c.Push(queue="q", data=c.Raw(b"1")))  # before the cancelled one can run
    await settled()
    assert answers.given == [("second", begun.reply.id)]  # type: ignore[attr-defined]


async def test_a_reply_that_could_not_be_delivered_is_given_back(running: World):
    ids = [await running.push() for _ in range(3)]
    reply = await running.core.execute(c.PullBatch(queue="q", count=2))
    running.core.give_back(reply)
    assert await running.pull_batch(3) == ids
    await running.ack(ids[0])
    running.core.give_back(reply)  # too late: other tokens hold them now
    running.core.give_back(await running.core.execute(c.Pull(queue="empty")))
    running.core.give_back(await running.core.execute(c.GetState(id=ids[1])))
    assert running.state(ids[1]) is State.ACTIVE


# --- connections -------------------------------------------------------------------------------------------


async def test_the_end_of_a_connection_gives_its_jobs_back_and_to_who_waits(running: World, answers: Answers):
    ids = [await running.push() for _ in range(2)]
    assert await running.pull(owner="socket") == ids[0]
    assert await running.pull(owner="other") == ids[1]
    await answers.ask("poll", running.pull, wait_ms=60_000)
    running.core.release("socket", dropped=False)
    await settled()
    assert answers.given == [("poll", ids[0])]
    assert running.state(ids[1]) is State.ACTIVE
    running.core.release("unknown", dropped=True)
    assert [running.engine.jobs[job_id].stalls for job_id in ids] == [0, 0]


async def test_an_orderly_stop_returns_no_job(running: World):
    job_id = await running.push()
    assert await running.pull(owner="socket") == job_id
    running.core.stop_polls()
    running.core.release("socket", dropped=True)
    assert running.state(job_id) is State.ACTIVE


async def test_a_queue_name_is_checked_without_making_the_queue(running: World):
    running.core.check_queue("fine")
    with pytest.raises(Refused):
        running.core.check_queue("not fine")
    with pytest.raises(Refused):
        await running.pull("not fine", wait_ms=1000)
    assert running.core.pulls_waiting == 0
    assert dict(running.engine.queues) == {}


async def test_answers_are_timed_with_their_commit_and_waiting_pulls_without_their_wait(
    running: World, answers: Answers
):
    meters = running.core.meters
    await answers.ask("poll", running.pull, wait_ms=60_000)
    await trio.sleep(30)
    job = await running.push()
    await settled()
    await running.ack(job)
    assert (meters.push.count, meters.pull.count, meters.ack.count) == (1, 1, 1)
    assert meters.pull.sum == 0
    assert meters.wait.count == 1


async def test_a_broken_invariant_of_a_command_is_raised_to_whoever_waits_for_it(running: World):
    """A framework may turn what a handler raises into an answer; the process must end all the same."""

    def broken(now: int) -> str:
        raise AssertionError("planted")

    running.engine.new_id = broken
    with pytest.raises(AssertionError, match="planted"):
        await running.push()
    with pytest.raises(AssertionError, match="planted"):
        await running.core.broken.wait()


async def test_a_broken_invariant_met_for_a_waiter_ends_it_all_the_same(running: World, answers: Answers):
    """The hand-over happens in the step of whoever pushes; nothing of it may reach the disk."""
    await answers.ask("poll", running.pull, wait_ms=60_000)

    def broken(*_: object) -> None:
        raise AssertionError("planted")

    running.engine.deliver = broken  # type: ignore[method-assign, assignment]
    # The flusher would end this test, as it ends the server.
    halted: list[BaseException] = []
    running.core.journal.halt = halted.append  # type: ignore[method-assign]
    with pytest.raises(InvariantBroken, match="planted"):
        await running.push()
    with pytest.raises(InvariantBroken, match="planted"):
        await running.core.broken.wait()
    assert halted


@pytest.mark.parametrize("act", ["advance", "release", "give_back"])
async def test_a_broken_invariant_of_a_deadline_or_an_end_ends_it_all_the_same(running: World, act: str):
    job_id = await running.push()
    reply = await running.core.execute(c.Pull(queue="q"), "socket")

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("planted")

    running.engine.advance = broken  # type: ignore[method-assign, assignment]
    # The flusher would end this test, as it ends the server.
    running.core.journal.halt = lambda _: None  # type: ignore[method-assign]
    acts = {
        "advance": running.core.advance,
        "release": lambda: running.core.release("socket", dropped=True),
        "give_back": lambda: running.core.give_back(reply),
    }
    with pytest.raises(InvariantBroken, match="planted"):
        acts[act]()
    assert running.core.broken.is_set()
    assert running.engine.jobs[job_id].state is State.ACTIVE
