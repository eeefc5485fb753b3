"""A connection that nobody asks beside, in virtual time: its own task takes the turns of the hot loop."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import GIVE_UP_S
from bunqueue_trio.transports import hot
from tests.sim.wire import End, Pace
from tests.storage.faulty import Fault
from tests.stream.hot_world import POLL, PULL, PUSH, Start, World, answer, put, status
from tests.stream.hot_world import start as start
from tests.wire.raw import request_bytes

Alone = Callable[..., Awaitable[tuple[World, End]]]

DURABLE = request_bytes("POST", "/queues/q/jobs", b'{"data":1,"durable":true}')


@pytest.fixture
def alone(start: Start, monkeypatch: pytest.MonkeyPatch) -> Alone:
    """Starts a world with a connection that is alone."""
    monkeypatch.setattr(hot, "LONE_REQUESTS", 1)

    async def begin(**settings: Any) -> tuple[World, End]:
        world = await start(**settings)
        client = await world.connect()
        # One tells the loop who asks, one that nobody else does, and the next one its task reads by itself.
        for _ in range(3):
            put(client, PUSH)
            assert status(await answer(client)) == 200
        assert is_alone(world)
        return world, client

    return begin


def is_alone(world: World) -> bool:
    return len(world.hot) == 1 and not world.poller.watched


async def test_its_requests_are_committed_in_their_own_steps(alone: Alone) -> None:
    world, client = await alone()
    before = world.server.journal.commits
    for n in range(1, 5):
        put(client, PUSH)
        assert status(await answer(client)) == 200
        assert world.server.journal.commits == before + n
        assert not world.server.journal.dirty
    assert is_alone(world)


@pytest.mark.parametrize("request_", [DURABLE, PUSH], ids=["durable", "not"])
async def test_what_is_not_committed_in_its_step_is_answered_then_and_it_stays_alone(
    alone: Alone, request_: bytes
) -> None:
    world, client = await alone()
    world.store.commits = iter([Fault.REFUSED])
    for _ in range(3):
        put(client, request_)
        await trio.sleep(1)
        assert status(await answer(client)) == 200
    assert is_alone(world)
    world.store.commits = iter([Fault.REFUSED] * 1000)
    put(client, request_)
    await trio.sleep(GIVE_UP_S + 1)
    assert status(await answer(client)) == 503
    world.store.commits = iter([])
    await trio.sleep(1)


async def test_it_takes_jobs_and_waits_for_some(alone: Alone) -> None:
    world, client = await alone()
    for _ in range(3):
        put(client, PULL)
        assert b'"token"' in await answer(client)
    assert is_alone(world)
    put(client, POLL)
    assert await answer(client) == b""
    job_id = await world.push()
    assert job_id.encode() in await answer(client)


async def test_a_job_that_it_takes_and_ends_at_once_is_one_commit(alone: Alone) -> None:
    world, client = await alone()
    before = world.server.journal.commits
    for n in range(1, 4):
        put(client, PULL)
        job_id = json.loads((await answer(client)).partition(b"\r\n\r\n")[2])["job"]["id"]
        put(client, request_bytes("POST", f"/jobs/{job_id}/ack", b"{}"))
        assert status(await answer(client)) == 200
        assert world.server.journal.commits == before + n
    assert is_alone(world)


async def test_what_it_sends_in_pieces_is_served_in_order(alone: Alone) -> None:
    _, client = await alone()
    client.other._pace = Pace(1, 0, 0)
    found = b""
    put(client, PUSH + PULL + PUSH)
    while found.count(b"HTTP/1.1 200") < 3 or not found.endswith(b"}"):
        found += await answer(client)
    assert found.index(b'"data":1') > found.index(b"HTTP/1.1 200", 1)


async def test_it_parks_when_another_has_asked_and_both_share_a_commit(alone: Alone) -> None:
    world, client = await alone()
    other = await world.connect()
    put(other, PUSH)
    assert status(await answer(other)) == 200
    put(client, PUSH)
    assert status(await answer(client)) == 200
    assert len(world.poller.watched) == 2
    before = world.server.journal.commits
    put(client, PUSH)
    put(other, PUSH)
    assert [status(await answer(each)) for each in (client, other)] == [200, 200]
    assert world.server.journal.commits == before + 1


async def test_a_job_whose_lone_client_has_gone_is_back(alone: Alone) -> None:
    world, client = await alone()
    put(client, PULL)
    client.close()
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.counts() | {"waiting": 3, "active": 0} == world.server.counts()
    assert not world.http._connections
    assert len(world.hot) == 0


async def test_who_is_ended_while_its_commit_is_awaited_gets_nothing(alone: Alone) -> None:
    world, client = await alone()
    world.sent.clear()
    async with world.server.journal.disk:
        put(client, PUSH)
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = world.http._connections
        assert not connection.is_idle()
        connection.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.hot) == 0
    await trio.testing.wait_all_tasks_blocked()
    assert not world.sent


async def test_a_stop_ends_it_at_once_and_an_answer_before_says_so(alone: Alone) -> None:
    world, client = await alone()
    (connection,) = world.http._connections
    assert connection.is_idle()
    async with world.server.journal.disk:
        put(client, PUSH)
        await trio.testing.wait_all_tasks_blocked()
        world.server.stop.set()
    assert b"\r\nConnection: close\r\n" in await answer(client)
    await trio.testing.wait_all_tasks_blocked()
    assert not world.http._connections


async def test_who_says_nothing_more_is_ended_in_time(alone: Alone) -> None:
    world, client = await alone(keep_alive_ms=5000)
    await trio.sleep(3)
    put(client, PUSH)
    assert status(await answer(client)) == 200
    await trio.sleep(4)
    assert is_alone(world)
    await trio.sleep(3)
    assert not world.http._connections


async def test_who_waits_for_a_commit_when_the_loop_fails_is_served_before_it_is_back(
    alone: Alone, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    world, client = await alone()
    other = await world.connect()
    # Who comes counts as who has asked.
    for _ in range(3):
        put(client, PUSH)
        assert status(await answer(client)) == 200
    assert len(world.poller.watched) == 1

    def broken(most: int) -> Any:
        raise ValueError("planted")

    async with world.server.journal.disk:
        for each in (client, other):
            put(each, PUSH)
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):  # the second restart comes after a pause
            with monkeypatch.context() as patch:
                patch.setattr(world.poller, "ready", broken)
                third = await world.connect()
                put(third, PULL)
                await trio.testing.wait_all_tasks_blocked()
    assert world.http.loop.restarts == 2
    assert [status(await answer(each)) for each in (client, other)] == [200, 200]
    for each in (client, other):
        put(each, PUSH)
        assert status(await answer(each)) == 200
    assert not world.hot._runs
    await trio.sleep(1)
    for each in (client, other) * 3:
        put(each, PUSH)
        assert status(await answer(each)) == 200
