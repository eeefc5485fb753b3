"""The hot loop, in virtual time on a network and a poller in memory; the real poller, beside them, in its contract."""

import json
import re

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.api.call import Response
from bunqueue_trio.config import GIVE_UP_S
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import CATALOG, LISTS
from bunqueue_trio.runtime import core
from bunqueue_trio.transports import express, hot
from tests.sim.wire import Pace
from tests.storage.faulty import Fault
from tests.stream.hot_world import POLL, PULL, PUSH, Start, answer, put, status
from tests.stream.hot_world import start as start
from tests.wire.raw import request_bytes


async def test_reading_goes_on_while_the_disk_refuses(start: Start) -> None:
    world = await start()
    job_id = await world.push()
    await world.server.core.execute(c.Cron(name="nightly", queue="other", repeat_every=86_400_000, data=Raw(b"1")))
    world.store.commits = iter([Fault.REFUSED] * 1000)
    clients = await world.connect_many(3)
    put(clients[0], PUSH)
    await trio.sleep(1)
    assert world.server.journal.failing is not None
    lists = [spec.http.path for spec in CATALOG if spec.command in LISTS and spec.http]
    assert len(lists) > 10
    for path in (
        f"/jobs/{job_id}",
        f"/jobs/{job_id}/state",
        "/queues",
        "/storage",
        "/queues/q/counts",
        "/workers",
        *lists,
    ):
        target = path.replace(":queue", "q").replace(":name", "nightly").replace(
            ":id", job_id
        ) + "?state=waiting" * path.endswith("jobs/list")
        for client in clients[1:]:
            put(client, request_bytes("GET", target))
        assert [status(await answer(client)) for client in clients[1:]] == [200, 200], path
    put(clients[1], PULL)
    put(clients[2], PUSH)
    assert [status(await answer(client)) for client in clients[1:]] == [503, 503]
    world.store.commits = iter([])
    await trio.sleep(1)


@pytest.mark.parametrize("trouble", ["the disk refuses", "the disk is full", "the server is busy"])
async def test_every_route_is_refused_or_not_by_the_loop_as_by_a_task(
    start: Start, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Reading goes on, and what empties the queues is refused last."""
    world = await start()
    journal, gateway = world.server.journal, world.http.shared.gateway
    if trouble == "the disk refuses":
        journal.failing = "planted"
    elif trouble == "the disk is full":
        journal.nearly_full_since = 1
    else:
        monkeypatch.setattr(journal._pressure, "refuses", lambda jobs, size: True)
    refused = 0
    for spec in CATALOG:
        if spec.http is None:
            continue
        request = spec.example.request if spec.example is not None else {}
        body = b"{}" if request is None or spec.http.method == "GET" else json.dumps(request).encode()
        call = gateway.resolve(spec.http.method, re.sub(r":\w+", "one", spec.http.path), {})
        if not gateway.may_begin(call):
            continue
        begun = gateway.begin(call, body)
        got = begun.status if isinstance(begun, Response) else gateway.finish_nowait(call, begun).status
        with trio.move_on_after(60):
            assert (got == 503) == ((await gateway.respond(call, body)).status == 503), spec.http
        refused += got == 503
    assert refused > 5
    journal.failing = journal.nearly_full_since = None


# --- one turn, one commit ---------------------------------------------------------------------------


async def test_requests_of_one_turn_are_answered_after_one_commit_and_their_events(start: Start) -> None:
    world = await start()
    clients = await world.connect_many(5)
    found: list[tuple[int, int]] = []
    world.on_send = lambda _: found.append((world.server.journal.commits, world.server.hub.last_event_id))
    for client in clients:
        put(client, PUSH)
    assert [status(await answer(client)) for client in clients] == [200] * 5
    assert found == [(1, 5)] * 5
    assert len(world.hot) == 5


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_bulk_command_that_the_loop_has_begun_comes_to_its_end_in_steps(
    start: Start, monkeypatch: pytest.MonkeyPatch, *, hangs_up: bool
) -> None:
    monkeypatch.setattr(core, "BULK_SLICE", 2)
    world = await start()
    client, other = await world.connect_many(2)
    ids = [f"job-{n}" for n in range(9)]
    jobs = [{"data": n, "jobId": job_id} for n, job_id in enumerate(ids)]
    put(client, request_bytes("POST", "/queues/q/jobs/bulk", json.dumps({"jobs": jobs}).encode()))
    put(other, PUSH)
    if hangs_up:
        await client.aclose()
    else:
        assert status(await answer(client)) == 200
    assert status(await answer(other)) == 200
    assert len(world.server.engine.jobs) == 10
    assert world.server.journal.commits == 1
    pulled = await world.server.core.execute(c.PullBatch(queue="q", count=10))
    assert isinstance(pulled, r.PullBatchReply)
    assert len(pulled.jobs) == 10
    again = (await world.connect_many(2))[0]
    put(again, request_bytes("POST", "/jobs/ack-batch", json.dumps({"ids": ids}).encode()))
    assert status(await answer(again)) == 200
    assert len(world.server.engine.jobs) == 1
    assert not world.server.journal.half.is_there


async def test_an_answer_waits_for_the_disk_and_no_longer_than_it_may(start: Start) -> None:
    world = await start(*[Fault.REFUSED] * 3)
    client = (await world.connect_many(1))[0]
    put(client, PUSH)
    assert await answer(client) == b""
    await trio.sleep(1)
    assert status(await answer(client)) == 200

    world.store.commits = iter([Fault.REFUSED] * 1000)
    put(client, PUSH)
    await trio.sleep(GIVE_UP_S - 1)
    assert await answer(client) == b""
    await trio.sleep(2)
    assert status(await answer(client)) == 503
    world.store.commits = iter([])
    await trio.sleep(1)


async def test_what_cannot_be_committed_in_the_step_is_left_to_the_flusher(start: Start) -> None:
    """A wake-up that is held back during a turn is not lost."""
    world = await start()
    clients = await world.connect_many(2)
    put(clients[0], request_bytes("POST", "/queues/q/jobs", b'{"data":1,"durable":true}'))
    put(clients[1], PUSH)
    assert [status(await answer(client)) for client in clients] == [200, 200]
    assert world.server.journal.durable_commits == 1


async def test_what_comes_before_the_answer_waits_for_it_and_keeps_nobody_busy(start: Start) -> None:
    world = await start()
    client = await world.connect()
    async with world.server.journal.disk:
        put(client, PUSH)
        await trio.testing.wait_all_tasks_blocked()
        put(client, PULL)
        await trio.testing.wait_all_tasks_blocked()
        assert world.poller.waits
        assert await answer(client) == b""
    pushed, pulled = (await answer(client)).split(b"HTTP/1.1 200")[1:]
    assert b'"data":1' in pulled
    assert b'"id"' in pushed


async def test_more_answers_than_a_step_may_write_are_written_by_their_tasks(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "ANSWERS_MAX", 2)
    world = await start(*[Fault.REFUSED] * 1000)
    clients = await world.connect_many(5)
    for client in clients:
        put(client, PUSH)
    await trio.sleep(GIVE_UP_S + 1)  # what is given up is answered, too, not waited for again
    assert [status(await answer(client)) for client in clients] == [503] * 5
    world.store.commits = iter([])
    await trio.sleep(1)
    for client in clients:
        put(client, PUSH)
    assert [status(await answer(client)) for client in clients] == [200] * 5


# --- what is left to the tasks ----------------------------------------------------------------------


async def test_a_pull_that_waits_is_counted_once(start: Start) -> None:
    world = await start(rate_limit_max_requests=2)
    client, other = await world.connect_many(2)
    put(client, POLL)
    put(other, PUSH)
    assert (status(await answer(other)), status(await answer(client))) == (200, 200)
    put(other, PUSH)
    assert status(await answer(other)) == 429


async def test_a_request_in_pieces_is_served_by_its_task(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(express, "OWN_REQUESTS", 1)
    world = await start()
    client, other = await world.connect_many(2)
    for parked in (1, 2):  # once more by itself, then it is asked again
        for byte in PUSH[:-1]:
            put(client, bytes([byte]))
            assert await answer(client) == b""
        put(client, PUSH[-1:])
        assert status(await answer(client)) == 200
        assert len(world.hot) == parked
        put(other, PUSH)
        assert status(await answer(other)) == 200


async def test_many_requests_in_one_piece_are_answered_in_order(start: Start) -> None:
    world = await start()
    client = await world.connect()
    put(client, PUSH + PULL + PUSH)
    found = b""
    while found.count(b"HTTP/1.1 200") < 3:
        found += await answer(client)
    assert found.index(b'"data":1') > found.index(b"HTTP/1.1 200", 1)


async def test_a_lone_connection_is_served_by_its_task_until_another_asks(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "LONE_REQUESTS", 2)
    world = await start()
    client = await world.connect()
    for watched in (1, 1, 0, 0, 0):
        put(client, PUSH)
        assert status(await answer(client)) == 200
        assert len(world.poller.watched) == watched
    other = await world.connect()
    put(other, PUSH)
    assert status(await answer(other)) == 200
    put(client, PUSH)
    assert status(await answer(client)) == 200
    assert len(world.poller.watched) == 2


async def test_an_answer_that_the_client_takes_in_parts_is_finished_by_its_task(start: Start) -> None:
    world = await start()
    job_id = await world.push()
    client = await world.connect(Pace(1, 0, 0))
    found, asked = b"", PULL
    put(client, asked)
    while b'"token"' not in found or not found.endswith(b"}"):
        found += await answer(client)
    assert job_id.encode() in found
    assert world.state(job_id) == "active"


async def test_a_large_answer_is_counted_and_sent_by_its_task(start: Start) -> None:
    world = await start()
    large = b'{"data":"' + b"x" * 200_000 + b'"}'
    await world.server.core.execute(c.Push(queue="q", data=Raw(large)))
    client = await world.connect()
    held: list[int] = []
    world.on_send = lambda _: held.append(world.server.buffers.held)
    put(client, PULL)
    found = b""
    while len(found) < len(large):
        found += await answer(client)
    await trio.testing.wait_all_tasks_blocked()
    assert max(held) >= len(large)
    assert world.server.buffers.held == 0
