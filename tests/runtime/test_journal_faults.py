"""When the disk refuses: nothing is answered, nothing is lost, nothing is written twice, and it heals by itself."""

import random
import threading
from contextlib import nullcontext, suppress
from itertools import pairwise

import pytest
import trio

from bunqueue_trio import errors
from bunqueue_trio.config import COMMIT_RETRY_MAX_MS, COMMIT_RETRY_MIN_MS, GIVE_UP_S, INLINE_BYTES_MAX
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Job, State
from bunqueue_trio.errors import InvariantBroken, Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime import core
from bunqueue_trio.runtime.supervisor import supervise
from tests.patience import PATIENCE_S
from tests.runtime.runtime_world import Answers, VirtualThread, World, settled
from tests.storage.faulty import Crash, Fault, random_faults
from tests.storage.ledger import Ledger, make_job

REFUSED = Fault.REFUSED


async def test_a_refused_batch_is_kept_and_answered_when_the_disk_is_back(nursery: trio.Nursery):
    world = World([REFUSED] * 3)
    world.start(nursery)
    answers = Answers(world, nursery)
    await answers.ask("push", world.push)
    await trio.sleep(0.2)
    assert answers.given == []
    assert world.published == []
    assert world.stored() == {}
    assert world.journal.dirty
    await trio.sleep(10)
    assert answers["push"] == "id-000001"
    assert answers.at_ms["push"] == COMMIT_RETRY_MIN_MS * (1 + 2 + 4)
    assert world.published == [("pushed", "id-000001")]
    assert world.store.tried == [(1, REFUSED)] * 3 + [(1, Fault.NONE)]


async def test_a_batch_that_was_refused_is_tried_again_in_a_thread(nursery: trio.Nursery, thread: VirtualThread):
    """A disk that is down may take long to say so, each time."""
    world = World([REFUSED] * 3)
    world.store.inline = False
    world.start(nursery, services=False)
    answers = Answers(world, nursery)
    await answers.ask("push", world.push)
    await trio.sleep(10)
    assert answers["push"] == "id-000001"
    assert [fault for _, fault in world.store.tried] == [REFUSED] * 3 + [Fault.NONE]
    assert thread.calls == 3


async def test_retries_wait_longer_and_longer_up_to_a_limit(nursery: trio.Nursery):
    world = World([REFUSED] * 1000)
    world.start(nursery)
    answers = Answers(world, nursery)
    times: list[float] = []
    commit = world.store.commit
    world.store.commit = lambda batch: (times.append(trio.current_time()), commit(batch))  # type: ignore[func-returns-value]
    await answers.ask("push", world.push)
    await trio.sleep(60)
    waits = [round((b - a) * 1000) for a, b in pairwise(times)]
    assert waits[:5] == [50, 100, 200, 400, 500]
    assert set(waits[4:]) == {COMMIT_RETRY_MAX_MS}


async def test_while_the_disk_refuses_changes_get_503_unchanged_and_reads_go_on(nursery: trio.Nursery):
    world = World([Fault.NONE, REFUSED, REFUSED])
    world.start(nursery)
    answers = Answers(world, nursery)
    await world.push()
    await answers.ask("stuck", world.push)
    assert world.journal.failing == "simulated: REFUSED"
    before = (dict(world.engine.jobs), world.engine.epoch, list(world.engine.events))
    for command in (
        c.Push(queue="q", data=c.Raw(b"1")),
        c.Pull(queue="q"),
        c.Pull(queue="q", timeout=10),
        c.Ack(id="id-000001"),
    ):
        with pytest.raises(Refused) as refused:
            await world.core.execute(command)
        assert (refused.value.status, refused.value.retry_after) == (503, 2)
    assert (dict(world.engine.jobs), world.engine.epoch, list(world.engine.events)) == before
    reply = await world.core.execute(c.GetState(id="id-000001"))
    assert isinstance(reply, r.StateReply)
    await trio.sleep(5)
    assert world.journal.failing is None
    assert await world.push() == "id-000003"


async def test_the_log_tells_of_the_start_and_the_end_of_a_failure_once(nursery: trio.Nursery, logs):
    world = World([REFUSED] * 5)
    world.start(nursery)
    await world.push()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("commit failed", "error"), ("commits work again", "info"),
    ]  # fmt: skip


async def test_the_log_tells_that_the_disk_is_nearly_full_and_that_it_has_room_again_once_each(logs):
    """Nothing else changes at that moment but the answers to pushes."""
    journal = World().journal
    for nearly_full in (False, True, True, False, False):
        journal.note_room(nearly_full=nearly_full)
    assert [(entry["event"].partition(":")[0], entry["log_level"]) for entry in logs] == [
        ("the disk is nearly full", "warning"), ("the disk has room again", "info"),
    ]  # fmt: skip


async def test_deadlines_that_pass_meanwhile_are_written_afterwards(nursery: trio.Nursery):
    world = World([Fault.NONE, *[REFUSED] * 8])
    world.start(nursery)
    answers = Answers(world, nursery)
    await world.push(delay=1000)
    await answers.ask("stuck", world.push)
    await trio.sleep(2)
    assert world.state("id-000001") is State.WAITING
    assert world.stored() == {"id-000001": State.DELAYED}
    await trio.sleep(60)
    assert world.stored() == {"id-000001": State.WAITING, "id-000002": State.WAITING}


async def test_commands_that_gathered_before_the_failure_showed_are_answered_after_it(
    nursery: trio.Nursery, thread: VirtualThread
):
    world = World([REFUSED] * 4)
    world.store.inline, thread.delay_s = False, 1
    world.start(nursery)
    answers = Answers(world, nursery)
    await answers.ask("a", world.push, durable=True)
    await answers.ask("b", world.push)
    await trio.sleep(3)
    assert answers.given == []
    await trio.sleep(30)
    assert {name for name, _ in answers.given} == {"a", "b"}
    assert world.store.written == [1, 2]


async def test_a_change_that_the_disk_refuses_for_long_is_answered_503_and_takes_effect_when_it_is_back(
    nursery: trio.Nursery,
):
    """Whoever waits gets an error that says that it may still happen; so a repeat of the same ``jobId`` makes one job, not two."""
    world = World([REFUSED] * 40)
    world.start(nursery)
    for _ in range(2):
        begun = trio.current_time()
        with pytest.raises(Refused) as refused:
            await world.push(job_id="mine")
        assert refused.value.status == 503
        assert trio.current_time() - begun < GIVE_UP_S + COMMIT_RETRY_MAX_MS / 1000
    assert world.stored() == {}
    await trio.sleep(60)
    assert await world.push(job_id="mine") == "mine"
    assert world.stored() == {"mine": State.WAITING}
    assert world.published.count(("pushed", "mine")) == 1


async def test_what_gathers_behind_a_refused_batch_gets_the_error_too_and_later_changes_wait_for_their_own_commit(
    nursery: trio.Nursery, thread: VirtualThread
):
    world = World([REFUSED] * 15)
    world.store.inline, thread.delay_s = False, 0.01
    world.start(nursery)
    outcomes: dict[str, str] = {}

    async def push(name: str) -> None:
        try:
            await world.push(job_id=name, durable=True)
            outcomes[name] = "done"
        except Refused as refused:
            outcomes[name] = str(refused)

    nursery.start_soon(push, "first")
    await settled()
    nursery.start_soon(push, "second")
    await trio.sleep(GIVE_UP_S + COMMIT_RETRY_MAX_MS / 1000)
    assert outcomes == dict.fromkeys(("first", "second"), errors.NOT_COMMITTED.message)
    hear = world.journal.on_commit
    hear.append(lambda batch, seconds: (hear.pop(), nursery.start_soon(push, "third")))
    await trio.sleep(10)
    assert outcomes["third"] == "done"
    assert set(world.stored()) == {"first", "second", "third"}


# --- the flusher is killed -----------------------------------------------------------------------------


@pytest.mark.parametrize("moment_s", [0.0, 0.02, 0.05, 0.1, 0.4])
async def test_a_flusher_cancelled_between_tries_leaves_the_batch_to_the_next(nursery: trio.Nursery, moment_s: float):
    world = World([REFUSED] * 3)
    answers = Answers(world, nursery)
    await answers.ask("push", world.push)
    with trio.move_on_after(moment_s):
        await world.journal.run()
    world.start(nursery)
    await trio.sleep(5)
    assert answers["push"] == "id-000001"
    assert world.store.written == [1]
    assert world.published == [("pushed", "id-000001")]


async def test_a_flusher_cancelled_while_it_waits_for_the_disk_leaves_the_batch_to_the_next(
    world: World, answers: Answers
):
    await answers.ask("push", world.push)
    async with world.journal.disk:  # as the retention does
        flusher = await answers.ask("flusher", world.journal.run)
        flusher.cancel()
        await settled()
        await answers.ask("more", world.push)
    assert world.store.tried == []
    world.start(answers.nursery)
    await settled()
    assert world.store.written == [1, 2]
    assert "push" in answers
    assert "more" in answers


async def test_a_flusher_cancelled_during_a_commit_has_committed(world: World, answers: Answers, thread: VirtualThread):
    world.store.inline, thread.delay_s = False, 1
    await answers.ask("push", world.push, durable=True)
    with trio.move_on_after(0.5):
        await world.journal.run()
    await settled()
    assert world.now_ms() == 1000
    assert answers["push"] == "id-000001"
    assert (world.journal.committed, world.journal.dirty) == (1, False)
    world.start(answers.nursery)
    await world.push()
    assert world.store.written == [1, 2]


@pytest.mark.trio(run=trio.run)
async def test_so_it_is_with_a_real_thread(nursery: trio.Nursery):
    world = World()
    world.store.inline = False
    entered, go_on = threading.Event(), threading.Event()
    commit = world.store.commit

    def slow(batch):
        entered.set()
        go_on.wait(PATIENCE_S)
        commit(batch)

    world.store.commit = slow
    answers = Answers(world, nursery)
    await answers.ask("push", world.push, durable=True)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as flusher:
            flusher.start_soon(world.journal.run)
            await trio.to_thread.run_sync(entered.wait)
            scope.cancel()
            go_on.set()
    await settled()
    assert answers["push"] == "id-000001"
    assert world.store.written == [1]


async def test_a_flusher_that_fails_is_restarted_and_goes_on_with_the_same_batch(nursery: trio.Nursery, logs):
    world = World()
    commit, failures = world.store.commit, iter([RuntimeError("surprise"), RuntimeError("again")])

    def failing(batch):
        if error := next(failures, None):
            raise error
        commit(batch)

    world.store.commit = failing
    world.start(nursery)
    answers = Answers(world, nursery)
    await answers.ask("push", world.push)
    await answers.ask("another", world.push)
    await trio.sleep(5)
    assert world.store.written == [1, 2]
    assert len(answers.given) == 2
    assert world.flusher.restarts == 2
    assert [entry["log_level"] for entry in logs] == ["error", "error"]


async def test_a_contradiction_ends_the_flusher_for_good(logs):
    world = World()
    Ledger(world.store).write([make_job(1)])
    async with trio.open_nursery() as outer:
        answers = Answers(world, outer)
        await answers.ask("push", world.push)
        with pytest.raises(AssertionError):
            await supervise(world.flusher)
        assert answers.given == []
        assert world.flusher.state == "failed"
        outer.cancel_scope.cancel()


async def test_a_hearer_that_fails_does_not_unmake_the_commit(world: World, answers: Answers):
    def fails(batch, seconds):
        raise RuntimeError("deaf")

    world.journal.on_commit.append(fails)
    await answers.ask("push", world.push)
    with pytest.raises(InvariantBroken):
        await world.journal.flush()
    await settled()
    assert answers["push"] == "id-000001"
    assert not world.journal.dirty


async def test_a_waiting_command_that_is_cancelled_is_done_all_the_same(world: World, answers: Answers):
    scope = await answers.ask("push", world.push)
    scope.cancel()
    await settled()
    assert "push" not in answers
    await world.journal.flush()
    assert world.stored() == {"id-000001": State.WAITING}


# --- crashes -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
async def test_after_any_crash_nothing_that_was_answered_is_missing(
    seed: int, thread: VirtualThread, monkeypatch: pytest.MonkeyPatch
):
    """Refusals, ghosts and crashes by chance; after each crash a new world on what the disk has.

    Whoever can commit does: the flusher, a lone task, a step of many commands, beside bulk pushes that take several steps.
    """
    monkeypatch.setattr(core, "BULK_SLICE", 2)
    rng = random.Random(seed)
    thread.delay_s = rng.choice((0.0, 0.01))
    weights = {
        Fault.NONE: 10,
        REFUSED: rng.choice((0, 3)),
        Fault.GHOST: rng.choice((0, 3)),
        Fault.CRASH_BEFORE: 1,
        Fault.CRASH_AFTER: 1,
    }
    pushed: list[str] = []
    asked: set[str] = set()
    inner = None
    ids = None
    for _ in range(10):
        world = World(random_faults(rng, weights), inner=inner, new_id=ids)
        ids = world.engine.new_id
        world.store.inline = rng.random() < 0.5
        assert set(pushed) <= set(world.engine.jobs) <= asked
        try:
            async with trio.open_nursery() as nursery:
                world.start(nursery)
                await _push_for_ever(world, rng, pushed, asked)
        except* Crash:
            pass
        inner = world.store.restart()
    assert pushed


async def _push_for_ever(world: World, rng: random.Random, pushed: list[str], asked: set[str]) -> None:
    def new(job_id: str | None = None) -> c.Push:
        job_id = job_id or f"job-{len(asked)}-{rng.random()}"
        asked.add(job_id)
        size = INLINE_BYTES_MAX if rng.random() < 0.2 else 1  # what a step leaves to the flusher
        return c.Push(queue="q", job_id=job_id, data=c.Raw(b'"%s"' % (b"x" * size)))

    async def finish(begun: core.Begun) -> None:
        with trio.fail_after(3 * GIVE_UP_S):
            try:
                reply = await world.core.finish(begun)
            except Refused:
                return  # it may be there later all the same
        pushed.extend(reply.ids if isinstance(reply, r.PushBatchReply) else [reply.id])  # type: ignore[attr-defined]

    def bulk() -> c.PushBatch:
        names = [f"old-{rng.randrange(20)}" if rng.random() < 0.7 else None for _ in range(rng.randrange(1, 9))]
        specs = [new(name) for name in names]
        return c.PushBatch(queue="q", jobs=[c.JobSpec(data=spec.data, job_id=spec.job_id) for spec in specs])

    async with trio.open_nursery() as pushing:
        while True:
            for _ in range(rng.randrange(1, 5)):
                with suppress(Refused), world.core.turns.many if rng.random() < 0.5 else nullcontext():
                    for _ in range(rng.randrange(1, 4)):
                        command = bulk() if rng.random() < 0.3 else new()
                        pushing.start_soon(finish, world.core.begin(command, sliced=True))
                if world.store.dead:
                    await trio.sleep_forever()  # the flusher says so, and ends the world
                if rng.random() < 0.3:
                    await trio.lowlevel.checkpoint()
            await trio.sleep(rng.choice((0, 0, 0.01, 3)))


async def test_a_read_that_fails_is_answered_to_the_reader_alone(running: World):
    job_id = await running.push()
    running.store.blind = True
    with pytest.raises(StoreError):
        await running.core.execute(c.GetState(id="elsewhere"))
    assert isinstance(await running.core.execute(c.GetState(id=job_id)), r.StateReply)
    assert await running.pull() == job_id
    await running.ack(job_id)


async def test_who_waits_for_a_disk_that_stays_down_gets_an_error_and_the_change_is_kept(nursery: trio.Nursery):
    """The answer cannot be that nothing happened: the batch is tried again, and may be committed yet."""
    world = World([Fault.NONE, *[REFUSED] * 30])
    world.start(nursery)
    answers = Answers(world, nursery)
    first = await world.push()
    await answers.ask("stuck", world.push)
    await trio.sleep(GIVE_UP_S + 1)
    stuck = answers["stuck"]
    assert isinstance(stuck, Refused)
    assert (stuck.status, str(stuck)) == (503, errors.NOT_COMMITTED.message)
    assert world.journal.failing is not None
    await trio.sleep(60)
    assert world.journal.failing is None
    assert set(world.stored()) == {first, "id-000002"}
    await world.push()


@pytest.mark.parametrize("command", [c.Ack(id="id-000001"), c.Fail(id="id-000001"), c.Pull(queue="q"),
                                     c.PullBatch(queue="q", count=1), c.AckBatch(ids=["id-000001"]),
                                     c.Heartbeat(id="id-000001"), c.HeartbeatBatch(ids=["id-000001"]),
                                     c.ExtendLock(id="id-000001", token="t", duration=1),
                                     c.Progress(id="id-000001", progress=1), c.Cancel(id="id-000001")])  # fmt: skip
async def test_what_empties_the_queues_is_let_in_when_pushes_are_refused(command: c.Command):
    """Up to twice the limit: nothing is without one."""
    world = World(pending_max=50)
    world.engine.changed = dict.fromkeys(waiting_jobs(world, 50))
    with pytest.raises(Refused, match="overloaded"):
        world.core.begin(c.Push(queue="q", data=c.Raw(b"1")))
    with pytest.raises(Refused, match="overloaded"):
        world.core.begin(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1"))]))
    world.core.check_room(type(command))
    world.engine.changed |= dict.fromkeys(waiting_jobs(world, 50))
    with pytest.raises(Refused, match="overloaded"):
        world.core.check_room(type(command))


def waiting_jobs(world: World, count: int) -> list[Job]:
    """Jobs that wait for the disk."""
    return [Job(world.engine.new_id(0), "q", b"1", DEFAULT_OPTIONS, 0, 0, 0, seq) for seq in range(count)]
