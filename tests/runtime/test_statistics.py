"""What a server says of itself: true of one moment, and not changed by the next."""

import msgspec
import pytest
import trio
from msgspec import Raw
from trio.testing import MockClock

from bunqueue_trio.config import Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.memory import Memory
from bunqueue_trio.runtime.meters import Meters
from bunqueue_trio.runtime.picture import QueueLook
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore


def make_server() -> Server:
    return Server(Settings(), MemoryStore(), Clock(1_000_000))


def push(server: Server) -> None:
    server.core.begin(c.Push(queue="q", data=Raw(b"1")))


async def test_statistics_are_of_one_moment(autojump_clock: MockClock):
    server = make_server()
    push(server)
    before = server.statistics()
    shown = msgspec.to_builtins(before)
    push(server)
    server.connections.tcp += 1
    server.tasks[0].restarts += 1
    server.audit.faults["lost"] += 1
    server.core.meters.pull.observe(1)
    assert msgspec.to_builtins(before) == shown
    assert (before.unfinished, before.totals.pushed, before.jobs["waiting"]) == (1, 1, 1)
    after = server.statistics()
    assert (after.unfinished, after.totals.pushed, after.jobs["waiting"]) == (2, 2, 2)
    assert (after.connections.tcp, after.tasks[0].restarts, after.audit.faults["lost"]) == (1, 1, 1)
    assert after.histograms["pull"].counts != before.histograms["pull"].counts


async def test_statistics_do_not_look_at_the_memory(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch):
    """It would take longer than all the rest, and most who ask do not show it."""

    def looked(self: Memory) -> None:
        raise AssertionError("the memory is looked at")

    monkeypatch.setattr(Memory, "read", looked)
    assert make_server().statistics().is_ready


async def test_statistics_cannot_be_changed(autojump_clock: MockClock):
    with pytest.raises(AttributeError):
        make_server().statistics().unfinished = 1  # type: ignore[misc]


def test_every_histogram_is_known_by_its_name():
    meters = Meters()
    meters.wait.observe(7)
    told = meters.figures()
    assert [name for name, figures in told.items() if figures.sum] == ["wait"]
    assert set(told) == {"push", "pull", "ack", "wait", "run", "commit", "commit_rows", "loop_lag"}


async def test_the_queues_are_reported_with_the_fullest_first(autojump_clock: MockClock):
    server = make_server()
    push(server)
    told = await server.queue_statistics()
    assert (told.queues, told.shown[0].name, told.shown[0].waiting, told.oldest_ready_at) == (1, "q", 1, 1_000_000)


async def test_a_queue_is_reported_with_the_job_that_is_active_for_longest(autojump_clock: MockClock):
    server = make_server()
    for _ in range(2):
        push(server)
    assert (await server.look_at_queues())[0].active_since is None
    for _ in range(2):
        server.core.begin(c.Pull(queue="q"))
        await trio.sleep(5)
    seen = (await server.look_at_queues())[0]
    assert (seen.active_since, seen.active_id) == (1_000_000, next(iter(server.engine.queues["q"].active)).id)
    assert (await server.queue_statistics()).longest == [(1_000_000, "q")]


def test_who_was_cancelled_has_not_died_of_anything():
    look = QueueLook("q", 0, 0, 0, 0, 0, 5, 2, None, 0, None, None, None)
    assert (look.dead, look.died, look.jobs) == (5, 3, 5)
