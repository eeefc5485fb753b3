"""Group commit: answers and events come after the commit of their batch, and batches form by themselves."""

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.config import COMMIT_LINGER_S, INLINE_BYTES_MAX, INLINE_ROWS_MAX, MIB, PENDING_JOBS_MIN
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.storage.store import Batch
from tests.runtime.runtime_world import Answers, VirtualThread, World, settled


async def test_nothing_is_answered_or_published_before_the_commit(world: World, answers: Answers):
    await answers.ask("push", world.push)
    assert answers.given == []
    assert world.published == []
    await world.journal.flush()
    await settled()
    assert answers["push"] == "id-000001"
    assert world.published == [("pushed", "id-000001")]
    assert world.stored() == {"id-000001": State.WAITING}


async def test_a_push_alone_is_answered_at_once(running: World):
    assert await running.push() == "id-000001"
    assert running.now_ms() == 0
    assert running.store.written == [1]


async def test_everything_that_waits_shares_one_commit(world: World, nursery: trio.Nursery, answers: Answers):
    for i in range(100):
        await answers.ask(f"push {i}", world.push)
    world.start(nursery)
    await settled()
    assert len(answers.given) == 100
    assert world.journal.commits == len(world.store.tried) == 1


async def test_what_comes_during_a_commit_shares_the_next_one(world: World, answers: Answers, thread: VirtualThread):
    world.store.inline, thread.delay_s = False, 1
    world.start(answers.nursery, services=False)
    await answers.ask("slow", world.push, durable=True)
    for i in range(5):
        await answers.ask(f"push {i}", world.push, durable=True)
    await trio.sleep(1.5)
    assert [name for name, _ in answers.given] == ["slow"]
    await trio.sleep(1)
    assert len(answers.given) == 6
    assert world.store.written == [1, 2]


async def test_events_are_published_in_the_order_of_the_changes_each_once(running: World, answers: Answers):
    for i in range(20):
        await answers.ask(f"push {i}", running.push)
        if i % 3 == 0:
            job = await running.pull()
            assert job is not None
            await answers.ask(f"ack {i}", running.ack, job)
    await running.push()
    stored = [event.id for event in running.store.events_after(0, 1000)]
    assert stored == list(range(1, len(running.published) + 1))
    assert len(set(running.published)) == len(running.published)
    for job_id in {job_id for kind, job_id in running.published if kind == "completed"}:
        order = [kind for kind, of in running.published if of == job_id and kind != "drained"]
        assert order == ["pushed", "pulled", "completed"]


async def test_who_only_counts_hears_of_a_commit_when_all_answers_have_left(world: World, answers: Answers):
    heard: list[str] = []
    world.journal.on_told.append(lambda *_: heard.append("counted"))
    world.journal.on_commit.append(lambda *_: heard.append("answered"))
    await answers.ask("push", world.push)
    await world.journal.flush()
    assert heard == ["answered", "counted"]


async def test_a_job_that_changed_several_times_is_written_once_in_its_last_state(world: World, answers: Answers):
    await answers.ask("push", world.push)
    await world.journal.flush()
    batches: list[Batch] = []
    world.journal.on_commit.append(lambda batch, _: batches.append(batch))
    assert await world.pull() == "id-000001"
    await answers.ask("progress", world.core.execute, c.Progress(id="id-000001", progress=50))
    await answers.ask("fail", world.fail, "id-000001")
    await world.journal.flush()
    (batch,) = batches
    assert (len(batch.changed), len(batch.trails), batch.rows()) == (1, 1, 2)
    assert world.stored() == {"id-000001": State.DELAYED}


async def test_a_fact_alone_is_committed_like_any_change(running: World, answers: Answers):
    running.engine.facts.set("pause", "q", b"1")
    running.journal.note()
    await answers.ask("committed", running.journal.wait_committed, running.engine.epoch)
    assert list(running.store.load_facts()) == [("pause", "q", b"1")]
    assert not running.journal.dirty


async def test_an_answer_waits_for_its_own_batch_only(world: World, answers: Answers, thread: VirtualThread):
    world.store.inline, thread.delay_s = False, 1
    world.start(answers.nursery, services=False)
    await answers.ask("first", world.push, durable=True)
    await trio.sleep(0.5)
    await answers.ask("second", world.push, durable=True)
    await trio.sleep(2)
    assert answers.at_ms == {"first": 1000, "second": 2000}


async def test_whoever_waits_late_waits_for_the_batch_that_is_being_written(
    world: World, answers: Answers, thread: VirtualThread
):
    """A WebSocket runs a command in its reader and waits for its commit later."""
    world.store.inline, thread.delay_s = False, 1
    world.start(answers.nursery, services=False)
    begun = world.core.begin(c.Push(queue="q", data=c.Raw(b"1"), durable=True))
    await trio.sleep(0.5)
    await answers.ask("next", world.push, durable=True)
    await world.core.finish(begun)
    assert world.now_ms() == 1000
    assert "next" not in answers
    await world.core.finish(begun)  # and later still there is nothing to wait for
    assert world.now_ms() == 1000


async def test_waiting_for_what_is_committed_does_not_wait(running: World):
    await running.push()
    with trio.fail_after(0):
        await running.journal.wait_committed(0)
        await running.journal.wait_committed(running.journal.committed)


async def test_a_command_that_changed_nothing_is_answered_without_a_commit(running: World):
    await running.core.execute(c.AckBatch(ids=["unknown"]))
    await running.core.execute(c.HeartbeatBatch(ids=[]))
    assert running.store.tried == []


async def test_without_work_the_flusher_sleeps(running: World):
    await running.push()
    await trio.sleep(3600)
    assert running.journal.commits == 1
    assert not running.journal.dirty


async def test_a_wake_up_without_anything_to_write_is_slept_over(running: World):
    running.journal.note()
    await settled()
    assert running.store.tried == []
    await running.push()
    assert running.store.written == [1]


async def test_a_bell_is_rung_by_the_next_commit_once(running: World):
    bell = Bell()
    running.journal.ring_on_commit(bell)
    running.journal.ring_on_commit(bell)
    with trio.move_on_after(1) as nothing_yet:
        await bell.wait()
    assert nothing_yet.cancelled_caught
    await running.push()
    with trio.fail_after(0.001):
        await bell.wait()
    await running.push()
    with trio.move_on_after(1) as not_again:
        await bell.wait()
    assert not_again.cancelled_caught


# --- durable --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
async def test_a_batch_is_durable_when_any_command_in_it_is(world: World, answers: Answers, *, durable: bool):
    batches = []
    world.journal.on_commit.append(lambda batch, _: batches.append(batch.durable))
    await answers.ask("a", world.push)
    await answers.ask("b", world.push, durable=durable)
    await answers.ask("c", world.push)
    await world.journal.flush()
    await answers.ask("d", world.push)
    await world.journal.flush()
    assert batches == [durable, False]
    assert world.journal.durable_commits == durable


# --- where a commit runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "size", "durable", "calls"),
    [
        (1, 2, False, 0),
        (1, 2, True, 1),
        (INLINE_ROWS_MAX, 2, False, 0),
        (INLINE_ROWS_MAX + 1, 2, False, 1),
        (1, INLINE_BYTES_MAX - 1000, False, 0),
        (1, INLINE_BYTES_MAX, False, 1),
    ],
)
async def test_small_commits_run_in_the_loop_and_large_or_durable_ones_in_a_thread(
    world: World, answers: Answers, thread: VirtualThread, jobs: int, size: int, durable: bool, calls: int
):
    world.store.inline = False
    data = b'"' + b"x" * (size - 2) + b'"'
    for i in range(jobs):
        await answers.ask(f"{i}", world.push, data=data, durable=durable)
    await world.journal.flush()
    assert thread.calls == calls
    assert len(world.stored()) == jobs


async def test_a_pull_of_large_jobs_is_committed_in_a_thread(world: World, answers: Answers, thread: VirtualThread):
    """The store writes their rows anew, payloads and all."""
    world.store.inline = False
    await answers.ask("push", world.push, data=b'"%s"' % (b"x" * INLINE_BYTES_MAX))
    await world.journal.flush()
    calls = thread.calls
    world.core.begin(c.Pull(queue="q"))
    await world.journal.flush()
    assert thread.calls == calls + 1


async def test_a_store_that_wants_no_thread_gets_none(world: World, answers: Answers, thread: VirtualThread):
    await answers.ask("push", world.push, durable=True)
    await world.journal.flush()
    assert thread.calls == 0


# --- bounds -----------------------------------------------------------------------------------------------


async def test_a_bounded_number_of_changes_may_wait_and_one_more_is_refused_unchanged(answers: Answers):
    world = World(pending_max=3)
    for i in range(4):
        await answers.ask(f"{i}", world.push)
    refused = answers["3"]
    assert isinstance(refused, Refused)
    assert (refused.status, refused.retry_after) == (503, 1)
    assert len(world.engine.jobs) == world.journal.pending == 3
    await world.journal.flush()
    await answers.ask("4", world.push)
    await world.journal.flush()
    assert len(world.stored()) == 4


async def test_pending_counts_what_is_being_written_too(world: World, answers: Answers, thread: VirtualThread):
    world.store.inline, thread.delay_s = False, 1
    world.start(answers.nursery, services=False)
    await answers.ask("first", world.push, durable=True)
    await answers.ask("second", world.push)
    assert world.journal.pending == 2
    await trio.sleep(5)
    assert world.journal.pending == 0


async def test_changes_that_no_store_can_hold_end_the_server(world: World, answers: Answers):
    """They have left the engine by then, so nobody may hear that a later commit had them."""
    await answers.ask("push", world.push)
    next(iter(world.engine.jobs.values())).noted().error = "\ud800"
    with pytest.raises(AssertionError, match="no store can"):
        await world.journal.flush()
    assert "push" not in answers


async def test_pulls_are_answered_at_once_and_written_with_the_next_batch(world: World, nursery: trio.Nursery):
    world.start(nursery)
    job_id = await world.push()
    written = len(world.store.written)
    assert world.core.begin(c.Pull(queue="q")).epoch == 0
    assert len(world.store.written) == written
    assert world.state(job_id) is State.ACTIVE
    await trio.sleep(2 * COMMIT_LINGER_S)
    assert world.stored() == {job_id: State.ACTIVE}


async def test_a_pull_of_nothing_writes_nothing(running: World):
    assert await running.pull() is None
    await settled()
    assert running.store.tried == []


async def test_a_change_is_refused_when_too_many_bytes_wait(world: World, nursery: trio.Nursery):
    size = 64 * MIB  # as much as may wait, in one request
    push = c.Push(queue="q", data=Raw(b"1"))
    world.core.begin(push, size=size)
    with pytest.raises(Refused) as refused:
        world.core.begin(push, size=1)
    assert (refused.value.status, refused.value.retry_after) == (503, 1)
    world.start(nursery)
    await settled()
    await world.push()  # what is committed waits no more


async def test_requests_that_change_nothing_do_not_add_up(world: World):
    for _ in range(2):
        with pytest.raises(Refused, match="not active"):
            world.core.begin(c.Ack(id="nobody"), size=64 * MIB)
    world.core.begin(c.Push(queue="q", data=Raw(b"1")))


async def test_a_slow_disk_lets_fewer_jobs_wait_than_a_fast_one(answers: Answers, thread: VirtualThread):
    world = World(pending_max=50_000)
    world.store.inline, thread.delay_s = False, 1
    world.start(answers.nursery, services=False)
    many = c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"))] * PENDING_JOBS_MIN)
    await world.core.execute(many)  # a second's worth: ten times the time that an answer should take
    world.core.begin(c.Push(queue="q", data=Raw(b"1")))
    await settled()  # it is being committed
    world.core.begin(many)
    with pytest.raises(Refused, match="overloaded"):
        world.core.begin(many)
    await trio.sleep(3)
    world.core.begin(many)  # and at once when they are committed


async def test_a_disk_that_got_slow_does_not_stop_the_event_loop(world: World, thread: VirtualThread, answers: Answers):
    world.store.inline, thread.delay_s = False, 1
    world.start(answers.nursery, services=False)
    await world.push(durable=True)
    assert world.now_ms() == 1000
    await world.push()  # a small one, which a fast disk is given at once
    assert world.now_ms() == 2000
