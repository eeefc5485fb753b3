"""Deliveries are answered before their commit, which lingers a little: for another one, that somebody waits for."""

import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.config import COMMIT_LINGER_S, COMMIT_RETRY_MIN_MS
from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.runtime.runtime_world import START_MS, Answers, World, settled
from tests.storage.faulty import Fault


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks but the one that makes it."""

    def __init__(self) -> None:
        self.count = 0
        self._own = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is not self._own


async def test_it_is_written_soon_though_nobody_else_comes(running: World):
    for n in (1, 2):
        job_id = await running.push(queue=f"q{n}")
        assert await running.pull(f"q{n}") == job_id
        await settled()
        assert running.stored()[job_id] is State.WAITING
        await trio.sleep(2 * COMMIT_LINGER_S)
        assert running.stored()[job_id] is State.ACTIVE
    assert not running.journal.dirty


async def test_a_job_that_is_done_by_then_is_written_once(running: World):
    rows: list[tuple[int, int, int]] = []
    running.journal.on_commit.append(
        lambda batch, _: rows.append((len(batch.changed), len(batch.ended), len(batch.finished)))
    )
    await running.push()
    job, token = await running.pull_with_token()
    assert job is not None
    await running.ack(job, token)
    assert rows == [(0, 0, 0), (0, 1, 1)]
    assert running.published == [(kind, job) for kind in ("pushed", "pulled", "drained", "completed")]


async def test_who_waits_for_a_commit_waits_for_no_linger(running: World, answers: Answers):
    waits = {
        "push": c.Push(queue="other", data=Raw(b"1")),
        "state": c.GetState(id="id-000001"),
        "list": c.GetJobs(queue="q", state="active"),
    }
    await running.push()
    for name, command in waits.items():
        await running.push()
        assert await running.pull() is not None
        began = running.now_ms()
        await answers.ask(name, running.core.execute, command)
        assert answers.at_ms[name] == began, name
        assert not running.journal.dirty, name
        await trio.sleep(1)


async def test_it_goes_with_the_turn_of_others_that_wait(running: World):
    """As those do whose answers the hot loop, or the end of a door, writes in the step of the commit."""
    for n in (1, 2):
        job_id = await running.push()
        commits = running.journal.commits
        with running.core.turns.many:
            pulled = running.core.begin(c.Pull(queue="q"))
        assert isinstance(pulled.reply, r.PullReply)
        assert running.journal.commits == commits
        with running.core.turns.many:
            begun = running.core.begin(c.Ack(id=job_id, token=pulled.reply.token))
            assert begun.epoch
            running.journal.hurry()
        assert running.journal.commits == commits + 1
        assert running.journal.committed == begun.epoch == 2 * n
        await trio.sleep(1)
    assert running.journal.commits == 4


async def test_a_turn_sets_its_alarms_when_its_answers_have_left(running: World):
    alarms = []
    running.journal.on_commit.append(lambda *_: alarms.append(running.core.scheduler._due))
    with running.core.turns.many:
        running.core.begin(c.Push(queue="q", data=Raw(b"1"), delay=5000))
        running.journal.hurry()
    assert alarms == [None]
    assert running.core.scheduler._due == running.core.clock.now() + 5000


async def test_many_deliveries_wake_the_flusher_once(nursery: trio.Nursery):
    running = World()
    running.start(nursery, services=False)
    for _ in range(20):
        await running.push()
    await trio.sleep(1)
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    for _ in range(20):
        assert await running.pull() is not None
        await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(steps)
    assert steps.count == 1
    commits = running.journal.commits
    await trio.sleep(1)
    assert running.journal.commits == commits + 1


async def test_what_an_own_step_could_not_commit_is_tried_again_at_once(nursery: trio.Nursery):
    world = World([Fault.NONE, Fault.REFUSED, Fault.REFUSED])
    world.start(nursery)
    await world.push()
    assert await world.pull() is not None
    await settled()
    with world.core.turns.many:
        world.core.begin(c.Push(queue="q", data=Raw(b"1")))
        world.journal.hurry()
    await settled()
    assert world.now_ms() == 0
    assert [fault for _, fault in world.store.tried] == [Fault.NONE, Fault.REFUSED, Fault.REFUSED]
    await trio.sleep(2 * COMMIT_RETRY_MIN_MS / 1000)
    assert not world.journal.dirty


async def test_a_delivery_that_counts_is_written_before_its_answer(running: World, answers: Answers):
    """A rate limit of a queue must not forget it."""
    await running.core.execute(c.RateLimit(queue="q", limit=5, duration=60_000))
    await running.push()
    await answers.ask("pull", running.pull)
    assert answers.at_ms["pull"] == running.now_ms() == 0
    assert not running.journal.dirty


async def test_a_job_is_shown_as_the_disk_will_have_it(running: World, answers: Answers):
    job_id = await running.push()
    assert await running.pull() == job_id
    await answers.ask("get", running.core.execute, c.GetJob(id=job_id))
    reply = answers["get"]
    assert isinstance(reply, r.JobReply)
    assert reply.job.started_at == START_MS
    assert running.stored() == {job_id: State.ACTIVE}
