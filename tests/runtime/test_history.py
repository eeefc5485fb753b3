"""What happened by the minute: counted as it happens, bounded, and told as it was."""

from itertools import pairwise
from typing import Any

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.config import MINUTE_MS, Settings
from bunqueue_trio.engine.job import State
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime import history as module
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.history import MINUTES_KEPT, History, Minute, Minutes, QueueMinute
from bunqueue_trio.runtime.picture import QueueLook
from bunqueue_trio.storage.rows import finished_row
from bunqueue_trio.storage.store import Batch
from bunqueue_trio.testing.server import Bunqueue
from tests.engine.make import make_job
from tests.storage.ledger import ended

MINUTE = 60_000


def minute(at: int) -> Minute:
    return Minute(at, 0, 0, 0, 0, 0, 0, 0, 0, 0, False, 0, 0, 0, 0, 0, 0, (), ())


def look(name: str, waiting: int = 0) -> QueueLook:
    return QueueLook(name, waiting, 0, 0, 0, 0, 0, 0, None, 0, None, None, None)


class Heard:
    def __init__(self, event_type: str, queue: str) -> None:
        self.event_type, self.queue = event_type, queue


def batch(*heard: tuple[str, str]) -> Batch:
    return Batch(1, 0, False, [], heard=[Heard(*each) for each in heard])  # type: ignore[misc]


def told_by(of: Batch) -> tuple[Any, Any]:
    return of.heard, of.finished


async def test_events_are_counted_by_queue_and_minute():
    history = History()
    first = batch(("pushed", "a"), ("pushed", "a"), ("completed", "a"), ("failed", "b"), ("progress", "a"))
    history.count(*told_by(first))
    await history.note(minute(MINUTE), [look("a", 5), look("b")], {}, {})
    history.count(*told_by(batch(("stalled", "a"), ("retried", "a"), ("drained", "a"))))
    await history.note(minute(2 * MINUTE), [look("a", 4)], {}, {})
    past = history.past({}, {})
    assert [each[:8] for each in past.queues["a"]] == [
        (MINUTE, 2, 1, 0, 0, 0, 5, 0), (2 * MINUTE, 0, 0, 0, 1, 1, 4, 0)
    ]  # fmt: skip
    assert "b" not in past.queues  # it holds nothing, and nothing happens
    assert past.of("a", MINUTE + 1) == list(past.queues["a"][1:])
    assert past.of("nobody", 0) == []
    assert past.since(MINUTE + 1) is past.minutes[1]
    assert past.since(3 * MINUTE) is None


async def test_the_past_is_not_changed_by_the_next_minute():
    history = History()
    await history.note(minute(1), [look("a")], {}, {})
    past = history.past({}, {})
    await history.note(minute(2), [look("a")], {}, {})
    assert (len(past.minutes), len(past.queues["a"])) == (1, 1)


async def test_the_past_is_bounded():
    history = History()
    for at in range(MINUTES_KEPT + 5):
        await history.note(minute(at), [look("a", 1)], {}, {})
    past = history.past({}, {})
    assert (len(past.minutes), past.minutes[0].at, len(past.queues["a"])) == (MINUTES_KEPT, 5, 60)


async def test_the_busiest_queues_keep_a_line_and_then_the_fullest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "QUEUES_KEPT", 2)
    history = History()
    looks = [look("full", 10), look("fuller", 20), look("busy")]
    await history.note(minute(1), looks, {}, {})
    assert set(history.past({}, {}).queues) == {"full", "fuller"}
    history.count(*told_by(batch(("pushed", "busy"))))
    await history.note(minute(2), looks, {}, {})
    assert set(history.past({}, {}).queues) == {"busy", "fuller"}
    assert [each.at for each in history.past({}, {}).queues["fuller"]] == [1, 2]


async def test_names_that_come_once_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COUNTED_MAX", 3)
    history = History()
    history.count(*told_by(batch(*(("pushed", f"q{n}") for n in range(10)))))
    history.count(*told_by(batch(("pushed", "q0"))))
    await history.note(minute(1), [], {}, {})
    assert {name: line[0].pushed for name, line in history.past({}, {}).queues.items()} == {"q0": 2, "q1": 1, "q2": 1}
    await history.note(minute(2), [], {}, {})
    assert history.past({}, {}).queues == {}


async def test_a_server_notes_what_was_the_case(autojump_clock: object):
    async with Bunqueue(Settings()) as bunqueue:
        core = bunqueue.server.core
        for _ in range(3):
            await core.execute(c.Push(queue="q", data=Raw(b"1")))
        await core.execute(c.Pause(queue="q", reason="why"))
        await core.execute(c.SetConcurrency(queue="limited", concurrency=2))
        (going_on,) = bunqueue.server.past().with_now("q", [], 7)
        assert (going_on.at, going_on.pushed) == (7, 3), "before its minute has ended"
        assert bunqueue.server.past().with_now("other", [], 7) == []
        await bunqueue.server.note_minute()
        assert bunqueue.server.queues_seen._last is None, "of 100,000 queues it would hold 20 MB"
        (noted,) = bunqueue.server.past().minutes
        assert (noted.pushed, noted.waiting, noted.is_failing) == (3, 3, False)
        looks = {each.name: each for each in await bunqueue.server.look_at_queues()}
        pause = looks["q"].pause
        assert pause is not None
        assert (looks["q"].waiting, pause.reason, looks["q"].jobs) == (3, "why", 3)
        assert (looks["limited"].concurrency, looks["limited"].jobs, looks["limited"].pulls_waiting) == (2, 0, 0)


async def test_run_times_are_counted_and_all_is_written_down(autojump_clock: object):
    async with Bunqueue(Settings()) as bunqueue:
        core, server = bunqueue.server.core, bunqueue.server
        for n, options in enumerate(({}, {"remove_on_complete": True}, {"max_attempts": 1}, {})):
            await core.execute(c.Push(queue="q", data=Raw(b"1"), **options))  # type: ignore[arg-type]
            if n == 3:
                break
            pulled = await core.execute(c.Pull(queue="q"))
            await trio.sleep(1 + n)
            job = pulled.job.id  # type: ignore[attr-defined]
            await core.execute(c.Fail(id=job) if n == 2 else c.Ack(id=job))
        await trio.sleep(5)
        await server.note_minute()
        told = await core.execute(c.GetFigures(queue="q"))
        [minute] = told.minutes  # type: ignore[attr-defined]
        assert (minute.pushed, minute.completed, minute.failed, minute.waiting, minute.dead) == (4, 2, 1, 1, 1)
        assert 5000 <= minute.oldest < 5100
        assert 1500 <= minute.run < 1520
        assert 2000 <= minute.p95 < 3000
        assert [hour.pushed for hour in told.hours] == [4]  # type: ignore[attr-defined]
        await trio.sleep(1)
        await bunqueue.crash()
        await bunqueue.recover()
        assert [each.pushed for each in bunqueue.server.past().queues["q"]] == [4]
        assert (await bunqueue.server.core.execute(c.GetFigures(queue="q"))).minutes == [minute]  # type: ignore[attr-defined]


async def test_names_that_come_once_do_not_fill_the_memory_with_run_times(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COUNTED_MAX", 1)
    history = History()
    jobs = batch(("completed", "a"))
    for name in ("a", "b"):
        job = ended(make_job(1, queue=name, started_at=1000), at=3000)
        jobs.finished.append(finished_row(job))
    history.count(*told_by(jobs))
    told = await history.note(minute(1), [], {}, {})
    assert {name: each.run for name, each in told.items()} == {"a": 2000}


async def test_a_queue_in_which_nothing_is_is_not_written_down():
    assert await History().note(minute(1), [look("a"), look("b", 1)], {}, {}) == {
        "b": QueueMinute(1, 0, 0, 0, 0, 0, 1, 0, 0, 0, {})
    }


async def test_the_busiest_are_written_down_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FIGURES_QUEUES", 1)
    assert set(await History().note(minute(1), [look("a", 1), look("b", 2)], {}, {})) == {"b"}


async def test_what_died_is_noted_of_queues_of_which_nothing_is_left():
    history = History()
    told = await history.note(minute(MINUTE), [look("a")], {"gone": 4}, {})
    assert {name: each.died for name, each in told.items()} == {"gone": 4}
    assert [each.died for each in history.past({}, {}).queues["gone"]] == [4]


def test_of_many_errors_that_are_new_in_one_batch_some_are_noted_at_first():
    """Each is looked through, in the step of the commit."""
    history, jobs = History(), Batch(1, 0, False, [])
    for n in range(12):
        job = ended(make_job(n + 1, started_at=1), State.FAILED)
        job.noted().error = f"{chr(97 + n)}{chr(110 - n)} is wrong"
        jobs.finished.append(finished_row(job))
    told = []
    for _ in range(3):
        history.count(*told_by(jobs))
        told.append(len(history.past({}, {}).errors))
    assert told == [5, 10, 12]


@pytest.mark.parametrize("ahead_ms", [0, 1, 500, 20_000, 58_999, 59_000, 59_999])
async def test_minutes_end_with_those_of_the_clock(autojump_clock: object, ahead_ms: int) -> None:
    clock = Clock(30_000_000 * MINUTE_MS + ahead_ms)
    ended: list[int] = []

    async def note() -> None:
        ended.append(clock.now())

    service = Minutes(note, clock)
    for _ in range(4):
        await service.wait_due()
        await service.step()
    # The first one is that of the start.
    assert ended[0] == 30_000_000 * MINUTE_MS + ahead_ms
    assert [at % MINUTE_MS for at in ended[1:]] == [0, 0, 0]
    assert [b - a for a, b in pairwise(ended[1:])] == [MINUTE_MS] * 2
    assert 1000 < ended[1] - ended[0] <= MINUTE_MS + 1000
