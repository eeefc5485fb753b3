"""Connections that end and faults in the hot loop, in virtual time: one connection ends, the others are served."""

from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.api import beginning
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import KEEPER_S
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.codec import decode
from bunqueue_trio.transports import hot
from tests.stream.hot_world import POLL, PULL, PUSH, Start, answer, put, status
from tests.stream.hot_world import start as start
from tests.wire.raw import request_bytes

# --- ends -------------------------------------------------------------------------------------------


async def test_a_job_whose_client_has_gone_is_back(start: Start) -> None:
    world = await start()
    job_id = await world.push()
    client = await world.connect()
    put(client, PULL)
    client.close()
    await trio.testing.wait_all_tasks_blocked()
    assert world.state(job_id) == "waiting"
    assert not world.http._connections


async def test_a_client_that_hangs_up_while_it_waits_is_noticed_by_the_loop(start: Start) -> None:
    world = await start()
    client, other = await world.connect_many(2)
    put(other, PULL)
    assert status(await answer(other)) == 200
    tasks = len(world.nursery.child_tasks)
    for _ in range(3):
        put(client, POLL)
        assert await answer(client) == b""
        # No task looks for it, beside its own.
        assert len(world.nursery.child_tasks) == tasks
        assert world.server.core.pulls_waiting == 1
        put(other, PUSH)
        assert (status(await answer(other)), status(await answer(client))) == (200, 200)
    put(client, POLL)
    assert await answer(client) == b""
    await client.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.pulls_waiting == 0
    assert len(world.http._connections) == 1
    assert world.poller.waits


async def test_what_a_client_sends_while_it_waits_is_served_then(start: Start) -> None:
    world = await start()
    client = await world.connect()
    put(client, POLL)
    await trio.testing.wait_all_tasks_blocked()
    put(client, PUSH)
    assert await answer(client) == b""
    assert world.poller.waits
    assert world.server.core.pulls_waiting == 1
    job_id = await world.push()
    found = b""
    while found.count(b"HTTP/1.1 200") < 2:
        found += await answer(client)
    assert job_id.encode() in found.split(b"HTTP/1.1 200")[1]


async def test_a_job_that_waits_for_its_commit_when_its_connection_is_ended_is_back(start: Start) -> None:
    world = await start()
    client = await world.connect()
    async with world.server.journal.disk:
        begun = world.server.core.begin(c.Push(queue="q", data=Raw(b"1")))
        put(client, PULL)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(begun.reply, r.PushReply)
        assert world.state(begun.reply.id) == "active"
        (connection,) = world.http._connections
        assert not connection.is_idle()
        await world.http._end(connection)
        await trio.testing.wait_all_tasks_blocked()
        assert world.state(begun.reply.id) == "waiting"
    assert not world.sent


async def test_who_is_ended_is_out_of_the_loop_in_that_step(start: Start) -> None:
    world = await start()
    client = await world.connect()
    (connection,) = world.http._connections
    put(client, PUSH)
    connection.scope.cancel()
    assert len(world.hot) == 0
    await trio.testing.wait_all_tasks_blocked()
    assert not world.server.engine.jobs


async def test_who_has_left_the_loop_with_a_request_is_not_idle(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await start()
    client = await world.connect()
    (connection,) = world.http._connections
    idle: list[bool] = []
    leave = world.hot._leave

    def note(*arguments: Any) -> None:
        leave(*arguments)
        idle.append(connection.is_idle())

    monkeypatch.setattr(world.hot, "_leave", note)
    put(client, POLL)
    await trio.testing.wait_all_tasks_blocked()
    assert idle == [False]


async def test_nothing_is_sent_to_who_was_ended_in_the_same_round_of_tasks(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor may be another's by then."""
    world = await start()
    client = await world.connect()
    async with world.server.journal.disk:
        put(client, PUSH)
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = world.http._connections
        connection.scope.cancel()
        with monkeypatch.context() as patch:
            patch.setattr(world.server.journal, "committed", 1)
            world.hot._release()
    await trio.testing.wait_all_tasks_blocked()
    assert not world.sent


async def test_who_was_answered_and_says_nothing_more_is_ended_in_time(start: Start) -> None:
    world = await start(keep_alive_ms=5000)
    clients = await world.connect_many(2)
    await trio.sleep(3)
    put(clients[0], PUSH)
    assert status(await answer(clients[0])) == 200
    await trio.sleep(3 + KEEPER_S)
    assert [len(world.hot), len(world.http._connections)] == [1, 1]
    await trio.sleep(3 + KEEPER_S)
    assert [len(world.hot), len(world.http._connections)] == [0, 0]


async def test_the_last_answer_before_a_stop_says_so(start: Start) -> None:
    world = await start()
    client = await world.connect()
    async with world.server.journal.disk:
        put(client, PUSH)
        await trio.testing.wait_all_tasks_blocked()
        world.server.stop.set()
        await trio.testing.wait_all_tasks_blocked()
    assert b"\r\nConnection: close\r\n" in await answer(client)
    await trio.testing.wait_all_tasks_blocked()
    assert not world.http._connections


async def test_a_fault_of_one_connection_ends_that_one_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    world = await start()
    clients = await world.connect_many(3)

    def broken(kind: Any, body: bytes, *rest: Any, **given: str) -> Any:
        if b"bad" in body:
            raise AssertionError("planted")
        return decode(kind, body, *rest, **given)

    monkeypatch.setattr(beginning, "decode", broken)
    put(clients[0], PUSH)
    put(clients[1], request_bytes("POST", "/queues/q/jobs", b'{"data":"bad"}'))
    put(clients[2], PUSH)
    assert [status(await answer(client)) for client in clients] == [200, 0, 200]
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["connection failed"]
    assert (len(world.hot), world.http.loop.restarts) == (2, 0)


async def test_an_answer_that_cannot_be_made_ends_its_connection_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    world = await start()
    clients = await world.connect_many(2)
    finish, calls = Gateway.finish_nowait, iter([True, False])

    def broken(self: Gateway, call: Any, begun: Any) -> Any:
        if next(calls):
            raise MemoryError
        return finish(self, call, begun)

    monkeypatch.setattr(Gateway, "finish_nowait", broken)
    for client in clients:
        put(client, PUSH)
    assert [status(await answer(client)) for client in clients] == [0, 200]
    assert (len(world.hot), world.http.loop.restarts) == (1, 0)


async def test_when_the_loop_fails_the_tasks_serve_until_it_is_back(
    start: Start, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    world = await start()
    clients = await world.connect_many(2)
    for _ in range(2):  # the second restart comes after a pause

        def broken(most: int) -> Any:
            raise ValueError("planted")

        with monkeypatch.context() as patch:
            patch.setattr(world.poller, "ready", broken)
            put(clients[0], PUSH)
            assert status(await answer(clients[0])) == 200
    assert world.http.loop.restarts == 2
    for client in clients:
        put(client, PUSH)
    assert [status(await answer(client)) for client in clients] == [200, 200]
    await trio.sleep(1)
    for client in clients * 2:
        put(client, PUSH)
        assert status(await answer(client)) == 200
    assert len(world.hot) == 2


# --- fairness and overload --------------------------------------------------------------------------


async def test_who_was_ready_and_not_served_comes_first(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "TURN_LONG_S", -1)
    world = await start()
    clients = await world.connect_many(4)
    order: list[int] = []

    async def ask(number: int) -> None:
        for _ in range(3):
            put(clients[number], PUSH)
            while not (await clients[number].receive_some()).startswith(b"HTTP/1.1 200"):
                pass
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(ask, number)
    assert world.server.journal.commits == 12
    assert [sorted(order[i : i + 4]) for i in (0, 4, 8)] == [[0, 1, 2, 3]] * 3


async def test_the_loop_refuses_what_the_tasks_would(start: Start) -> None:
    world = await start()
    client, other = await world.connect_many(2)
    world.server.journal.failing = "planted"
    put(client, PUSH)
    put(other, request_bytes("POST", "/queues/q/jobs?x=1", b'{"data"'))
    assert [status(await answer(each)) for each in (client, other)] == [503, 503]
    world.server.journal.failing = None
    put(other, request_bytes("POST", "/queues/q/jobs", b'{"data"'))
    assert status(await answer(other)) == 400
    assert len(world.hot) == 2
