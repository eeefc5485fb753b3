"""Whatever a server does asks a store that is a network away beside its steps: no step waits, and nothing is lost while it is asked.

The store of these tests can be read in no other way: see :class:`DistantStore`.
"""

from functools import partial

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.config import FIRED_TOGETHER
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.runtime.services import RerunRunner, looped
from tests.runtime.runtime_world import AWAY_S, Answers, World, store

BUSY_S = 0.001


async def put(world: World, name: str, every: int, **fields: object) -> None:
    schedule = c.PutSchedule(name=name, queue=name, data=Raw(b"1"), every=every, overlap="allow", **fields)  # type: ignore[arg-type]
    await world.core.execute(schedule)


def runs(world: World, name: str) -> int:
    return world.engine.planner.progress[name].runs


async def busy(world: World) -> None:
    """Come in any moment, with what changes something, looks, or asks the archive itself."""
    while True:
        await world.push("other")
        await world.core.execute(c.GetJobs(queue="other", state="completed"))
        await trio.sleep(BUSY_S)


async def dead(world: World, queue: str, **options: str) -> str:
    job_id = await world.push(queue, max_attempts=1, **options)
    assert await world.pull(queue) == job_id
    await world.fail(job_id)
    return job_id


# --- schedules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("look_s", [0.001, 0.2])
async def test_no_slot_is_lost_to_who_comes_in_the_moment_in_which_it_is_due(
    distant: World, nursery: trio.Nursery, look_s: float
):
    every = {f"t{i}": 100 * i for i in range(1, 6)}
    before: dict[str, int] = {}
    for name, ms in every.items():
        before[name] = distant.clock.now() // ms
        await put(distant, name, ms)
    store(distant).look_s = look_s
    for _ in range(4):
        nursery.start_soon(busy, distant)
    await trio.sleep(10)
    due = {name: distant.clock.now() // ms - before[name] for name, ms in every.items()}
    for name, n in due.items():
        late = 1 + 2 * 2 * look_s * 1000 // every[name]
        assert n - late <= runs(distant, name) <= n, name
        assert len(distant.engine.planner.skips(name)) == 0
        assert distant.engine.queues[name].counts[State.WAITING] == runs(distant, name)


async def test_a_slot_whose_question_is_not_answered_stays_due_and_takes_nothing_of_a_limit(distant: World):
    await put(distant, "s", 1000, limit=3)
    store(distant).blind = True
    await trio.sleep(5)
    assert runs(distant, "s") == 0
    assert distant.engine.planner.due is not None
    assert distant.engine.planner.due <= distant.clock.now()
    store(distant).blind = False
    await trio.sleep(30)
    assert runs(distant, "s") == 3
    assert distant.engine.queues["s"].counts[State.WAITING] == 3


async def test_slots_run_as_they_were_due_however_long_the_question_takes(distant: World):
    await put(distant, "s", 3_600_000, misfire="skip")
    store(distant).look_s = 90
    await trio.sleep(3600 + 200)
    assert runs(distant, "s") == 1
    assert distant.engine.planner.late == 0


async def test_who_changes_something_does_not_wait_for_what_schedules_ask(distant: World):
    await put(distant, "s", 1000)
    store(distant).look_s = 5
    await trio.sleep(1.5)
    with trio.fail_after(3 * AWAY_S):
        await distant.push()
    assert runs(distant, "s") == 0


async def test_schedules_that_are_due_at_once_are_asked_for_together(distant: World):
    n = 3 * FIRED_TOGETHER
    for i in range(n):
        await put(distant, f"s{i}", 3_600_000)
    store(distant).asked.clear()
    await trio.sleep(3600)
    assert [runs(distant, f"s{i}") for i in range(n)] == [1] * n
    assert store(distant).asked == ["outcomes"] * 3


async def test_a_step_lets_no_more_run_than_it_may_however_many_were_asked_for(distant: World):
    for i in range(20):
        await put(distant, f"s{i}", 1000, misfire="all", misfire_max=25)
    store(distant).blind = True
    await trio.sleep(20)
    sizes: list[int] = []
    distant.journal.on_commit.append(lambda batch, _: sizes.append(len(batch.new)))
    store(distant).blind = False
    await trio.sleep(5)
    assert sum(sizes) > 400
    assert max(sizes) <= 110


@pytest.mark.parametrize("command", [c.DeleteSchedule(name="s"), c.PauseSchedule(name="s")])
async def test_a_schedule_that_is_deleted_or_paused_while_it_asks_does_not_run(distant: World, command: c.Command):
    await put(distant, "s", 10_000)
    await put(distant, "other", 10_000)
    store(distant).look_s = 2
    await trio.sleep(11)
    await distant.core.execute(command)
    await trio.sleep(8)
    assert "s" not in distant.engine.queues
    assert runs(distant, "other") == 1


async def test_a_job_that_has_been_there_is_found_in_the_archive(distant: World):
    await put(distant, "s", 10_000)
    slot = distant.engine.planner.slots["s"]
    job_id = await distant.push("s", job_id=f"s@{slot}")
    assert await distant.pull("s") == job_id
    await distant.ack(job_id)
    await trio.sleep(5)
    assert job_id not in distant.engine.jobs
    await trio.sleep(7)
    assert [skip.why for skip in distant.engine.planner.skips("s")] == [f"job {job_id} was there already"]
    assert distant.engine.totals.pushed == 1


async def test_a_slot_that_waits_for_a_job_before_it_runs_when_that_has_ended(distant: World):
    await distant.core.execute(c.PutSchedule(name="s", queue="q", every=1000, overlap="queue"))
    first = await distant.pull(wait_ms=5000)
    await trio.sleep(3)
    await distant.ack(first or "")
    with trio.fail_after(6 * AWAY_S):
        assert await distant.pull(wait_ms=1000) is not None


# --- what goes on by itself -------------------------------------------------------------------------


async def test_a_rerun_asks_beside_its_steps(distant: World, nursery: trio.Nursery):
    nursery.start_soon(looped(RerunRunner(distant.core, distant.engine, distant.store)))
    for _ in range(5):
        await dead(distant, "q")
    await distant.core.execute(c.RerunDlq(filter=c.Filter(queue="q"), force=True, count=5, rate=5))
    await trio.sleep(5)
    assert distant.engine.queues["q"].counts[State.WAITING] == 5


async def test_a_rerun_that_is_stopped_while_it_asks_retries_nothing_more(distant: World, nursery: trio.Nursery):
    for _ in range(5):
        await dead(distant, "q")
    await distant.core.execute(c.RerunDlq(filter=c.Filter(queue="q"), force=True, count=5, rate=5))
    (one,) = distant.engine.reruns.values()
    before = one.retried
    store(distant).look_s = 2
    nursery.start_soon(looped(RerunRunner(distant.core, distant.engine, distant.store)))
    await trio.sleep(1)
    await distant.core.execute(c.StopRerun(rerun=one.id))
    await trio.sleep(20)
    assert (one.is_under_way, one.retried) == (False, before)


async def test_the_slices_of_an_act_ask_beside_their_steps(distant: World):
    for _ in range(250):
        await dead(distant, "q")
    reply = await distant.core.execute(c.ActOnJobs(filter=c.Filter(queue="q"), action="retry", limit=1000))
    assert isinstance(reply, r.ActReply)
    assert (reply.count, reply.next) == (250, None)


async def test_an_act_whose_next_slice_cannot_be_read_says_how_far_it_is(distant: World, nursery: trio.Nursery):
    for _ in range(600):
        await dead(distant, "q")
    answers = Answers(distant, nursery)
    act = c.ActOnJobs(filter=c.Filter(queue="q"), action="retry", limit=1000)
    await answers.ask("act", distant.core.execute, act)
    while "q" not in distant.engine.queues or not distant.engine.queues["q"].counts[State.WAITING]:  # noqa: ASYNC110 - nobody tells
        await trio.sleep(AWAY_S / 2)
    store(distant).blind = True
    await trio.sleep(10)
    assert isinstance(answers["act"], r.ActReply)
    assert 0 < answers["act"].count < 600
    assert answers["act"].next is not None


# --- who looks --------------------------------------------------------------------------------------


async def test_who_works_may_not_revive_a_dead_letter_that_has_left_memory(distant: World):
    job_id = await dead(distant, "q")
    await trio.sleep(1)
    assert job_id not in distant.engine.jobs
    with pytest.raises(Refused) as refused:
        await distant.core.execute(c.MoveToWait(id=job_id), by=By("worker", "", Role.WORK))
    assert refused.value.status == 403
    await distant.core.execute(c.MoveToWait(id=job_id), by=By("ann", "", Role.ADMIN))
    assert distant.state(job_id) is State.WAITING


async def test_lists_of_many_queues_are_answered_page_by_page(distant: World):
    """Each queue is a question, and there are more of them than a page asks."""
    ids = {await dead(distant, f"q{i}") for i in range(60)}
    found: set[str] = set()
    after = None
    while True:
        page = await distant.core.execute(c.FindJobs(state="failed", limit=100, after=after))
        assert isinstance(page, r.FoundReply)
        found |= {job.id for job in page.jobs}
        after = page.next
        if after is None:
            break
    assert found == ids
    groups = await distant.core.execute(c.DeadGroups(limit=100))
    assert sum(each.count for each in groups.groups) == 60


ABOUT_A_JOB = (c.GetJob, c.GetState, c.GetResult, c.GetLogs, c.GetAttempts, c.GetTimeline, c.Why, c.GetProgress)


async def test_people_look_at_whatever_has_ended(distant: World):
    job_id = await dead(distant, "q")
    await put(distant, "s", 3_600_000)
    await trio.sleep(1)
    look = distant.core.peek
    for kind in ABOUT_A_JOB:
        await look(kind(id=job_id))
    for command in (
        c.GetJobs(queue="q", state="failed"), c.Dlq(queue="q"), c.DlqGroups(queue="q"), c.DeadGroups(), c.FindJobs(queue="q"), c.Actions(),
        c.GetScheduleRuns(name="s"), c.ListReruns(), c.GetQueue(queue="q"), c.GetFigures(queue="q"),
    ):  # fmt: skip
        await look(command)
    assert set(store(distant).asked) >= {"find", "records", "trail", "first_seen", "events_after", "traces"}


async def test_who_looks_learns_that_the_store_does_not_answer(distant: World):
    job_id = await dead(distant, "q")
    await trio.sleep(1)
    store(distant).blind = True
    with pytest.raises(Exception, match=r"simulated|read"):
        await distant.core.peek(c.GetJob(id=job_id))


async def test_a_change_that_asks_without_being_asked_for_changes_nothing(distant: World):
    """Outside of :meth:`Core.knowing` nobody knows anything of the archive: it is refused, and not waited for."""
    with pytest.raises(Exception, match=r"kind=.find"):
        distant.core.step(partial(lambda now: distant.engine.archive.find("a")))
