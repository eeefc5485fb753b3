"""Bulk pushes of many jobs over a connection: the order of what it says, and what its end leaves."""

import json
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.api import bulk as reading
from bunqueue_trio.api import gateway, session
from bunqueue_trio.errors import StoreDamaged
from bunqueue_trio.protocol import parts
from bunqueue_trio.runtime import core, half
from tests.patience import PATIENCE_S
from tests.stream.stream_world import World, message
from tests.stream.stream_world import world as world
from tests.stream.ws import HANDSHAKE, frame
from tests.wire.raw import request_bytes

CLOSE = frame(0x8, b"\x03\xe8")
PING = frame(0x9, b"")


@pytest.fixture(autouse=True, params=[True, False], ids=["in parts", "whole"])
def small_slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "BULK_SLICE", 2)
    if request.param:
        monkeypatch.setattr(parts, "_PART", 3)
        for reader in (gateway, reading):
            monkeypatch.setattr(reader, "PARTS_FROM", 10)
        monkeypatch.setattr(session, "LARGE_BODY_BYTES", 10)


def bulk(n: int = 9, **fields: Any) -> dict[str, Any]:
    return {"cmd": "PUSHB", "queue": "q", "jobs": [{"data": k, "jobId": f"job-{k}"} for k in range(n)], **fields}


def waiting(world: World) -> int:
    return len(world.server.engine.jobs)


async def opened(world: World) -> trio.abc.Stream:
    """A WebSocket that hears of no events."""
    stream = await world.connect()
    sent = HANDSHAKE.format(path="/ws").encode() + message(cmd="Unsubscribe", reqId=0)
    assert await said(world, stream, sent, 1) == [0]
    return stream


async def said(world: World, stream: trio.abc.Stream, sent: bytes, n: int) -> list[int]:
    """The numbers of the first ``n`` replies to what is sent, in their order."""
    world.nursery.start_soon(stream.send_all, sent)
    got = ""
    with trio.fail_after(PATIENCE_S):
        while got.count('"reqId":') < n:
            got += (await stream.receive_some()).decode("latin-1")
    return [int(part.partition("}")[0]) for part in got.split('"reqId":')[1:]]


@pytest.mark.parametrize("at_once", [True, False], ids=["in one piece", "frame by frame"])
async def test_what_comes_behind_it_is_done_and_answered_behind_it(world: World, at_once: bool):
    stream = await opened(world)
    frames = [
        message(cmd="Ping", reqId=1), message(**bulk(reqId=2)), message(cmd="Cancel", id="job-8", reqId=3),
        message(**bulk(reqId=4)), message(cmd="Ping", reqId=5),
    ]  # fmt: skip
    if at_once:
        assert await said(world, stream, b"".join(frames), 5) == [1, 2, 3, 4, 5]
    else:
        assert [(await said(world, stream, one, 1))[0] for one in frames] == [1, 2, 3, 4, 5]
    assert waiting(world) == 9


@pytest.mark.parametrize("first", [b"", PING], ids=["by itself", "behind another frame"])
async def test_what_came_with_a_goodbye_is_done_in_order(world: World, first: bytes):
    stream = await opened(world)
    frames = [first, message(**bulk(reqId=1)), message(cmd="Cancel", id="job-8", reqId=2), CLOSE]
    await stream.send_all(b"".join(frames))
    await trio.testing.wait_all_tasks_blocked()
    assert waiting(world) == 8


async def test_what_came_with_a_goodbye_is_done_in_steps(world: World):
    class Added(trio.abc.Instrument):
        most = before = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.before = waiting(world)

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            self.most = max(self.most, waiting(world) - self.before)

    stream = await opened(world)
    added = Added()
    trio.lowlevel.add_instrument(added)
    # After another frame the parser reads all that is there, the goodbye too, before the first of it is done.
    await stream.send_all(PING + message(**bulk(reqId=1)) + message(cmd="Ping", reqId=2) + CLOSE)
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(added)
    assert (added.most, waiting(world)) == (2, 9)


async def test_others_are_served_meanwhile(world: World):
    with world.session() as one, world.session() as other:
        world.send(one, "Unsubscribe")
        one.receive(json.dumps(bulk(reqId="bulk")).encode(), world.nursery)
        assert one.full
        assert not one.idle
        assert waiting(world) == 2
        world.send(other, "Ping", reqId="other")
        assert b'"other"' in b"".join(other.outgoing())
        await one.wait_room()
        assert waiting(world) == 9
        while b'"bulk"' not in b"".join(one.outgoing()):
            await one.bell.wait()
        assert one.idle


async def test_its_end_leaves_all_of_it(world: World):
    async with trio.open_nursery() as polls:
        with world.session() as one:
            one.receive(json.dumps(bulk()).encode(), polls)
            polls.cancel_scope.cancel()
    assert waiting(world) == 9
    assert not world.server.core.journal.half.is_there


async def test_a_request_whose_client_is_gone_leaves_all_of_it(world: World):
    client = await world.connect()
    body = json.dumps({"jobs": bulk()["jobs"]}).encode()
    await client.send_all(request_bytes("POST", "/queues/q/jobs/bulk", body))
    await trio.aclose_forcefully(client)
    await trio.testing.wait_all_tasks_blocked()
    assert waiting(world) in {0, 9}
    assert not world.server.core.journal.half.is_there


async def test_a_refused_one_changes_nothing_and_keeps_its_place(world: World):
    stream = await opened(world)
    bad = bulk(reqId=2)
    bad["jobs"][-1]["dependsOn"] = ["nobody"]
    assert await said(
        world, stream, message(cmd="Ping", reqId=1) + message(**bad) + message(cmd="Ping", reqId=3), 3
    ) == [1, 2, 3]
    assert waiting(world) == 0


@pytest.mark.parametrize("carrier", ["websocket", "http"])
async def test_one_that_is_refused_in_a_later_step_is_answered_so(
    world: World, monkeypatch: pytest.MonkeyPatch, carrier: str
):
    monkeypatch.setattr(half, "LOOKED_AT", 2)
    bad = bulk(reqId=1)
    bad["jobs"][-1]["dependsOn"] = ["nobody"]
    if carrier == "websocket":
        stream, sent = await opened(world), message(**bad)
    else:
        stream, sent = (
            await world.connect(),
            request_bytes("POST", "/queues/q/jobs/bulk", json.dumps({"jobs": bad["jobs"]}).encode()),
        )
    world.nursery.start_soon(stream.send_all, sent)
    got = b""
    with trio.fail_after(PATIENCE_S):
        while b"jobs[8]: Dependency job not found: nobody" not in got:
            got += await stream.receive_some()
    assert b'"ok":false' in got
    assert waiting(world) == 0
    assert not world.server.core.journal.half.is_there


@pytest.mark.parametrize("carrier", ["websocket", "http"])
async def test_one_whose_dependencies_cannot_be_read_in_a_later_step_is_answered_so_and_costs_no_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, carrier: str
):
    def damaged(_: object) -> None:
        raise StoreDamaged("malformed")

    monkeypatch.setattr(half, "LOOKED_AT", 2)
    bad = bulk(reqId=1)
    bad["jobs"][-1]["dependsOn"] = ["ended"]
    if carrier == "websocket":
        stream, sent = await opened(world), [message(**bad), message(**bulk(reqId=2))]
    else:
        stream = await world.connect()
        bodies = [json.dumps({"jobs": command["jobs"]}).encode() for command in (bad, bulk())]
        sent = [request_bytes("POST", "/queues/q/jobs/bulk", body) for body in bodies]
    with monkeypatch.context() as patch:
        patch.setattr(world.server.store, "outcomes", damaged)
        assert b'"code":"storage-damaged"' in await answer_to(world, stream, sent[0])
    assert waiting(world) == 0
    assert b'"ids":["job-0",' in await answer_to(world, stream, sent[1])
    assert waiting(world) == 9


async def answer_to(world: World, stream: trio.abc.Stream, sent: bytes) -> bytes:
    world.nursery.start_soon(stream.send_all, sent)
    got = b""
    with trio.fail_after(PATIENCE_S):
        while not got.endswith(b"}"):
            got += await stream.receive_some()
    return got


async def test_a_large_one_over_http_is_read_in_parts_and_in_one_commit(world: World):
    client = await world.connect()
    jobs = [{"data": {"n": n}, "jobId": f"job-{n}", "delay": 60_000} for n in range(500)]
    world.nursery.start_soon(
        client.send_all, request_bytes("POST", "/queues/q/jobs/bulk", json.dumps({"jobs": jobs}).encode())
    )
    got = b""
    with trio.fail_after(PATIENCE_S):
        while b'"ids":[' not in got or not got.endswith(b"}"):
            got += await client.receive_some()
    assert json.loads(got[got.index(b"{") :])["ids"] == [job["jobId"] for job in jobs]
    assert waiting(world) == 500
    assert world.server.core.journal.commits == 1


async def test_two_that_are_read_at_once_are_both_in(world: World):
    streams = [await opened(world) for _ in range(2)]
    for k, stream in enumerate(streams):
        jobs = [{"data": n, "jobId": f"{k}-{n}"} for n in range(20)]
        world.nursery.start_soon(stream.send_all, message(cmd="PUSHB", queue="q", jobs=jobs, reqId=k))
    for k, stream in enumerate(streams):
        got = b""
        with trio.fail_after(PATIENCE_S):
            while b'"reqId":' not in got:
                got += await stream.receive_some()
        assert b'"reqId":%d' % k in got
    assert waiting(world) == 40


SLOW = ["null", "2.0", "1e3"]
"""Numbers that the quick decoder does not take for one."""


@pytest.mark.parametrize("delay", ["5", *SLOW])
@pytest.mark.parametrize("carrier", ["websocket", "http"])
@pytest.mark.thorough
async def test_jobs_that_take_long_to_read_are_read_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch, carrier: str, delay: str
):
    """Ten thousand of them within 256 KiB would be one step of 0.1 s."""
    monkeypatch.undo()
    steps = 0

    def counted(*args: Any) -> Any:
        nonlocal steps
        reader = read_in_parts(*args)
        while True:
            try:
                step = next(reader)
            except StopIteration as done:
                return done.value
            steps += 1
            yield step

    read_in_parts = reading.read_in_parts
    monkeypatch.setattr(reading, "read_in_parts", counted)
    jobs = b",".join([b'{"data":1,"delay":%s}' % delay.encode()] * 3000)
    if carrier == "websocket":
        stream = await opened(world)
        sent = frame(0x1, b'{"cmd":"PUSHB","queue":"q","reqId":1,"jobs":[%s]}' % jobs)
        assert await said(world, stream, sent, 1) == [1]
    else:
        stream = await world.connect()
        world.nursery.start_soon(stream.send_all, request_bytes("POST", "/queues/q/jobs/bulk", b'{"jobs":[%s]}' % jobs))
        with trio.fail_after(PATIENCE_S):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    assert waiting(world) == 3000
    assert (steps > 10) is (delay != "5")
