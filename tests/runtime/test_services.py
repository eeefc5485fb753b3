"""What happens in the background: deadlines on time, a log that stays small, retention, rates."""

import pytest
import trio

from bunqueue_trio.config import (
    CHECKPOINT_BYTES,
    CHECKPOINT_FINISH_BYTES,
    CHECKPOINT_MS,
    DISK_RESERVE_BYTES,
    GIVE_BACK_MS,
    MIB,
    PRUNE_MS,
    PRUNE_ROWS,
    ROOM_MS,
    SHRINK_BYTES,
    SHRINK_MS,
    SHRINK_PAUSE_MS,
    SHRINK_SLACK_BYTES,
    Settings,
)
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused, StoreError, StoreGone
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.limiter import RateLimiter
from bunqueue_trio.runtime.meters import Histogram, LoopLag
from bunqueue_trio.runtime.services import (
    AgeSampler,
    Checkpointer,
    RateLimitCleaner,
    Rates,
    RetentionSweeper,
    Shrinker,
    looped,
)
from bunqueue_trio.storage.store import Space
from bunqueue_trio.testing.server import Bunqueue
from tests.runtime.runtime_world import START_MS, Answers, VirtualThread, World, settled
from tests.storage.faulty import Fault
from tests.storage.ledger import Ledger, kept


async def test_deadlines_take_effect_on_time_whether_anybody_asks_or_not(running: World):
    delayed = await running.push(delay=1000)
    expiring = await running.push(queue="other", ttl=2000)
    await trio.sleep_until(running.clock.trio_time(START_MS + 999))
    assert running.state(delayed) is State.DELAYED
    await trio.sleep(0.001)
    await settled()
    assert running.stored()[delayed] is State.WAITING
    await trio.sleep(1)
    await settled()
    assert expiring not in running.stored()
    assert ("removed", expiring) in running.published


async def test_leases_and_timeouts_end_on_time(running: World):
    job = await running.push(timeout=500, max_attempts=1)
    leased = await running.push(queue="leased")
    await running.pull()
    await running.pull("leased", lock_ttl=700)
    await trio.sleep(0.5)
    await settled()
    assert running.state(job) is State.FAILED
    assert running.state(leased) is State.ACTIVE
    await trio.sleep(0.2)
    await settled()
    assert running.state(leased) is State.WAITING


async def test_an_avalanche_of_deadlines_is_worked_off_in_steps_that_let_others_in(running: World, answers: Answers):
    from bunqueue_trio.protocol import commands as c

    for _ in range(3):
        await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1"), delay=1000)] * 1000))
    await trio.sleep(1)
    await settled()
    assert running.engine.counts[State.WAITING] == 3000
    assert running.now_ms() == 1000
    assert running.journal.commits >= 3 + 2  # what a step did is committed before the next one ends


async def test_the_cleaner_forgets_idle_clients(world: World, nursery: trio.Nursery):
    limiter = RateLimiter(1000, 5)
    nursery.start_soon(looped(RateLimitCleaner(limiter, world.clock, 5000)))
    limiter.retry_after_ms("a", world.clock.now())
    await trio.sleep(4.5)
    limiter.retry_after_ms("b", world.clock.now())
    await trio.sleep(0.6)
    assert len(limiter) == 1
    await trio.sleep(5)
    assert len(limiter) == 0


# --- the log --------------------------------------------------------------------------------------------


class Log:
    """A log of a size that a test sets; notes what is done to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.size = self.cut = 0
        self.done: list[bool] = []
        """Whether the disk was held at each checkpoint."""
        world.store.log_bytes = lambda: self.size
        world.store.checkpoint = self.checkpoint

    def checkpoint(self, *, restart: bool) -> None:
        if restart:  # which may wait for readers outside
            assert self.world.journal.disk.locked()
            self.cut += 1
            self.size = 0
            return
        self.done.append(self.world.journal.disk.locked())
        if self.done[-1]:
            self.size = 0


@pytest.fixture
async def log(world: World, nursery: trio.Nursery) -> Log:
    log = Log(world)
    nursery.start_soon(looped(Checkpointer(world.journal, world.store)))
    return log


@pytest.mark.parametrize(
    ("size", "done"),
    [
        (CHECKPOINT_BYTES - 1, []),
        (CHECKPOINT_BYTES, [False, False]),
        (CHECKPOINT_FINISH_BYTES - 1, [False, False]),
        (CHECKPOINT_FINISH_BYTES, [False, False, True]),
    ],
)
async def test_a_log_is_moved_beside_the_commits_and_its_rest_with_the_disk_held_when_it_grows_all_the_same(
    log: Log, size: int, done: list[bool]
):
    log.size = size
    await trio.sleep(CHECKPOINT_MS / 1000 * 1.5)
    assert log.done == done


async def test_a_checkpoint_runs_in_a_thread_when_the_store_wants_one(log: Log, thread: VirtualThread):
    log.world.store.inline = False
    log.size = CHECKPOINT_FINISH_BYTES
    await trio.sleep(CHECKPOINT_MS / 1000 * 1.5)
    assert thread.calls == 3


async def test_maintenance_that_the_disk_refuses_is_tried_again_at_the_next_period(
    world: World, nursery: trio.Nursery, logs
):
    world.store.upkeep = iter([Fault.REFUSED, Fault.REFUSED, Fault.NONE])
    world.store.log_bytes = lambda: CHECKPOINT_BYTES
    checkpoints = []
    world.store.inner.checkpoint = lambda *, restart: checkpoints.append(trio.current_time())  # type: ignore[method-assign]
    begun = trio.current_time()
    nursery.start_soon(looped(Checkpointer(world.journal, world.store)))
    await trio.sleep(CHECKPOINT_MS / 1000 * 3.5)
    assert [at - begun for at in checkpoints] == pytest.approx([CHECKPOINT_MS / 1000 * 3] * 2)
    assert [(entry["log_level"], entry["work"]) for entry in logs] == [("warning", "Checkpointer")]


async def test_a_refusal_that_goes_on_is_reported_once_a_minute_with_a_count_and_a_new_one_at_once(
    world: World, nursery: trio.Nursery, logs
):
    error = "database or disk is full"

    def refuse(*, restart: bool) -> None:
        raise StoreError(error)

    world.store.log_bytes = lambda: CHECKPOINT_BYTES
    world.store.checkpoint = refuse
    nursery.start_soon(looped(Checkpointer(world.journal, world.store)))
    await trio.sleep(59)
    assert [(entry["error"], entry["times"]) for entry in logs] == [(error, 1)]
    await trio.sleep(2)
    [_, again] = logs
    assert again["times"] == pytest.approx(60_000 / CHECKPOINT_MS, abs=2)
    error = "disk I/O error"
    await trio.sleep(1)
    assert [entry["error"] for entry in logs[2:]] == [error]


async def test_while_the_disk_refuses_changes_even_a_small_log_is_moved(log: Log):
    """Its room is what there is for the next commits."""
    log.size, log.world.journal.failing = 1, "full"
    await trio.sleep(CHECKPOINT_MS / 1000 * 1.5)
    assert log.done == [False, False]


async def test_while_the_disk_is_nearly_full_even_a_small_log_is_moved(log: Log):
    """While there is room for its content; the acks that come write over what is moved."""
    log.world.journal.note_room(nearly_full=True)
    # It was cut.
    await trio.sleep(CHECKPOINT_MS / 1000 * 1.5)
    log.size = 1
    await trio.sleep(CHECKPOINT_MS / 1000)
    assert log.done == [False, False]


async def test_while_the_disk_is_nearly_full_the_file_of_the_log_is_cut_now_and_then(log: Log):
    """What a peak has made of it is room that pushes wait for; but commits wait for the cut."""
    log.size = CHECKPOINT_FINISH_BYTES - 1
    await trio.sleep(CHECKPOINT_MS / 1000 * 1.5)
    assert (log.cut, log.done) == (0, [False, False])
    log.world.journal.note_room(nearly_full=True)
    await trio.sleep(GIVE_BACK_MS / 1000 * 2.5)
    assert log.cut == 3
    log.world.journal.note_room(nearly_full=False)
    await trio.sleep(GIVE_BACK_MS / 1000 * 3)
    assert log.cut == 3


# --- room -----------------------------------------------------------------------------------------------


async def test_room_is_given_back_in_small_steps_with_the_disk_free_in_between(world: World, nursery: trio.Nursery):
    free = SHRINK_SLACK_BYTES + 3 * SHRINK_BYTES
    steps: list[tuple[int, bool]] = []

    def shrink(size: int) -> int:
        nonlocal free
        steps.append((size, world.journal.disk.locked()))
        free -= size
        return size

    moved: list[bool] = []
    world.store.space = lambda: Space(100 * MIB, free, 5)
    world.store.shrink = shrink
    world.store.checkpoint = lambda *, restart: moved.append(restart)
    shrinker = Shrinker(world.journal, world.store)
    nursery.start_soon(looped(shrinker))
    await trio.sleep(SHRINK_PAUSE_MS / 2 / 1000)
    assert (steps, world.journal.disk.locked(), moved) == ([(SHRINK_BYTES, True)], False, [])
    await trio.sleep(10)
    assert steps == [(SHRINK_BYTES, True)] * 3
    assert moved == [False]
    assert shrinker.space == Space(100 * MIB, SHRINK_SLACK_BYTES, 5)


async def test_a_file_that_gives_nothing_back_is_left_alone(world: World, nursery: trio.Nursery):
    asked: list[int] = []
    world.store.space = lambda: Space(100 * MIB, 90 * MIB, 5)
    world.store.shrink = lambda size: asked.append(size) or 0
    nursery.start_soon(looped(Shrinker(world.journal, world.store)))
    await trio.sleep(SHRINK_MS / 1000 * 3.5)
    assert asked == [SHRINK_BYTES] * 4


async def test_some_of_the_ended_jobs_are_looked_at_soon_and_then_each_minute(world: World, nursery: trio.Nursery):
    ledger, sampler = Ledger(world.store), AgeSampler(world.journal, world.store)
    nursery.start_soon(looped(sampler))
    await trio.sleep(1.5)
    assert sampler.sampled == ()
    ledger.completed(3)
    await trio.sleep(58)
    assert sampler.sampled == ()
    await trio.sleep(2)
    assert sampler.sampled is not None
    assert len(sampler.sampled) == 3


# --- retention ------------------------------------------------------------------------------------------


def sweeper(world: World, **settings: int) -> RetentionSweeper:
    return RetentionSweeper(world.journal, world.store, world.clock, Settings(**settings))


async def test_retention_deletes_until_nothing_is_left_to_delete(world: World, nursery: trio.Nursery):
    ids = Ledger(world.store).completed(PRUNE_ROWS * 2 + 10, at=START_MS)
    nursery.start_soon(looped(sweeper(world, retention_completed_max=5)))
    await trio.sleep(PRUNE_MS / 1000 * 1.5)
    assert kept(world.store, ids) == ids[-5:]


async def test_retention_goes_by_what_a_queue_says_of_its_dead_letters(world: World, nursery: trio.Nursery):
    world.start(nursery, services=False)
    for _ in range(3):
        job_id = await world.push(max_attempts=1)
        await world.pull()
        await world.fail(job_id)
    await world.core.execute(c.SetDlqConfig(queue="q", max_entries=1))
    configs = world.engine.configs
    nursery.start_soon(looped(RetentionSweeper(world.journal, world.store, world.clock, Settings(), configs)))
    await trio.sleep(PRUNE_MS / 1000 * 1.5)
    assert world.store.kept_of("q") == (0, 1)


async def test_commits_get_in_between_the_steps_of_retention(world: World, answers: Answers, thread: VirtualThread):
    Ledger(world.store).completed(PRUNE_ROWS * 3, at=START_MS)
    world.store.inline, thread.delay_s = False, 1
    world.start(answers.nursery, services=False)
    answers.nursery.start_soon(sweeper(world, retention_completed_max=0).step)
    await trio.sleep(0.5)
    await answers.ask("push", world.push)
    assert "push" not in answers
    await trio.sleep(1)
    assert "push" in answers
    assert world.store.finished_counts.total() > 0


async def test_retention_is_by_age_too(world: World, nursery: trio.Nursery):
    ledger = Ledger(world.store)
    old, young = ledger.completed(1, at=START_MS), ledger.completed(1, at=START_MS + 5000)
    ledger.tell(1, at=START_MS)
    ledger.tell(1, at=START_MS + 5000)
    nursery.start_soon(looped(sweeper(world, retention_age_ms=7000, retention_events_age_ms=7000)))
    await trio.sleep(11)
    assert kept(world.store, old + young) == young
    assert world.store.first_event_id() == 2
    await trio.sleep(10)
    assert kept(world.store, old + young) == []
    assert world.store.first_event_id() == 2  # the last batch stays: it knows the newest id


# --- figures --------------------------------------------------------------------------------------------


async def test_rates_look_at_the_last_seconds_whoever_asks_and_however_often(running: World, nursery: trio.Nursery):
    rates = Rates(running.engine)
    assert rates.per_second() == (0, 0)
    nursery.start_soon(looped(rates))
    await trio.sleep(1.25)  # never at the instant of a sample
    for _ in range(20):
        for _ in range(10):
            await running.push()
        await running.pull()
        await trio.sleep(0.5)
    assert [rates.per_second() for _ in range(3)] == [(19, 2)] * 3  # 100 and 10 in 5.25 s
    await trio.sleep(10)
    assert rates.per_second() == (0, 0)


async def test_the_lateness_of_the_loop_is_measured(nursery: trio.Nursery):
    histogram = Histogram((0.1, 1))
    lag = LoopLag(histogram)
    nursery.start_soon(looped(lag))
    await trio.sleep(3.5)
    assert (histogram.counts, histogram.sum) == ([3, 0, 0], 0)
    lag._due -= 0.5
    await trio.sleep(1)
    assert histogram.counts == [3, 0, 1]


async def test_a_disk_with_little_left_is_looked_at_oftener(world: World, nursery: trio.Nursery):
    left, looks = 100 * DISK_RESERVE_BYTES, []
    world.store.space = lambda: (looks.append(trio.current_time()), Space(MIB, 0, left, 1000 * DISK_RESERVE_BYTES))[1]
    nursery.start_soon(looped(Shrinker(world.journal, world.store)))
    begun = trio.current_time()
    await trio.sleep(3.5)
    # A second may bring more than is kept, the first one, too.
    assert [at - begun for at in looks] == pytest.approx([0, 1, 2, 3])
    left = DISK_RESERVE_BYTES
    await trio.sleep(1)
    seen = len(looks)
    await trio.sleep(1)
    assert len(looks) - seen == pytest.approx(1000 / ROOM_MS, abs=1)


async def test_changes_are_refused_from_when_the_file_is_found_gone_until_it_is_back(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    shrinker = Shrinker(world.journal, world.store)

    def gone() -> Space:
        raise StoreGone("it was moved")

    space, world.store.space = world.store.space, gone
    await shrinker.step()
    # Whether or not anybody has something to write.
    assert world.journal.failing == "it was moved"
    with pytest.raises(Refused, match="Storage unavailable"):
        await world.push()
    world.store.space = space
    await shrinker.step()
    assert world.journal.failing is None
    await world.push()


@pytest.mark.parametrize(
    ("disk", "kept"), [(20 * MIB, 2 * CHECKPOINT_BYTES), (240 * MIB, 12 * MIB), (10**12, DISK_RESERVE_BYTES)]
)
def test_of_a_small_disk_less_is_kept_and_never_less_than_the_log_and_its_content_take(disk: int, kept: int):
    assert Space(MIB, 0, kept - 1, disk).is_nearly_full()
    assert not Space(MIB, 0, kept, disk).is_nearly_full()


@pytest.mark.parametrize(("left", "is_full"), [(199, True), (200, False)])
async def test_how_much_of_the_disk_is_kept_is_a_setting(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, left: int, *, is_full: bool
):
    """Also of a small disk, of which the default is less."""
    async with Bunqueue(Settings(disk_reserve_bytes=200 * MIB)) as bunqueue:
        server = bunqueue.server
        monkeypatch.setattr(server.store, "space", lambda: Space(MIB, 0, left * MIB, 1000 * MIB))
        await server.shrinker.step()
        assert (server.journal.nearly_full_since is not None) == is_full


async def test_the_last_room_on_the_disk_is_for_what_empties_the_queues(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    job_id = await world.push()
    _, token = await world.pull_with_token()
    world.store.space = lambda: Space(100 * MIB, 0, DISK_RESERVE_BYTES - 1, 100 * 1024 * MIB)
    shrinker = Shrinker(world.journal, world.store)
    await shrinker.step()
    since = world.journal.nearly_full_since
    assert since is not None
    with pytest.raises(Refused, match="nearly full"):
        await world.push()
    await trio.sleep(1)
    await shrinker.step()
    assert world.journal.nearly_full_since == since
    await world.ack(job_id, token)
    world.store.space = lambda: Space(100 * MIB, MIB, DISK_RESERVE_BYTES - 1, 100 * 1024 * MIB)
    await shrinker.step()
    await world.push()
    world.store.space = lambda: Space(100 * 1024, 0, 8 * MIB, 100 * MIB)
    await shrinker.step()
    await world.push()
    # The log has room of its own, but what is in it needs as much again in the file.
    world.store.log_bytes = lambda: 2 * MIB
    world.store.space = lambda: Space(100 * MIB, 0, DISK_RESERVE_BYTES + 2 * MIB - 1, 100 * 1024 * MIB)
    await shrinker.step()
    with pytest.raises(Refused, match="nearly full"):
        await world.push()
