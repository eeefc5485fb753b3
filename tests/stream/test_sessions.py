"""Sessions in virtual time: the order of replies, waiting pulls, leases of connections, and who is not waited for."""

import json
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.api import session as session_module
from bunqueue_trio.config import (
    HALF_CLOSED_S,
    MIB,
    SESSION_REPLIES_MAX,
)
from bunqueue_trio.protocol.commands import Push
from bunqueue_trio.transports import hypercorn_websocket
from bunqueue_trio.transports import websocket as websocket_module
from bunqueue_trio.transports.listener import Http
from tests.stream.stream_world import END, START_MS, World, message, pushed, received
from tests.stream.stream_world import world as world
from tests.stream.ws import CLOSE, HANDSHAKE, TEXT, frame
from tests.wire.raw import request_bytes

# --- sessions -------------------------------------------------------------------------------------


async def test_a_reply_waits_for_its_commit_and_keeps_its_place(world: World) -> None:
    with world.session() as session:
        world.send(session, "Unsubscribe", reqId=0)
        session.outgoing()
        released = trio.Event()

        async def keep_busy(disk: trio.Lock) -> None:
            async with disk:
                await released.wait()

        world.nursery.start_soon(keep_busy, world.server.core.journal.disk)
        await trio.testing.wait_all_tasks_blocked()
        world.send(session, "PUSH", queue="q", data=1, reqId=1)
        world.send(session, "Nope", reqId=2)  # is known at once, and still comes second
        await trio.testing.wait_all_tasks_blocked()
        assert session.outgoing() == []
        released.set()
        while not (out := session.outgoing()):
            await session.bell.wait()
        assert [json.loads(m)["reqId"] for m in out] == [1, 2]


@pytest.mark.parametrize("is_back", [True, False])
@pytest.mark.parametrize("express", [True, False])
async def test_a_goodbye_waits_for_replies_to_what_came_before_it_and_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch, express: bool, is_back: bool
) -> None:
    for module in (websocket_module, hypercorn_websocket):
        monkeypatch.setattr(module, "GOODBYE_S", 3)
    world.http = Http(world.server, world.nursery, express=express)
    world.nursery.start_soon(world.http._keep)
    stream = await world.connect()
    await stream.send_all(HANDSHAKE.format(path="/ws/queues/other").encode())
    while b"101" not in await stream.receive_some():
        pass
    released, heard = trio.Event(), bytearray()

    async def keep_busy(disk: trio.Lock) -> None:
        async with disk:
            await released.wait()

    async def hear() -> None:
        while more := await stream.receive_some():
            heard.extend(more)

    world.nursery.start_soon(keep_busy, world.server.core.journal.disk)
    world.nursery.start_soon(hear)
    await trio.sleep(0.01)
    await stream.send_all(frame(TEXT, b'{"cmd": "PUSH", "queue": "q", "data": 1}') + frame(CLOSE, b"\x03\xe8"))
    await trio.sleep(2)
    assert b"\x88" not in heard
    if is_back:
        released.set()
        await trio.sleep(0.01)
    else:
        await trio.sleep(1.1)
    assert (b'"ok":true' in heard, heard.endswith(b"\x88\x02\x03\xe8")) == (is_back, True)
    assert world.server.connections.ws == 0
    released.set()


async def test_a_waiting_pull_waits_its_time_while_others_are_served(world: World) -> None:
    with world.session() as session:
        world.send(session, "Unsubscribe")
        begun = trio.current_time()
        world.send(session, "PULL", queue="q", timeout=60_000, reqId="long")
        assert (await world.ask(session, "Ping"))["ok"] is True
        assert trio.current_time() == begun
        while not (out := session.outgoing()):
            await session.bell.wait()
        assert json.loads(out[0]) == {"ok": True, "job": None, "token": None, "reqId": "long"}
        assert trio.current_time() - begun == pytest.approx(60, abs=0.01)


async def test_a_session_that_ends_waits_for_no_job_any_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "SESSION_POLLS_MAX", 1)
    ends = world.server.core.ends
    with world.session() as session:
        async with trio.open_nursery() as nursery:
            job_id = (await world.ask(session, "PUSH", queue="q", data=1))["id"]
            session.receive(json.dumps({"cmd": "WaitJob", "id": job_id, "reqId": "w"}).encode(), nursery)
            assert ends.waiting == world.server.statistics().waits == 1
            assert (await world.ask(session, "WaitJob", id=job_id))["code"] == "too-many-waits"
            assert ends.waiting == 1
            nursery.cancel_scope.cancel()
    assert ends.waiting == 0


@pytest.mark.parametrize(("express", "waits_s"), [(True, 600), (False, HALF_CLOSED_S)])
async def test_a_client_that_sends_no_more_waits_on_for_an_end_but_not_for_ever(
    world: World, express: bool, waits_s: float
) -> None:
    """It may have gone, and it may read on: nobody can tell. A broken connection ends the wait at once, see ``test_gone.py``."""
    world.http = Http(world.server, world.nursery, express=express)
    world.nursery.start_soon(world.http._keep)
    await world.server.core.execute(Push(queue="q", data=Raw(b"1"), job_id="j"))
    stream = await world.connect()
    await stream.send_all(request_bytes("POST", "/jobs/j/wait", b'{"timeout":600000}'))
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.ends.waiting == 1
    assert isinstance(stream, trio.abc.HalfCloseableStream)
    await stream.send_eof()
    await trio.sleep(waits_s - 1)
    assert world.server.core.ends.waiting == 1
    await trio.sleep(2)
    assert world.server.core.ends.waiting == 0
    if express:
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_a_reply_is_not_withheld_by_an_act_behind_it(world: World) -> None:
    for _ in range(4):
        await pushed(world)
    stream = await world.connect()
    await stream.send_all(HANDSHAKE.format(path="/ws/queues/other").encode())
    assert b"101 Switching" in await received(stream, 0.1)
    act = {"cmd": "ActOnJobs", "action": "cancel", "rate": 1, "filter": {"queue": "q"}}
    packet = [{"cmd": "PUSH", "queue": "else", "data": 1, "reqId": "before"}, act | {"reqId": "act"}]
    await stream.send_all(b"".join(message(**said) for said in packet))
    assert b'"reqId":"before"' in await received(stream, 0.5)
    assert b'"reqId":"act"' in await received(stream, 10)


async def test_release_on_disconnect_is_at_once_and_charges_nothing(world: World) -> None:
    with world.session() as other:
        with world.session() as session:
            job_id = (await world.ask(session, "PUSH", queue="q", data=1))["id"]
            assert (await world.ask(session, "PULL", queue="q"))["job"]["id"] == job_id
        job = (await world.ask(other, "PULL", queue="q"))["job"]
        assert (job["id"], job["attempts"]) == (job_id, 0)


async def test_a_vouched_connection_keeps_its_job_without_a_heartbeat(world: World) -> None:
    with world.session() as session:
        job_id = (await world.ask(session, "PUSH", queue="q", data=1))["id"]
        await world.ask(session, "PULL", queue="q")
        await trio.sleep(400)  # longer than any lease
        assert (await world.ask(session, "GetState", id=job_id))["state"] == "active"
        assert await world.ask(session, "ACK", id=job_id) == {"ok": True, "reqId": "asked"}


async def test_an_unvouched_connection_has_a_lease_that_heartbeats_renew(world: World) -> None:
    lease_s = world.server.settings.lease_ms / 1000
    with world.session(vouched=False) as session:
        job_id = (await world.ask(session, "PUSH", queue="q", data=1))["id"]
        token = (await world.ask(session, "PULL", queue="q"))["token"]
        for _ in range(5):
            await trio.sleep(lease_s * 0.9)
            assert (await world.ask(session, "JobHeartbeat", id=job_id, token=token))["ok"] is True
        await trio.sleep(lease_s * 1.1)
        assert (await world.ask(session, "GetState", id=job_id))["state"] == "waiting"
        assert (await world.ask(session, "JobHeartbeat", id=job_id, token=token))["ok"] is False


async def test_a_stall_is_broadcast(world: World) -> None:
    with world.session("q") as session:
        job_id = (await world.ask(session, "PUSH", queue="q", data=1))["id"]
        await world.ask(session, "PULL", queue="q", lockTtl=1000)
        heard: list[Any] = []
        while not heard or heard[-1]["eventType"] != "stalled":
            heard += map(json.loads, session.outgoing())
            await session.bell.wait()
            heard += map(json.loads, session.outgoing())
        assert heard[-1]["jobId"] == job_id
        assert heard[-1]["timestamp"] - START_MS == pytest.approx(1000, abs=5)


async def test_too_many_replies_in_line_stop_the_reading(world: World) -> None:
    with world.session() as session:
        for _ in range(SESSION_REPLIES_MAX):
            world.send(session, "Nope")
        with trio.move_on_after(1) as patience:
            await session.wait_room()
        assert patience.cancelled_caught
        while session.outgoing():
            pass
        await session.wait_room()


async def open_websocket(world: World) -> trio.abc.Stream:
    stream = await world.connect()
    world.nursery.start_soon(stream.send_all, HANDSHAKE.format(path="/ws").encode() + message(cmd="Unsubscribe"))
    assert b'"ok":true' in await received(stream, 1)
    return stream


async def test_a_peer_whose_turn_is_waited_for_is_not_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = await open_websocket(world)
    monkeypatch.setattr(world.server.core.journal._pressure, "fills", lambda jobs, size: True)
    pushes = b"".join(message(cmd="PUSH", queue="q", data=n) for n in range(40))
    world.nursery.start_soon(
        stream.send_all, pushes
    )  # each waits for 2 s, all of them for longer than a peer may be silent
    got = await received(stream, 100)
    assert got.count(b'"ok":true') == 40
    assert not got.endswith(END)


async def test_only_pushes_wait_for_their_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = await open_websocket(world)
    with world.session() as session:
        job_id = (await world.ask(session, "PUSH", queue="q", data=1))["id"]
    monkeypatch.setattr(world.server.core.journal._pressure, "fills", lambda jobs, size: True)
    world.nursery.start_soon(stream.send_all, message(cmd="Cancel", id=job_id) + message(cmd="PUSH", queue="q", data=2))
    assert (await received(stream, 1)).count(b'"ok":true') == 1
    assert (await received(stream, 2)).count(b'"ok":true') == 1


@pytest.mark.parametrize("replies", [1, 2, 3])
async def test_large_replies_that_nobody_reads_count_until_they_have_left(world: World, replies: int) -> None:
    with world.session() as session:
        job_id = (await world.ask(session, "PUSH", queue="q", data="x" * MIB))["id"]
    streams = [await open_websocket(world) for _ in range(5)]
    for stream in streams:
        for _ in range(replies):
            world.nursery.start_soon(stream.send_all, message(cmd="GetJob", id=job_id))
            await trio.sleep(0.1)
    assert world.server.buffers.held >= 5 * replies * MIB
    for stream in streams:
        assert (await received(stream, 1)).count(b'"ok":true') == replies
    assert world.server.buffers.held == 0


async def test_a_waiting_pull_that_would_outlive_its_session_is_noticed(world: World) -> None:
    with pytest.raises(AssertionError, match="would take jobs"), world.session() as session:  # noqa: PT012 - it is the end that raises
        world.send(session, "PULL", queue="q", timeout=60_000)
        await trio.testing.wait_all_tasks_blocked()
