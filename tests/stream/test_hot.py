"""The hot loop, in virtual time on a network and a poller in memory; the real poller, beside them, in its contract."""

import json
import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.api.call import Response
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import GIVE_UP_S, KEEPER_S, Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import CATALOG, LISTS
from bunqueue_trio.runtime import core
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.supervisor import supervise
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports import express, hot
from bunqueue_trio.transports.listener import Http
from bunqueue_trio.transports.poller import Epoll
from tests.sim import wire
from tests.sim.wire import Connection, End, Pace, Poller
from tests.storage.faulty import Fault, FaultyStore
from tests.stream.test_virtual import nothing
from tests.wire.raw import request_bytes

START_MS = 1_700_000_000_000
PUSH = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')
PULL = request_bytes("GET", "/queues/q/jobs")
POLL = request_bytes("GET", "/queues/q/jobs?timeout=1000")


class World:
    """A server, its hot loop, and connections to it."""

    def __init__(self, nursery: trio.Nursery, settings: Settings, faults: list[Fault]) -> None:
        self.nursery = nursery
        self.store = FaultyStore(MemoryStore(), faults)
        self.server = Server(settings, self.store, Clock(START_MS))
        self.poller = Poller()
        self.http = Http(self.server, nursery, express=True, make_poller=lambda: self.poller)
        self.hot = self.http.shared.hot
        self.sent: list[bytes] = []
        self.on_send: Callable[[bytes], None] = self.sent.append

    async def start(self) -> None:
        await self.nursery.start(serve, self.server, [nothing])
        self.nursery.start_soon(self.http._keep)
        self.nursery.start_soon(supervise, self.http.loop)
        await trio.testing.wait_all_tasks_blocked()

    async def connect(self, pace: Pace = Pace(0, 0, 0)) -> End:
        """Return the client's end of a new connection."""
        connection = Connection(random.Random(1), pace)
        connection.server.on_send = self._sent
        self.nursery.start_soon(self.http.serve, connection.server)
        await trio.testing.wait_all_tasks_blocked()
        return connection.client

    def _sent(self, data: bytes) -> None:
        self.on_send(data)

    async def connect_many(self, number: int) -> list[End]:
        return [await self.connect() for _ in range(number)]

    async def push(self) -> str:
        """Push a job past all connections."""
        reply = await self.server.core.execute(c.Push(queue="q", data=Raw(b"1")))
        assert isinstance(reply, r.PushReply)
        return reply.id

    def state(self, job_id: str) -> str:
        return self.server.engine.jobs[job_id].state.value


Start = Callable[..., Any]


@pytest.fixture
async def start(nursery: trio.Nursery) -> AsyncIterator[Start]:
    """Starts a world."""

    async def begin(*faults: Fault, **settings: Any) -> World:
        world = World(nursery, Settings(**settings), list(faults))
        await world.start()
        return world

    yield begin
    nursery.cancel_scope.cancel()


def put(end: End, data: bytes) -> None:
    """Send ``data`` in this very step."""
    end._out.data += data
    end._out.note_change()


async def answer(end: End) -> bytes:
    """Return what has come when everybody waits for something."""
    await trio.testing.wait_all_tasks_blocked()
    return bytes(await end.receive_some()) if end._in.data or end._in.ended or end._in.torn else b""


def status(data: bytes) -> int:
    return int(data.split(b" ", 2)[1]) if data else 0


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
        target = path.replace(":queue", "q").replace(":name", "nightly") + "?state=waiting" * path.endswith("jobs/list")
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
    for parked in (1, 1, 0, 0):
        put(client, PUSH)
        assert status(await answer(client)) == 200
        assert len(world.hot) == parked
    other = await world.connect()
    put(other, PUSH)
    assert status(await answer(other)) == 200
    put(client, PUSH)
    assert status(await answer(client)) == 200
    assert len(world.hot) == 2


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

    def broken(self: Gateway, call: Any, body: bytes, address: str) -> Any:
        if b"bad" in body:
            raise AssertionError("planted")
        return begin(self, call, body, address)

    begin = Gateway.begin
    monkeypatch.setattr(Gateway, "begin", broken)
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


# --- the pollers ------------------------------------------------------------------------------------


class Real:
    """The kernel's poller, and a pair of sockets."""

    def __init__(self) -> None:
        self.poller = Epoll()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._ours))
        self.put, self.end = self._theirs.send, self._theirs.close
        self.close = self._ours.close


class Simulated:
    """The simulation's, and a connection."""

    def __init__(self) -> None:
        self.poller = Poller()
        connection = Connection(random.Random(1), Pace(0, 0, 0))
        self.stream = connection.server
        self.put, self.end = lambda data: put(connection.client, data), connection.client.close
        self.close = self.stream.close


@pytest.mark.parametrize("kind", [Real, Simulated])
async def test_a_poller_tells_of_who_is_watched_and_can_be_read(kind: type[Real] | type[Simulated]) -> None:
    side = kind()
    poller, buffer = side.poller, memoryview(bytearray(10))
    number = poller.descriptor_of(side.stream)
    poller.watch(number)
    with pytest.raises(OSError, match=r"."):
        poller.watch(number)
    assert poller.ready(9) == []
    with pytest.raises(BlockingIOError):
        poller.readv(number, [buffer])
    side.put(b"ab")
    with trio.fail_after(60):
        await poller.wait()
    assert poller.ready(9) == poller.ready(9) == [number]
    assert (poller.readv(number, [buffer]), bytes(buffer[:2])) == (2, b"ab")
    assert poller.write(number, b"x") == 1
    poller.ignore(number)
    side.end()
    assert poller.ready(9) == []  # not even of its end
    poller.watch(number)
    assert poller.ready(9) == [number]
    side.close()
    assert poller.ready(9) == []
    assert poller.descriptor_of(side.stream) == -1
    poller.ignore(number)
    poller.close()
    for closed in (number, -1):
        with pytest.raises((OSError, KeyError)):
            poller.watch(closed)


async def test_only_a_bare_socket_has_a_descriptor() -> None:
    one, _ = trio.testing.memory_stream_pair()
    for poller in (Epoll(), wire.Poller()):
        assert poller.descriptor_of(one) == -1
