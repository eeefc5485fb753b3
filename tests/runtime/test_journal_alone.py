"""A task that changes something and has no company commits by itself, and what goes wrong is not its business."""

from collections.abc import Callable

import pytest
import trio

from bunqueue_trio.config import INLINE_BYTES_MAX, INLINE_ROWS_MAX
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import StoreBusy
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.supervisor import supervise
from bunqueue_trio.storage.store import Batch
from tests.runtime.runtime_world import Answers, VirtualThread, World, settled
from tests.storage.faulty import Fault


async def twice(world: World, change: Callable[..., object]) -> None:
    """Change something in one task, twice: the first time it is not known to be alone."""
    await world.push()
    change()
    await world.push()


async def test_it_commits_without_the_flusher_and_hears_and_is_heard_as_ever(world: World, nursery: trio.Nursery):
    world.start(nursery, services=False)
    await world.push()
    for n in range(2, 12):
        await world.push()
        assert world.journal.committed >= n
        assert world.published[-1] == ("pushed", f"id-{n:06}")
        assert len(world.stored()) == n
    await settled()
    assert world.store.written == list(range(1, 12))


class Steps(trio.abc.Instrument):
    """Notes whose turn it was."""

    def __init__(self) -> None:
        self.tasks: set[trio.lowlevel.Task] = set()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.tasks.add(task)


async def test_it_wakes_nobody(world: World, nursery: trio.Nursery):
    """A flusher that finds nothing to do would be a switch of tasks and a look at the kernel for each change."""
    world.start(nursery, services=False)
    await world.push()
    await settled()
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    for _ in range(10):
        await world.push()
        await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(steps)
    assert steps.tasks == {trio.lowlevel.current_task()}


async def test_several_tasks_share_commits(running: World, answers: Answers):
    async def pusher() -> None:
        for _ in range(10):
            await running.push()

    for i in range(10):
        answers.nursery.start_soon(pusher, name=f"pusher {i}")
    await settled()
    assert len(running.stored()) == 100
    assert running.journal.commits <= 25


async def test_a_refused_commit_is_left_to_the_flusher(nursery: trio.Nursery):
    world = World([Fault.NONE, Fault.REFUSED, Fault.REFUSED])
    world.start(nursery)
    await twice(world, lambda: None)
    assert world.now_ms() > 0
    assert world.store.tried == [(1, Fault.NONE), (2, Fault.REFUSED), (2, Fault.REFUSED), (2, Fault.NONE)]
    assert world.published == [("pushed", "id-000001"), ("pushed", "id-000002")]


async def test_an_unexpected_failure_is_the_flushers(nursery: trio.Nursery, logs):
    world = World()
    world.start(nursery)
    commit = world.store.commit

    def fails_once(batch) -> None:
        world.store.commit = commit
        raise RuntimeError("surprise")

    def change() -> None:
        world.store.commit = fails_once

    await twice(world, change)
    assert (world.flusher.restarts, world.flusher.last_error) == (1, "RuntimeError: surprise")
    assert world.store.written == [1, 2]


@pytest.mark.parametrize("where", ["batch", "commit"])
async def test_a_broken_invariant_ends_the_flusher_and_answers_nobody(world: World, where: str, logs):
    answered = False

    def break_it(*_: object) -> None:
        raise AssertionError("broken")

    def change() -> None:
        if where == "commit":
            world.store.commit = break_it  # type: ignore[assignment]
        else:
            next(iter(world.engine.jobs.values())).noted().error = "\ud800"
            world.engine.changed.update(dict.fromkeys(world.engine.jobs.values()))

    async def client() -> None:
        nonlocal answered
        await twice(world, change)
        answered = True

    with pytest.RaisesGroup(AssertionError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            nursery.start_soon(supervise, world.flusher)
    assert not answered
    assert world.flusher.state == "failed"
    assert not world.journal.disk.locked()
    assert list(world.stored()) == ["id-000001"]


@pytest.mark.parametrize(
    ("fields", "calls"),
    [({}, 0), ({"durable": True}, 1), ({"data": b'"' + b"x" * INLINE_BYTES_MAX + b'"'}, 1)],
    ids=["small", "durable", "large"],
)
async def test_what_belongs_into_a_thread_goes_there(
    world: World, nursery: trio.Nursery, thread: VirtualThread, fields: dict[str, object], calls: int
):
    world.store.inline = False
    world.start(nursery, services=False)
    await world.push()
    await world.push(**fields)
    assert thread.calls == calls
    assert len(world.stored()) == 2


async def test_many_changes_of_one_command_go_into_a_thread(world: World, nursery: trio.Nursery, thread: VirtualThread):
    world.store.inline = False
    world.start(nursery, services=False)
    await world.push()
    jobs = [c.JobSpec(data=c.Raw(b"1"))] * (INLINE_ROWS_MAX + 1)
    await world.core.execute(c.PushBatch(queue="q", jobs=jobs))
    assert thread.calls == 1


async def test_while_others_have_the_disk_it_waits(world: World, answers: Answers):
    world.start(answers.nursery, services=False)

    async def client() -> str:
        await world.push()
        async with trio.open_nursery() as nursery:
            held = await nursery.start(_hold, world.journal.disk)
            nursery.start_soon(_let_go_after, held, 5)
            pushed = await world.push()
        return pushed  # noqa: RET504 - not from within the nursery

    await answers.ask("client", client)
    await trio.sleep(4)
    assert "client" not in answers
    assert world.stored() == {"id-000001": State.WAITING}
    await trio.sleep(2)
    assert world.stored() == {"id-000001": State.WAITING, answers["client"]: State.WAITING}


async def _hold(lock: trio.Lock, *, task_status: trio.TaskStatus[trio.Event]) -> None:
    let_go = trio.Event()
    async with lock:
        task_status.started(let_go)
        await let_go.wait()


async def _let_go_after(event: trio.Event, seconds: float) -> None:
    await trio.sleep(seconds)
    event.set()


async def test_a_file_that_another_process_writes_to_is_left_to_the_flusher_and_is_no_trouble(
    world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """It waits for it in a thread; who waits in the step of a command stops everybody."""
    world.start(nursery, services=False)
    await world.push()
    await world.push()
    commit, tried = world.store.commit, list[int]()

    def locked(batch: Batch) -> None:
        tried.append(batch.epoch)
        if len(tried) == 1:
            raise StoreBusy("database is locked")
        assert world.journal.failing is None
        commit(batch)

    monkeypatch.setattr(world.store, "commit", locked)
    await world.push()
    assert tried == [3, 3]
    assert len(world.stored()) == 3


@pytest.mark.parametrize("fault", ["refused", "large"])
async def test_what_a_step_takes_and_cannot_commit_is_left_to_the_flusher_though_nothing_gathers_any_more(
    world: World, nursery: trio.Nursery, thread: VirtualThread, monkeypatch: pytest.MonkeyPatch, fault: str
):
    """A turn tells the flusher of what gathers at its end."""
    world.start(nursery, services=False)
    await settled()
    if fault == "refused":
        world.store.commits = iter([Fault.REFUSED])
    else:
        world.store.inline = False
        monkeypatch.setattr(Batch, "is_small", lambda _: False)
    with world.core.turns.many:
        world.core.begin(c.Push(queue="q", data=c.Raw(b"1")))
        assert not world.journal.commit_at_once()
        assert not world.journal.gathering
    await trio.sleep(1)
    assert len(world.stored()) == 1
