"""The life of a server: how it starts, what ends it, in which order it stops, and what it leaves."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused, StartupError, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import Transport, serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.runtime.runtime_world import START_MS, Ids, settled
from tests.storage.faulty import Fault, FaultyStore
from tests.storage.ledger import Ledger, make_job

GRACE_S = 10


def make_server(store: FaultyStore | None = None) -> Server:
    settings = Settings(shutdown_grace_ms=GRACE_S * 1000)
    return Server(settings, store or FaultyStore(MemoryStore()), Clock(START_MS), Ids())


async def test_no_part_has_too_many_attributes_to_reach_them_quickly() -> None:
    """CPython reaches up to 30 in the dictionary of an object quickly, and any number of slots."""
    server = make_server()
    parts = (server.core, server.journal, server.hub, server.clock, server.engine.gates)
    assert [type(part).__name__ for part in parts if len(vars(part)) > 30] == []


def faulty(server: Server) -> FaultyStore:
    assert isinstance(server.store, FaultyStore)
    return server.store


def idle(address: str) -> Transport:
    """A transport that serves nobody until it is cancelled."""

    async def transport(server: Server, *, task_status: trio.TaskStatus[Sequence[str]]) -> None:
        task_status.started([address])
        await server.stop.wait()

    return transport


def push(server: Server, **fields: Any) -> Any:
    return server.core.execute(c.Push(queue="q", data=c.Raw(b"1"), **fields))


async def test_a_server_starts_serves_and_stops():
    server = make_server()
    async with trio.open_nursery() as nursery:
        assert await nursery.start(serve, server, [idle("a"), idle("b")]) is server
        assert server.addresses == ["a", "b"]
        assert server.ready
        await settled()
        assert {child.state for child in server.tasks} == {"running"}
        for _ in range(3):
            await push(server)
        await push(server, ttl=10)
        pulled = await server.core.execute(c.PullBatch(queue="q", count=2))
        await server.core.execute(c.Ack(id=pulled.jobs[0].id))  # type: ignore[attr-defined]
        await trio.sleep(0.01)
        await settled()
        assert server.counts() == {
            "waiting": 1, "delayed": 0, "waiting-children": 0, "active": 1, "completed": 1, "failed": 0,
        }  # fmt: skip
        await push(server, depends_on=[pulled.jobs[1].id])  # type: ignore[attr-defined]
        await server.core.execute(c.Cancel(id=pulled.jobs[1].id))  # type: ignore[attr-defined]
        assert server.counts()["failed"] == 1  # the dependent; it never ran, so its time to run is not counted
        meters = server.core.meters
        assert (meters.commit.count, meters.run.count) == (server.journal.commits, 1)
        server.stop.set()
    assert not server.ready
    assert faulty(server).closed
    assert [job.state for job in faulty(server).inner.load()] == [State.WAITING]


async def test_the_counts_are_those_of_memory_and_disk():
    store = FaultyStore(MemoryStore())
    ledger = Ledger(store)
    ledger.completed(2)
    ledger.completed(3, State.FAILED)
    ledger.write([make_job(100), make_job(101, state=State.DELAYED, run_at=START_MS + 1000)])
    server = make_server(store)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        counts = server.counts()
        assert [counts[name] for name in ("waiting", "delayed", "completed", "failed")] == [1, 1, 2, 3]
        nursery.cancel_scope.cancel()


async def test_what_came_due_while_no_server_ran_is_done_at_the_start():
    store = FaultyStore(MemoryStore())
    Ledger(store).write([make_job(1, state=State.DELAYED, order=0, run_at=START_MS - 5)])
    server = make_server(store)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        assert server.engine.counts[State.WAITING] == 1
        await settled()
        assert [job.state for job in store.inner.load()] == [State.WAITING]
        server.stop.set()


async def test_a_clock_that_was_set_back_between_two_lives_loses_nothing():
    store = FaultyStore(MemoryStore())
    Ledger(store).write(
        [make_job(1, created_at=START_MS + 10**7, run_at=START_MS + 10**7),
         make_job(2, state=State.DELAYED, order=0, run_at=START_MS + 10**7, created_at=START_MS + 10**6)]
    )  # fmt: skip
    server = make_server(store)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        assert (await server.core.execute(c.Pull(queue="q"))).job.id == "job-1"  # type: ignore[attr-defined]
        await trio.sleep(400)
        assert (await server.core.execute(c.Pull(queue="q"))).job.id in ("job-1", "job-2")  # type: ignore[attr-defined]
        server.stop.set()


# --- stopping -------------------------------------------------------------------------------------------


class Slow:
    """A transport with one request that takes ``seconds`` after the stop, and then pushes a last job."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.trace: list[str] = []

    async def __call__(self, server: Server, *, task_status: trio.TaskStatus[Sequence[str]]) -> None:
        task_status.started(["slow"])
        try:
            await server.stop.wait()
            await trio.sleep(self.seconds)
            self.trace += [child.state for child in server.services] if server.flusher.state == "running" else ["?"]
            await push(server)
            self.trace.append("answered")
        except trio.Cancelled:
            self.trace.append("cancelled")
            raise


async def test_requests_in_flight_are_finished_with_everything_below_them_still_running():
    server, slow = make_server(), Slow(GRACE_S - 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [slow])
        await settled()
        server.stop.set()
    assert slow.trace == ["running"] * len(server.services) + ["answered"]
    assert len(list(faulty(server).inner.load())) == 1
    assert trio.current_time() == GRACE_S - 1


async def test_requests_that_take_longer_than_the_grace_period_are_cut():
    server, slow = make_server(), Slow(GRACE_S + 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [slow])
        server.stop.set()
    assert slow.trace == ["cancelled"]
    assert trio.current_time() == GRACE_S


async def test_waiting_pulls_are_answered_and_streams_ended_at_the_stop():
    server = make_server()
    answered: list[Any] = []

    async def polling(server: Server, *, task_status: trio.TaskStatus[Sequence[str]]) -> None:
        task_status.started([])
        answered.append(await server.core.execute(c.Pull(queue="q", timeout=60_000)))

    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [polling])
        await trio.sleep(1)
        server.stop.set()
    assert [reply.job for reply in answered] == [None]
    assert server.hub.closed
    assert trio.current_time() == 1


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_what_still_waits_is_written_at_the_end(how: str):
    """Also what nobody waits for: a delivery, a lease given back."""
    server = make_server()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        await push(server)
        server.core.begin(c.Pull(queue="q"))
        if how == "stop":
            server.stop.set()
        else:
            nursery.cancel_scope.cancel()
    assert [job.state for job in faulty(server).inner.load()] == [State.ACTIVE]
    assert faulty(server).closed


async def test_a_batch_that_the_disk_takes_within_the_grace_period_is_written():
    store = FaultyStore(MemoryStore(), [Fault.REFUSED] * 5)
    server = make_server(store)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        with trio.move_on_after(0):
            await push(server)
        nursery.cancel_scope.cancel()
    assert len(list(store.inner.load())) == 1


async def test_a_batch_that_cannot_be_written_is_logged_and_the_store_is_closed_all_the_same(logs):
    store = FaultyStore(MemoryStore(), [Fault.REFUSED] * 1000, upkeep=[Fault.REFUSED])
    server = make_server(store)
    with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="unanswered changes could not be written: simulated")):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, [])
            with trio.move_on_after(1):
                await push(server)
            server.stop.set()
    assert trio.current_time() == 1 + GRACE_S
    assert store.closed
    assert [entry["event"] for entry in logs] == [
        "commit failed", "the log was not emptied",
    ]  # fmt: skip


async def test_a_disk_that_refuses_does_not_make_a_stop_take_the_grace_twice():
    """The request under way has it first, the last batch only what is left of it."""
    server = make_server(FaultyStore(MemoryStore(), [Fault.REFUSED] * 1000))
    with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="could not be written")):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, [Slow(GRACE_S + 1)])
            with trio.move_on_after(1):
                await push(server)
            server.stop.set()
    assert 1 + GRACE_S <= trio.current_time() <= 1 + GRACE_S + 1


@pytest.mark.parametrize("before", [True, False], ids=["before the stop", "by the last commit"])
async def test_damage_that_a_commit_has_met_does_not_make_a_stop_take_the_grace(before: bool):
    """The next start goes on from what is in the file."""
    store = FaultyStore(MemoryStore(), [Fault.DAMAGED])
    server = make_server(store)
    with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="could not be written: simulated: malformed")):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, ())
            if before:
                with pytest.raises(Refused):
                    await push(server)
            else:
                server.core.begin(c.Push(queue="q", data=c.Raw(b"1")))
            begun = trio.current_time()
            server.stop.set()
    assert trio.current_time() - begun < 0.1
    assert (store.tried, store.closed) == ([(1, Fault.DAMAGED)], True)
    assert list(store.inner.load()) == []


async def test_a_stop_during_the_final_commit_does_not_cut_it():
    store = FaultyStore(MemoryStore(), [Fault.REFUSED] * 4)
    server = make_server(store)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        with trio.move_on_after(0):
            await push(server)
        server.stop.set()
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert len(list(store.inner.load())) == 1


# --- failing --------------------------------------------------------------------------------------------


async def test_a_store_that_cannot_be_read_stops_the_start_and_is_closed_untouched():
    class Damaged(MemoryStore):
        def load(self):
            raise StartupError("queue.db: is damaged")

    store = FaultyStore(Damaged(), upkeep=[Fault.REFUSED])
    server = make_server(store)
    with pytest.raises(StartupError):
        await serve(server, [])
    assert store.closed
    assert list(store.upkeep) == [Fault.REFUSED]  # no checkpoint was tried


async def test_an_address_that_cannot_be_bound_stops_the_start_and_closes_the_store():
    async def unbindable(server: Server, *, task_status: trio.TaskStatus[Sequence[str]]) -> None:
        raise StartupError("address in use")

    server = make_server()
    with pytest.RaisesGroup(StartupError, flatten_subgroups=True):
        await serve(server, [idle("a"), unbindable])
    assert faulty(server).closed


async def test_a_service_that_fails_is_restarted_and_the_server_goes_on(logs):
    server = make_server()
    failures = iter([ValueError("surprise")])
    child = server.services[0]
    run = child.run

    async def failing() -> None:
        if error := next(failures, None):
            raise error
        await run()

    child.run = failing
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, server, [])
        await trio.sleep(1)
        assert (child.state, child.restarts) == ("running", 1)
        await push(server)
        server.stop.set()


async def test_a_service_that_fails_for_good_ends_the_server_after_a_last_commit(logs):
    server = make_server()

    async def failing() -> None:
        raise ValueError("again and again")

    server.services[0].run = failing
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, [idle("a")])
            server.core.begin(c.Push(queue="q", data=c.Raw(b"1")))
            await trio.sleep(60)
    assert len(list(faulty(server).inner.load())) == 1
    assert faulty(server).closed


async def test_a_broken_invariant_ends_the_server_and_writes_nothing_more(logs):
    """What memory holds is not to be trusted then; the next start recovers from the disk."""
    server = make_server()
    advance = server.core.advance

    def broken() -> None:
        server.engine.advance(server.clock.now() + 1000)
        raise AssertionError("broken")

    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, [idle("a")])
            await push(server, delay=1000)
            assert server.core.advance == advance
            server.core.advance = broken  # type: ignore[method-assign]
            await trio.sleep(60)
    assert trio.current_time() == 1
    assert [job.state for job in faulty(server).inner.load()] == [State.DELAYED]
    assert faulty(server).closed


async def test_a_broken_invariant_that_a_transport_made_an_answer_of_ends_the_server_all_the_same(logs):
    server = make_server()

    async def web_framework(server: Server, *, task_status: trio.TaskStatus[Sequence[str]]) -> None:
        task_status.started([])
        try:
            await push(server)
        except Exception:
            await trio.sleep_forever()  # "Internal Server Error", and on to the next request

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("broken")

    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            server.engine.add = broken  # type: ignore[method-assign, assignment]
            await nursery.start(serve, server, [web_framework])
            await trio.sleep(60)
    assert trio.current_time() == 0
    assert list(faulty(server).inner.load()) == []
    assert faulty(server).closed


async def test_a_contradiction_of_the_store_closes_it(logs):
    server = make_server()

    async def contradict() -> None:
        Ledger(faulty(server).inner).write([make_job(1)])
        with trio.move_on_after(1):
            await push(server)

    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, server, [])
            await contradict()
    assert faulty(server).closed


async def test_a_server_makes_ids_for_peers():
    server = Server(Settings(), MemoryStore(), Clock())
    assert server.new_id() != server.new_id()
