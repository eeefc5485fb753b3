"""A server that another one may replace: it says that it is alive, and ends when it was replaced."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.errors import Refused, StoreError, TakenOver, leaves
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server, clock_of
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Batch
from tests.storage.distant import DistantStore

LEASE_S = 10.0


class Leased(DistantStore):
    """Notes when it was said that the server is alive, and says then what a test wants."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.beats: list[float] = []
        self.trouble: Callable[[], Exception] | None = None

    async def beat(self) -> None:
        await super().beat()
        self.beats.append(trio.current_time())
        if self.trouble is not None:
            raise self.trouble()


@pytest.fixture
async def store(autojump_clock: trio.testing.MockClock) -> Leased:
    return Leased()


def made(store: Leased) -> Server:
    return Server(Settings(audit_jobs_per_second=0), store, Clock(1_700_000_000_000))


async def push(server: Server) -> None:
    await server.core.execute(c.Push(queue="q", data=c.Raw(b"1")))


async def test_it_says_several_times_within_its_lease_that_it_is_alive(store: Leased, nursery: trio.Nursery):
    server = made(store)
    await nursery.start(serve, server, ())
    await trio.sleep(3 * LEASE_S)
    gaps = [later - earlier for earlier, later in zip(store.beats, store.beats[1:], strict=False)]
    assert len(gaps) >= 10
    assert max(gaps) < LEASE_S / 3
    server.stop.set()


async def test_it_is_not_ready_while_its_store_does_not_answer_although_nobody_asks(
    store: Leased, nursery: trio.Nursery
):
    server = made(store)
    await nursery.start(serve, server, ())
    store.trouble = lambda: StoreError("gone")
    await trio.sleep(LEASE_S / 2)
    assert (server.ready, server.journal.failing) == (False, "gone")
    with pytest.raises(Refused) as refused:
        await push(server)
    assert (refused.value.status, len(server.engine.jobs)) == (503, 0)
    store.trouble = None
    await trio.sleep(LEASE_S / 2)
    assert server.ready
    await push(server)
    server.stop.set()


async def test_it_ends_and_writes_nothing_when_it_was_replaced(store: Leased):
    server = made(store)
    written: list[Batch] = []

    async def hear_of_it() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, ())
            await push(server)
            server.core.begin(c.Push(queue="q", data=c.Raw(b"2")))  # nobody has an answer to this one
            store.trouble = lambda: TakenOver("by another")
            store.commit = lambda batch: written.append(batch) or _taken_over()  # type: ignore[method-assign, func-returns-value, assignment]
            await trio.sleep_forever()

    with pytest.RaisesGroup(TakenOver, flatten_subgroups=True) as ended:
        await hear_of_it()
    assert [str(leaf) for leaf in leaves(ended.value)] == ["by another"]
    assert len(written) == 1, "it tried once to write what it had"
    assert (server.tasks[0].state, server.tasks[0].restarts) == ("failed", 0)


def _taken_over() -> None:
    raise TakenOver("by another")


async def test_its_clock_is_the_one_that_all_servers_of_the_store_go_by(store: Leased):
    """Else a job that one of them has delayed would wait longer by as much as the clock of the next one is behind."""
    clock = clock_of(store)
    await trio.sleep(5)
    assert clock.now() == store.epoch_ms() + 5000
    assert abs(clock_of(MemoryStore()).now() - time.time() * 1000) < 60_000


async def test_a_database_that_breaks_off_while_a_start_reads_is_not_called_damaged(
    store: Leased, monkeypatch: pytest.MonkeyPatch
):
    """Whoever supervises it starts it again, which helps; a damaged one is a person's to mend."""

    def break_off() -> Any:
        raise StoreError("the connection broke")

    monkeypatch.setattr(store, "load_facts", break_off)
    with pytest.raises(StoreError, match=r": the connection broke$"):
        await serve(made(store), ())
