"""When a commit meets a damaged page: whoever waits hears it at once, nothing is tried again, reads go on, and a stop is quick."""

import pytest
import trio

from bunqueue_trio import errors
from bunqueue_trio.config import COMMIT_RETRY_MAX_MS
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.runtime.runtime_world import Answers, VirtualThread, World, settled
from tests.storage.faulty import Fault

DAMAGED = errors.STORAGE_DAMAGED.code


def codes(answers: Answers) -> dict[str, str]:
    return {name: answer.code for name, answer in answers.given if isinstance(answer, Refused)}


@pytest.mark.parametrize("durable", [False, True], ids=["in its own step", "by the flusher"])
async def test_whoever_waits_for_it_hears_at_once_that_the_store_is_damaged_and_it_is_never_tried_again(
    nursery: trio.Nursery, logs, durable: bool
):
    world = World([Fault.NONE, Fault.DAMAGED])
    world.start(nursery)
    answers = Answers(world, nursery)
    await world.push()
    await answers.ask("push", world.push, durable=durable)
    assert codes(answers) == {"push": DAMAGED}
    assert answers.at_ms["push"] == 0
    await trio.sleep(600)
    assert world.store.tried == [(1, Fault.NONE), (2, Fault.DAMAGED)]
    assert world.stored() == {"id-000001": State.WAITING}
    assert world.published == [("pushed", "id-000001")]
    assert [(entry["log_level"], entry["event"].partition(":")[0]) for entry in logs] == [
        ("error", "commit failed"), ("critical", "a commit has met damage"),
    ]  # fmt: skip


async def test_changes_of_all_queues_are_refused_before_they_touch_anything_and_reads_go_on(nursery: trio.Nursery):
    world = World([Fault.NONE, Fault.DAMAGED])
    world.start(nursery)
    await world.push()
    with pytest.raises(Refused):
        await world.push(job_id="lost")
    before = (dict(world.engine.jobs), world.engine.epoch)
    for command in (
        c.Push(queue="other", data=c.Raw(b"1")),
        c.Pull(queue="q"),
        c.Pull(queue="q", timeout=10),
        c.Ack(id="id-000001"),
    ):
        with pytest.raises(Refused) as refused:
            await world.core.execute(command)
        # It does not pass.
        assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, DAMAGED, None)
    assert (dict(world.engine.jobs), world.engine.epoch) == before
    reply = await world.core.execute(c.GetState(id="id-000001"))
    assert isinstance(reply, r.StateReply)
    listed = await world.core.execute(c.GetJobs(queue="q", state=State.WAITING))
    assert isinstance(listed, r.JobsReply)
    assert "id-000001" in [job.id for job in listed.jobs]
    # Nobody has an answer that it is there.
    with pytest.raises(Refused) as refused:
        await world.core.execute(c.GetState(id="lost"))
    assert refused.value.code == DAMAGED


async def test_what_gathers_behind_it_is_refused_too(nursery: trio.Nursery, thread: VirtualThread):
    """Also a look that was to wait for the commit, and what comes later, by itself."""
    world = World([Fault.NONE, Fault.DAMAGED])
    world.start(nursery)
    answers = Answers(world, nursery)
    await world.push(delay=60_000)
    world.store.inline, thread.delay_s = False, 1
    await answers.ask("first", world.push, durable=True)
    await answers.ask("second", world.push)
    await answers.ask("look", world.core.execute, c.GetState(id="id-000003"))
    await trio.sleep(2)
    assert codes(answers) == dict.fromkeys(("first", "second", "look"), DAMAGED)
    await trio.sleep(60)
    assert world.state("id-000001") is State.WAITING
    with pytest.raises(Refused) as refused, trio.fail_after(COMMIT_RETRY_MAX_MS / 1000):
        await world.journal.wait_committed(world.engine.epoch)
    assert refused.value.code == DAMAGED
    assert [fault for _, fault in world.store.tried] == [Fault.NONE, Fault.DAMAGED]


async def test_a_disk_that_refuses_first_and_is_found_damaged_then_is_damaged(nursery: trio.Nursery, logs):
    world = World([Fault.REFUSED, Fault.DAMAGED])
    world.start(nursery)
    answers = Answers(world, nursery)
    await answers.ask("push", world.push)
    assert (answers.given, world.journal.is_damaged) == ([], False)
    await trio.sleep(1)
    await settled()
    assert codes(answers) == {"push": DAMAGED}
    assert [entry["log_level"] for entry in logs] == ["error", "critical"]
