"""Event fan-out: to each reader what it wants, once, in order, and as much as it can hold."""

import json
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.api.downloads import EventLog, Wanted
from bunqueue_trio.config import READER_BYTES_MAX, READER_EVENTS_MAX
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.events import Event
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.hub import BACK, BACKS_KEPT, Hub, Report, Share, Subscription
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.readable import unreadable_facts
from bunqueue_trio.storage.store import Batch
from bunqueue_trio.testing.server import Bunqueue
from tests.runtime.runtime_world import Answers, VirtualThread, World, settled
from tests.storage.distant import DistantStore
from tests.storage.ledger import Ledger, keep
from tests.ui.night import push


@pytest.fixture
async def hub(running: World) -> Hub:
    hub = Hub(running.store)
    running.journal.on_commit.append(hub.publish)
    return hub


def took(subscription: Subscription, limit: int | None = None) -> tuple[list[int], int]:
    events, missed = subscription.take(limit)
    return [event.id for event in events], missed


async def test_a_reader_gets_what_is_committed_after_it_came(running: World, hub: Hub):
    await running.push()
    reader = hub.subscribe(None, Bell())
    assert not reader
    await running.push()
    await running.push("other")
    assert reader
    assert took(reader) == ([2, 3], 0)
    assert took(reader) == ([], 0)


async def test_the_newest_events_are_found_behind_ids_that_were_left_out():
    inner = MemoryStore()
    store = DistantStore(inner)
    inner.last_event_id, store.ids_skipped = 1_000_050, 1_000_000
    hub = Hub(store)
    assert hub.before(hub.last_event_id, 20) == 30
    hub.last_event_id += 20
    assert hub.before(hub.last_event_id, 20) == 1_000_050
    assert hub.before(hub.last_event_id, 21) == 49


async def test_nothing_is_heard_before_its_commit(world: World, answers: Answers):
    hub = Hub(world.store)
    world.journal.on_commit.append(hub.publish)
    reader = hub.subscribe(None, Bell())
    await answers.ask("push", world.push)
    assert took(reader) == ([], 0)
    await world.journal.flush()
    assert took(reader) == ([1], 0)


async def test_readers_of_a_queue_hear_that_queue_only(running: World, hub: Hub):
    readers = [hub.subscribe(queue, Bell()) for queue in (None, "a", "a", "b", "c")]
    await running.push("a")
    await running.push("b")
    assert [took(reader)[0] for reader in readers] == [[1, 2], [1], [1], [2], []]


@pytest.mark.parametrize("are_some_of_queues", [False, True])
async def test_each_reader_hears_what_it_wants_whatever_others_want(running: World, hub: Hub, are_some_of_queues: bool):
    """Events that no reader wants are not looked at: what is wanted is what any of them wants."""
    wishes: list[tuple[str | None, set[str]]] = [
        (None, {"failed"}),
        (None, {"completed", "pulled"}),
        (None, {"pushed"}),
    ]
    if are_some_of_queues:
        wishes += [("default", {"pulled"}), ("x", {"pushed"})]
    readers = []
    for queue, types in wishes:
        readers.append(hub.subscribe(queue, Bell()))
        readers[-1].types = frozenset(types)
    job = await running.push("default")
    await running.pull("default")
    await running.ack(job)
    await running.push("x")
    # The third tells that the queue is empty.
    assert [took(reader)[0] for reader in readers] == [[], [2, 4], [1, 5], [2], [5]][: len(readers)]


async def test_a_reader_may_choose_types(running: World, hub: Hub):
    reader = hub.subscribe(None, Bell())
    reader.types = frozenset({"completed"})
    job = await running.push()
    await running.pull()
    await running.ack(job)
    events, _ = reader.take()
    assert [b'"eventType":"completed"' in event.body for event in events] == [True]


async def test_the_bell_of_a_reader_rings_when_there_is_something(running: World, hub: Hub):
    bell = Bell()
    hub.subscribe("q", bell)
    await running.push("other")
    with trio.move_on_after(1) as silent:
        await bell.wait()
    assert silent.cancelled_caught
    await running.push("q")
    with trio.fail_after(0.001):
        await bell.wait()


async def test_a_reader_that_left_is_forgotten(running: World, hub: Hub):
    readers = [hub.subscribe("q", Bell()) for _ in range(2)]
    assert len(hub) == 2
    for reader in (readers[0], readers[0], readers[1]):
        hub.unsubscribe(reader)
    assert len(hub) == 0
    assert hub._readers == {}
    await running.push()
    assert took(readers[0]) == ([], 0)


async def test_a_reader_too_slow_misses_what_does_not_fit_and_everything_after_until_it_knows(running: World, hub: Hub):
    slow, other = hub.subscribe(None, Bell()), hub.subscribe("quick", Bell())
    specs = [c.JobSpec(data=c.Raw(b"1"))] * (READER_EVENTS_MAX // 2)
    for _ in range(2):
        await running.core.execute(c.PushBatch(queue="q", jobs=specs))
    assert not hub.dropped
    await running.push("quick")
    await running.push("quick")
    assert (slow.missed, hub.dropped) == (2, 2)
    events, missed = took(slow)
    assert (len(events), events[-1], missed) == (READER_EVENTS_MAX, READER_EVENTS_MAX, 2)
    assert took(other) == ([READER_EVENTS_MAX + 1, READER_EVENTS_MAX + 2], 0)
    await running.push()
    assert took(slow) == ([READER_EVENTS_MAX + 3], 0)


async def test_a_reader_holds_a_bounded_number_of_bytes(running: World, hub: Hub):
    reader = hub.subscribe(None, Bell())
    data = b'"' + b"x" * (READER_BYTES_MAX // 2) + b'"'
    for _ in range(3):
        await running.push(data=data)
    await running.push()
    assert took(reader) == ([1, 2], 2)


async def test_every_event_that_a_reader_misses_is_counted_once(running: World, hub: Hub):
    """Also when it takes some of its buffer between: the gap it does not know of yet goes on."""
    reader = hub.subscribe(None, Bell())
    data = b'"' + b"x" * (READER_BYTES_MAX // 2) + b'"'
    for _ in range(3):
        await running.push(data=data)
    events, missed = reader.take(1)
    assert (len(events), missed) == (1, 0)
    for _ in range(5):
        await running.push()
    assert (reader.missed, hub.dropped) == (6, 6)
    assert took(reader) == ([2], 6)


async def test_the_newest_published_id_is_not_ahead_of_what_was_published(
    world: World, answers: Answers, thread: VirtualThread, monkeypatch: pytest.MonkeyPatch
):
    """While a thread commits, the store knows more than any reader: who replays up to there would hear it twice."""
    hub = Hub(world.store)
    world.journal.on_commit.append(hub.publish)
    seen: list[tuple[int, int]] = []
    commit = world.store.commit

    def committed(batch) -> None:
        commit(batch)
        seen.append((hub.last_event_id, world.store.last_event_id))

    world.store.commit = committed
    world.start(answers.nursery)
    await world.push()
    await world.push()
    assert seen == [(0, 1), (1, 2)]
    assert hub.last_event_id == 2


async def test_the_newest_published_id_survives_a_restart(running: World, hub: Hub):
    await running.push()
    assert Hub(running.store).last_event_id == hub.last_event_id == 1


async def test_the_past_is_replayed_in_pieces_up_to_where_one_wants(running: World, hub: Hub):
    for queue in "abab":
        await running.push(queue)
    await running.core.execute(c.PushBatch(queue="a", jobs=[c.JobSpec(data=c.Raw(b"1"))] * 3))
    assert await hub.first_kept_id() == 1

    async def replayed(after: int, until: int, queue: str | None) -> tuple[list[int], int]:
        events, reached = await hub.replay(after=after, until=until, queue=queue)
        return [event.id for event in events], reached

    assert await replayed(0, 7, None) == ([1, 2, 3, 4, 5, 6, 7], 7)
    assert await replayed(2, 5, None) == ([3, 4, 5], 5)
    assert await replayed(0, 7, "b") == ([2, 4], 7)
    assert await replayed(0, 3, "nobody's") == ([], 3)
    assert await replayed(7, 7, None) == ([], 7)
    assert await hub.replay(after=0, until=7, queue=None, types=frozenset({"completed"})) == ([], 7)


async def test_a_long_past_is_replayed_without_a_gap(running: World, hub: Hub):
    ledger = Ledger(running.store)
    for _ in range(30):
        ledger.tell(100)
    running.store.prune(keep(events=2500))
    after, seen = await hub.first_kept_id() - 1, []
    while after < 3000:
        events, after = await hub.replay(after=after, until=3000, queue=None)
        assert len(events) <= 600
        seen += [event.id for event in events]
    assert seen == list(range(501, 3001))


async def test_closing_rings_every_bell_once(running: World, hub: Hub):
    bells = [Bell(), Bell()]
    for bell, queue in zip(bells, (None, "q"), strict=True):
        hub.subscribe(queue, bell)
    hub.close()
    assert hub.closed
    with trio.fail_after(0.001):
        for bell in bells:
            await bell.wait()
    await settled()


async def test_what_a_reader_reported_is_kept_from_it_once(running: World, hub: Hub):
    reader = hub.subscribe(None, Bell())
    reader.types = frozenset({"completed"})
    for job in [await running.push(), await running.push()]:
        await running.pull()
        report = Report({job})
        reader.reports = {report: None, Report({"another"}): None}
        await running.ack(job)
        assert not reader
        assert [json.loads(event.body)["jobId"] for event in report.kept] == [job]


async def test_what_a_reader_reported_is_shown_when_its_answer_says_that_it_failed(running: World, hub: Hub):
    reader = hub.subscribe(None, Bell())
    reader.types = frozenset({"completed"})
    job, report = await running.push(), Report(set())
    await running.pull()
    report._jobs.add(job)
    reader.reports[report] = None
    await running.ack(job)
    assert took(reader) == ([], 0)
    for _ in range(2):
        reader.withdraw(report)
    assert took(reader) == ([4], 0)


async def test_what_a_reader_reports_is_not_missed_where_it_does_not_fit(running: World, hub: Hub):
    reader = hub.subscribe(None, Bell())
    ids = [await running.push() for _ in range(4)]
    await running.core.execute(c.PullBatch(queue="q", count=4))
    reader.missed = 1
    reader.reports = {Report(set(ids[:3])): None}
    await running.core.execute(c.AckBatch(ids=ids))
    assert reader.missed == 1 + 4 + 1 + 1  # pulled, drained, completed


async def test_many_readers_of_the_same_share_what_a_batch_has_for_them(running: World, hub: Hub):
    """What a commit costs is by its events and by its readers, not by their product."""
    readers = [hub.subscribe(queue, Bell()) for queue in (None, "q") for _ in range(3)]
    readers[0].types = frozenset({"pushed", "failed"})
    await running.core.execute(c.PushBatch(queue="q", jobs=[c.JobSpec(data=c.Raw(b"1"))] * 5))
    assert len({id(reader._waiting[0][0]) for reader in readers}) == 2
    assert [took(reader)[0] for reader in readers] == [[1, 2, 3, 4, 5]] * 6


def test_of_what_a_reader_reports_one_end_is_kept_from_it_however_many_batches_its_report_takes():
    report = Report({"a", "b"})
    kept: list[int] = []
    for number, job_id in enumerate("aba", 1):
        event = Event(event_type="completed", queue="q", job_id=job_id, timestamp=number)
        places: set[int] = set()
        report.keep(Share(Batch(1, 1, False, (), events=[b""], heard=[event], last_event_id=number), range(1)), places)
        kept += [number] * len(places)
    assert kept == [1, 2], "the third is what somebody else has reported"


def test_who_publishes_makes_nothing_for_readers_and_who_reads_some_at_a_time():
    """A batch has 10,000 events and more: to make them all is a long step."""
    events = [
        Event(event_type=kind, queue="q", job_id=f"{n}", timestamp=n)
        for n in range(1500)
        for kind in ("pushed", "pulled")
    ]
    batch = Batch(1, 1, False, (), events=[b"%d" % n for n in range(3000)], heard=events, last_event_id=3000)
    hub = Hub(MemoryStore())
    everything, pulls, of_queue = hub.subscribe(None, Bell()), hub.subscribe(None, Bell()), hub.subscribe("q", Bell())
    pulls.types = frozenset({"pulled"})
    hub.publish(batch, 0.0)
    shares = [reader._waiting[0][0] for reader in (everything, pulls, of_queue)]
    assert [share and len(share.made) for share in shares] == [0, 0, 0]
    assert took(everything, 100)[0] == list(range(1, 56))
    assert [share and len(share.made) for share in shares] == [500, 0, 0]
    assert took(pulls)[0] == list(range(2, 3001, 2))
    assert took(everything)[0] == list(range(56, 3001))
    assert took(of_queue)[0] == list(range(1, 3001))


@pytest.mark.thorough
@pytest.mark.untraced
@pytest.mark.parametrize("wrong_s", [-600, -1, 120, 7200])
async def test_windows_are_found_over_starts_with_a_wrong_clock(autojump_clock: MockClock, wrong_s: int) -> None:
    """Each push in exactly one of the windows that it is in, whatever the clocks of the lives were."""
    async with Bunqueue() as bunqueue:
        when: list[tuple[int, str]] = []

        async def live(first: str) -> None:
            for n in range(400):
                when.append((bunqueue.server.clock.now(), f"{first}{n}"))
                await push(bunqueue, "q", f'"{first}{n}"')
                await trio.sleep(0.0325)

        await live("a")
        for first, step in (("b", wrong_s), ("c", -wrong_s), ("d", 0)):
            await bunqueue.crash()
            bunqueue.step_clock(step)
            await bunqueue.recover()
            await live(first)
        begin, end = min(at for at, _ in when), max(at for at, _ in when)
        edges = [*range(begin, end + 4000, max(4000, (end - begin) // 12))]
        for since, until in [*pairwise(edges), (begin, end + 1), (end + 1, end + 9), (begin - 9, begin)]:
            feed = await EventLog(bunqueue.server, Wanted(since, until, types=frozenset({"pushed"}))).begun()
            told = [json.loads(line)["data"] for line in b"".join([part async for part in feed]).splitlines()]
            await feed.aclose()
            assert sorted(told) == sorted(name for at, name in when if since <= at < until), (since, until)


async def test_where_times_go_back_is_noted_for_the_last_starts_only(autojump_clock: MockClock) -> None:
    async with Bunqueue() as bunqueue:
        for _ in range(BACKS_KEPT + 5):
            await push(bunqueue, "q", "1")
            await bunqueue.crash()
            bunqueue.step_clock(-60)
            await bunqueue.recover()
        await push(bunqueue, "q", "1")
        backs = bunqueue.server.hub.backs
        assert (len(backs), backs[-1]) == (BACKS_KEPT, bunqueue.server.hub.began_at)
        facts = bunqueue.server.engine.facts.of(BACK)
        assert sorted(map(int, facts)) == backs
        assert not list(unreadable_facts((BACK, key, value) for key, value in facts.items()))
