"""Sessions and streams in virtual time: no socket, no disk, no waiting."""

import gc
import json
import ssl
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.api import gateway as gateway_module
from bunqueue_trio.api import session as session_module
from bunqueue_trio.api.event_stream import EventStream
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import (
    GIVE_UP_S,
    LARGE_BODY_BYTES,
    LINGER_S,
    LINGERING_MAX,
    MIB,
    PING_S,
    PINGS_MISSED_MAX,
    RECEIVE_BYTES,
    SESSION_REPLIES_MAX,
    SSE_COMMENT_S,
    WRITE_TIMEOUT_S,
    Settings,
)
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol.commands import Push
from bunqueue_trio.protocol.replies import PullReply, PushReply, Reply
from bunqueue_trio.runtime import hub
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports import quart_app as quart_app_module
from bunqueue_trio.transports import websocket as websocket_module
from bunqueue_trio.transports.listener import Http
from bunqueue_trio.transports.quart_app import make_app
from bunqueue_trio.transports.wire import Wire
from tests.stream.ws import CLOSE, HANDSHAKE, TEXT, frame
from tests.wire.raw import request_bytes

START_MS = 1_700_000_000_000
END = b"<end>"


class Sockless:
    """The name of a peer on a stream that has no socket."""

    family = None

    def getsockname(self) -> tuple[str, int]:
        return ("test", 1)

    getpeername = getsockname


class World:
    """A server in virtual time, and what its sessions say."""

    def __init__(self, server: Server, nursery: trio.Nursery) -> None:
        self.server = server
        self.nursery = nursery
        self.gateway = Gateway(server)
        self.http = Http(server, nursery, express=True)
        nursery.start_soon(self.http._keep)

    def session(self, queue: str | None = None, *, vouched: bool = True) -> Session:
        return Session(self.server, self.gateway, queue, vouched=vouched)

    def send(self, session: Session, cmd: str, /, **fields: Any) -> None:
        session.receive(json.dumps({"cmd": cmd, **fields}).encode(), self.nursery)

    async def ask(self, session: Session, cmd: str, /, **fields: Any) -> dict[str, Any]:
        """Return the reply to a command; events on the way are dropped."""
        self.send(session, cmd, **fields, reqId="asked")
        while True:
            for message in map(json.loads, session.outgoing()):
                if message.get("reqId") == "asked":
                    return dict(message)
            await session.bell.wait()

    async def connect(self) -> trio.abc.Stream:
        """Return the client's end of a connection that passes nothing on before it is read."""
        ours, theirs = trio.testing.lockstep_stream_pair()
        theirs.socket = Sockless()  # type: ignore[attr-defined]
        self.nursery.start_soon(self.http.serve, theirs)
        return ours


async def nothing(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
    task_status.started([])
    await server.stop.wait()


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    server = Server(Settings(), MemoryStore(), Clock(START_MS))
    await nursery.start(serve, server, [nothing])
    yield World(server, nursery)
    nursery.cancel_scope.cancel()


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
    for module in (websocket_module, quart_app_module):
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


async def test_a_long_poll_waits_its_time_while_others_are_served(world: World) -> None:
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


@pytest.mark.parametrize("express", [True, False])
async def test_a_client_that_has_gone_waits_for_no_job_any_more(world: World, express: bool) -> None:
    world.http = Http(world.server, world.nursery, express=express)
    world.nursery.start_soon(world.http._keep)
    await world.server.core.execute(Push(queue="q", data=Raw(b"1"), job_id="j"))
    stream = await world.connect()
    await stream.send_all(request_bytes("POST", "/jobs/j/wait", b'{"timeout":600000}'))
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.ends.waiting == 1
    await stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.core.ends.waiting == 0


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


async def test_events_that_do_not_fit_are_counted_and_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "READER_EVENTS_MAX", 3)
    with world.session("q") as slow, world.session("other") as pusher:
        for n in range(10):
            await world.ask(pusher, "PUSH", queue="q", data=n)
        messages = [json.loads(m) for m in slow.outgoing()]
        assert [m.get("data") for m in messages] == [0, 1, 2, None]
        assert messages[-1]["missedEvents"] == 7
        await world.ask(pusher, "PUSH", queue="q", data=10)
        assert [json.loads(m)["data"] for m in slow.outgoing()] == [10]


# --- streams of events ----------------------------------------------------------------------------


async def test_an_idle_stream_says_something_now_and_then(world: World) -> None:
    stream = EventStream(world.server, None, None)
    assert b'"connected":true' in await anext(stream)
    for n in range(1, 4):
        assert await anext(stream) == b": keep-alive\n\n"
        assert trio.current_time() == pytest.approx(n * SSE_COMMENT_S)
    await stream.aclose()


async def test_a_stream_whose_buffer_overflows_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "READER_EVENTS_MAX", 3)
    stream = EventStream(world.server, None, None)
    await anext(stream)
    with world.session("other") as pusher:
        for n in range(10):
            await world.ask(pusher, "PUSH", queue="q", data=n)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await stream.aclose()
    assert world.server.connections.sse == 0
    again = EventStream(world.server, None, 0)
    await anext(again)
    assert (await anext(again)).count(b"data: ") == 10
    await again.aclose()


async def test_a_stream_is_sent_in_pieces(world: World) -> None:
    """Each has its time to be taken: a reader of much is not cut for the length of what there is."""
    stream = EventStream(world.server, None, None)
    await anext(stream)
    with world.session("other") as pusher:
        for _ in range(40):
            await world.ask(pusher, "PUSH", queue="q", data="x" * 10_000)
    count, pieces = 0, 0
    while count < 40:
        piece = await anext(stream)
        assert len(piece) < RECEIVE_BYTES + 11_000  # one event may be begun
        count, pieces = count + piece.count(b"data: "), pieces + 1
    assert pieces > 5
    await stream.aclose()


async def test_what_readers_do_not_take_is_inside_the_budget(world: World) -> None:
    """Readers that come back for much and read none of it: each holds a piece of it, and all of them so much."""
    core, buffers = world.server.core, world.server.buffers
    for _ in range(8):
        await core.execute(Push(queue="q", data=Raw(b'"%s"' % (b"x" * (MIB // 2)))))
    buffers.hold().grow(world.server.settings.buffers_max_bytes - 3 * MIB)
    before = buffers.held
    streams = [EventStream(world.server, None, 0) for _ in range(3)]
    held = []
    for stream in streams:
        await anext(stream)
        with suppress(StopAsyncIteration):
            held.append(len(await anext(stream)))
    assert all(MIB <= size < 2 * MIB for size in held)
    assert buffers.held - before == sum(held) <= 3 * MIB
    assert len(held) == 2, "the third one is ended, and comes back"
    for stream in streams:
        await stream.aclose()
    assert buffers.held == before


async def test_retention_that_overtakes_a_replay_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "REPLAY_EVENTS", 2)
    with world.session("other") as pusher:
        for n in range(10):
            await world.ask(pusher, "PUSH", queue="q", data=n)
    stream = EventStream(world.server, None, 1)
    await anext(stream)
    assert b"id: 2\n" in await anext(stream)
    monkeypatch.setattr(world.server.store, "first_event_id", lambda: 8)
    assert await anext(stream) == b'id: 7\ndata: {"gap":true,"after":3,"oldest":8,"newest":10}\n\n'
    assert (await anext(stream)).startswith(b"id: 8\n")
    await stream.aclose()


@pytest.mark.parametrize("moment", [0, 1])
async def test_a_disk_that_cannot_be_read_ends_the_stream_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, logs: list[Any], moment: int
) -> None:
    with world.session("other") as pusher:
        await world.ask(pusher, "PUSH", queue="q", data=1)
    stream = EventStream(world.server, None, 0)
    for _ in range(moment):
        await anext(stream)

    def unreadable() -> int:
        raise StoreError("no")

    with monkeypatch.context() as blind:
        blind.setattr(world.server.store, "first_event_id", unreadable)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    await stream.aclose()
    assert [entry["event"] for entry in logs] == ["read failed"]
    assert world.server.connections.sse == 0
    again = EventStream(world.server, None, 0)
    await anext(again)
    assert b'"eventType":"pushed"' in await anext(again)
    await again.aclose()


async def test_a_payload_of_many_lines_is_one_line(world: World) -> None:
    stream = EventStream(world.server, None, None)
    await anext(stream)
    with world.session("other") as pusher:
        pusher.receive(b'{"cmd":"PUSH","queue":"q","data":{\r\n"a":\n1,\r"b":"\\n"}}', world.nursery)
    chunk = await anext(stream)
    assert chunk.count(b"\n") == 3
    assert b'"data":{  "a": 1, "b":"\\n"}' in chunk
    await stream.aclose()


# --- replies that are given up, and jobs that are not delivered ----------------------------------------


def full_disk(*_: object) -> None:
    raise StoreError("full")


async def test_a_reply_that_is_given_up_holds_no_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pull waits for its commit, since the queue is limited; its job goes back, and what it carried is let go."""
    with world.session() as session:
        await world.ask(session, "Unsubscribe")
        await world.ask(session, "SetConcurrency", queue="q", concurrency=5)
        job_id = (await world.ask(session, "PUSH", queue="q", data="x" * MIB))["id"]
        with monkeypatch.context() as patch:
            patch.setattr(world.server.store, "commit", full_disk)
            world.send(session, "PULL", queue="q", reqId="given-up")
            assert world.server.buffers.held >= MIB
            await trio.sleep(GIVE_UP_S + 1)
            (said,) = session.outgoing()
            assert (json.loads(said)["ok"], json.loads(said)["reqId"]) == (False, "given-up")
            assert world.server.buffers.held == 0
        await trio.sleep(5)
        assert (await world.ask(session, "PULL", queue="q"))["job"]["id"] == job_id
        while session.outgoing():
            pass
        assert world.server.buffers.held == 0
    assert world.server.buffers.held == 0


async def test_a_list_that_is_given_up_is_told_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with world.session() as session:
        await world.ask(session, "Unsubscribe")
        with monkeypatch.context() as patch:
            patch.setattr(world.server.store, "commit", full_disk)
            world.send(session, "PUSH", queue="q", data=1, reqId="push")
            world.send(session, "FindJobs", queue="q", reqId="list")
            assert not session.outgoing()
            await trio.sleep(GIVE_UP_S + 1)
            said = [json.loads(each) for each in session.outgoing()]
            assert [(each["ok"], each["reqId"]) for each in said] == [(False, "push"), (True, "list")]
            assert len(said[1]["jobs"]) == 1
        await trio.sleep(5)


@pytest.fixture
def given_back(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the jobs that were returned since their delivery failed, each time that one was."""
    ids: list[str] = []
    give_back = world.server.core.give_back

    def noted(reply: Reply) -> None:
        if isinstance(reply, PullReply) and reply.job is not None:
            ids.append(reply.job.id)
        give_back(reply)

    monkeypatch.setattr(world.server.core, "give_back", noted)
    return ids


async def pushed(world: World, size: int = 1) -> str:
    reply = await world.server.core.execute(Push(queue="q", data=Raw(b'"%s"' % (b"x" * size))))
    assert isinstance(reply, PushReply)
    return reply.id


def is_waiting(world: World) -> bool:
    return world.server.engine.counts == {"waiting": 1, "delayed": 0, "waiting-children": 0, "active": 0}


@pytest.mark.parametrize("why", ["no-room", "no-memory"])
async def test_a_job_that_cannot_be_told_is_back_at_once(
    world: World, given_back: list[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    job_id = await pushed(world, MIB)

    def no_memory(*_: object) -> bytes:
        raise MemoryError

    call = world.gateway.resolve("GET", "/queues/q/jobs", {})
    if why == "no-room":
        world.server.buffers.hold().grow(world.server.settings.buffers_max_bytes)
        assert (await world.gateway.respond(call, b"")).status == 503
    else:
        monkeypatch.setattr(gateway_module, "encode", no_memory)
        with pytest.raises(MemoryError):
            await world.gateway.respond(call, b"")
    assert given_back == [job_id]
    assert is_waiting(world)


async def test_a_job_whose_answer_does_not_fit_any_more_is_back_at_once(world: World, given_back: list[str]) -> None:
    """There was room when it was looked for, and none when the answer was about to be sent."""
    job_id = await pushed(world, MIB)
    response = await world.gateway.respond(world.gateway.resolve("GET", "/queues/q/jobs", {}), b"")
    assert response.status == 200
    world.server.buffers.hold().grow(world.server.settings.buffers_max_bytes)
    with world.server.buffers.hold() as hold:
        assert world.gateway.count(response, hold).status == 503
        assert hold.size == 0
    assert given_back == [job_id]
    assert response.delivery is not None
    response.delivery.end()
    assert given_back == [job_id]
    assert is_waiting(world)


@pytest.mark.parametrize("size", [1, MIB])
@pytest.mark.parametrize("moment", ["rendered", "written", "sent"])
async def test_a_job_whose_response_is_not_sent_by_the_express_lane_is_back_once(
    world: World, given_back: list[str], monkeypatch: pytest.MonkeyPatch, size: int, moment: str
) -> None:
    job_id = await pushed(world, size)
    client = await world.connect()

    def no_memory(*_: object, **__: object) -> bytes:
        raise MemoryError

    async def broken(*_: object) -> None:
        raise trio.BrokenResourceError

    if moment == "rendered":
        monkeypatch.setattr(world.http.shared.heads, "render", no_memory)
    elif moment == "written":
        monkeypatch.setattr(Wire, "send", broken)
    await client.send_all(request_bytes("GET", "/queues/q/jobs"))
    got = await received(client, 5)
    await trio.aclose_forcefully(client)
    await trio.testing.wait_all_tasks_blocked()
    assert (job_id.encode() in got) == (moment == "sent")
    assert given_back == ([] if moment == "sent" else [job_id])
    assert is_waiting(world) == (moment != "sent")


# --- WebSockets on a stream ------------------------------------------------------------------------


def message(**fields: Any) -> bytes:
    return frame(TEXT, json.dumps(fields).encode())


async def received(stream: trio.abc.Stream, seconds: float) -> bytes:
    """What comes in so long; it ends with END if the stream does."""
    got = b""
    with trio.move_on_after(seconds):
        while data := await stream.receive_some(65536):
            got += data
        got += END
    return got


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


@pytest.mark.parametrize("sent", [False, True])
async def test_a_job_whose_response_is_not_sent_through_quart_is_back_at_once(world: World, sent: bool) -> None:
    await world.server.core.execute(Push(queue="q", data=Raw(b"1")))
    app = make_app(world.server, world.gateway)
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "headers": [], "query_string": b"",
        "raw_path": b"/queues/q/jobs", "extensions": {}, "asgi": {},
    }  # fmt: skip
    asked = [{"type": "http.request", "body": b"", "more_body": False}]
    messages = []

    async def receive() -> dict[str, Any]:
        if not asked:
            await trio.sleep_forever()
        return asked.pop()

    async def send(response: dict[str, Any]) -> None:
        messages.append(response["type"])
        if not sent:
            raise trio.BrokenResourceError

    with suppress(BaseExceptionGroup, trio.BrokenResourceError):
        await app(scope, receive, send)
    assert messages
    assert world.server.engine.counts["active"] == sent
    assert world.server.engine.counts["waiting"] == (not sent)


# --- connections ----------------------------------------------------------------------------------


async def test_a_client_that_takes_no_answer_is_ended_within_the_write_timeout(world: World) -> None:
    """Of a plain request and of a stream; a push by somebody else goes on meanwhile."""
    for target in ("/healthz", "/events"):
        client = await world.connect()
        await client.send_all(request_bytes("GET", target))
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.http._connections) == 1
        with world.session("x") as session:
            assert (await world.ask(session, "PUSH", queue="q", data=1))["ok"] is True
        await trio.sleep(WRITE_TIMEOUT_S + 5)
        assert not world.http._connections, target
        await trio.aclose_forcefully(client)
    assert world.server.connections.sse == 0


async def test_a_peer_that_answers_no_ping_is_gone_and_its_jobs_go_back(world: World) -> None:
    client = await world.connect()
    begun = trio.current_time()
    await client.send_all(HANDSHAKE.format(path="/ws").encode())
    heard = bytearray()
    with trio.move_on_after(PING_S * (PINGS_MISSED_MAX + 1) + 5) as patience:
        while data := await client.receive_some():
            heard += data
    assert not patience.cancelled_caught
    assert heard.count(b"\x89\x00") == PINGS_MISSED_MAX + 1
    assert trio.current_time() - begun == pytest.approx(PING_S * (PINGS_MISSED_MAX + 1), abs=2)
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.connections.ws == 0


async def test_a_peer_that_reads_a_trickle_of_a_message_is_ended(world: World) -> None:
    """Each 64 KiB of it have their time; what is read of them now and then gives no more."""
    with world.session("x") as session:
        pushed = await world.ask(session, "PUSH", queue="q", data="x" * 1_000_000)
    client = await world.connect()
    await client.send_all(HANDSHAKE.format(path="/ws/queues/none").encode())
    assert b" 101 " in await client.receive_some()
    command = json.dumps({"cmd": "GetJob", "id": pushed["id"]}).encode()
    begun = trio.current_time()
    await client.send_all(frame(TEXT, command))
    while world.server.connections.ws and trio.current_time() < begun + 5 * WRITE_TIMEOUT_S:
        await client.receive_some(1000)
        await trio.sleep(5)
    assert trio.current_time() - begun == pytest.approx(WRITE_TIMEOUT_S, abs=10)


async def _refused(world: World) -> float:
    """Send garbage, read the answer to its end, and return how long that took; the client does not close."""
    client = await world.connect()
    begun = trio.current_time()
    await client.send_all(b"\xff garbage\r\n\r\n")
    answer = b""
    with suppress(trio.BrokenResourceError):
        while data := await client.receive_some():
            answer += bytes(data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    return trio.current_time() - begun


async def test_refused_connections_that_stay_are_closed_at_once_if_there_are_many(world: World) -> None:
    assert await _refused(world) == pytest.approx(LINGER_S)
    world.http._goodbyes.lingering[LINGERING_MAX] = LINGERING_MAX
    assert await _refused(world) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "objects"),
    [
        (b"\xff garbage\r\n\r\n", 0),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 0),
        # What Werkzeug's router leaves behind.
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 10),
    ],
    ids=["garbage", "express", "hypercorn"],
)
async def test_a_connection_leaves_next_to_nothing_for_the_garbage_collector(
    world: World, sent: bytes, objects: int
) -> None:
    """A full collection is rare, and a flood of connections that wait for it takes all memory."""

    async def connect() -> None:
        client = await world.connect()
        await client.send_all(sent)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 ")
        await trio.aclose_forcefully(client)
        await trio.testing.wait_all_tasks_blocked()

    for _ in range(3):
        await connect()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await connect()
        assert gc.collect() <= 20 * objects
    finally:
        gc.enable()


@pytest.mark.parametrize("express", [True, False], ids=["express", "hypercorn"])
async def test_a_job_for_a_client_that_has_gone_returns(world: World, express: bool) -> None:
    world.http._express = express
    with world.session() as session:
        job_id = (await world.ask(session, "PUSH", queue="q", data=1))["id"]
        client = await world.connect()
        await client.send_all(b"GET /queues/q/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.aclose_forcefully(client)
        await trio.testing.wait_all_tasks_blocked()
        state = await world.ask(session, "GetState", id=job_id)
    assert (state["state"], state["stalls"]) == ("waiting", 0)


@pytest.mark.parametrize("express", [True, False], ids=["express", "hypercorn"])
@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xc8"], ids=["no-tls", "half-a-hello"])
async def test_a_failed_handshake_does_not_wait_for_the_garbage_collector(
    world: World, sent: bytes, express: bool
) -> None:
    """It would keep OpenSSL's buffers, tens of KiB that the collector does not count."""
    world.http._express = express
    client, theirs = trio.testing.memory_stream_pair()
    theirs.socket = Sockless()  # type: ignore[attr-defined]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    encrypted = trio.SSLStream(theirs, context, server_side=True, https_compatible=True)
    ended = weakref.ref(encrypted)
    world.nursery.start_soon(world.http.serve, encrypted)
    del encrypted
    gc.disable()
    try:
        await client.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(client)
        await trio.testing.wait_all_tasks_blocked()
        assert ended() is None
    finally:
        gc.enable()


async def test_the_keeper_lets_go_of_what_it_has_ended(world: World) -> None:
    client = await world.connect()
    await trio.testing.wait_all_tasks_blocked()
    (connection,) = world.http._connections
    ended = weakref.ref(connection)
    await trio.sleep(80)
    assert not world.http._connections
    del connection
    gc.collect()
    assert ended() is None
    await trio.aclose_forcefully(client)


async def test_what_a_library_asserts_in_a_connection_ends_that_connection_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    """Only the broken invariants of the engine and the journal end the process."""

    def broken(*_: object) -> None:
        raise AssertionError("planted in a parser")

    with monkeypatch.context() as patch:
        patch.setattr(world.http.shared.requests, "parse", broken)
        client = await world.connect()
        await client.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.receive_some() == b""
    assert not world.server.core.broken.is_set()
    client = await world.connect()
    await client.send_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.receive_some()).startswith(b"HTTP/1.1 200 OK")


class Rounds(trio.abc.Instrument):
    """Counts the rounds in which all tasks that are ready run once."""

    def __init__(self) -> None:
        self.begun = 0

    def before_io_wait(self, timeout: float) -> None:
        self.begun += 1


async def test_one_large_request_is_worked_on_in_a_round(world: World) -> None:
    """An ack of 10,000 jobs takes 0.05 s; so would each of twenty before a small request had its turn."""
    padded = b'{"ids":[]' + b" " * LARGE_BODY_BYTES + b"}"
    rounds = Rounds()
    answered: list[int] = []

    async def ask(session: Session | None) -> None:
        if session is None:
            call = world.gateway.resolve("POST", "/jobs/ack-batch", {})
            assert (await world.gateway.respond(call, padded)).status == 200
        else:
            await session.wait_turn(padded)
        answered.append(rounds.begun)

    with world.session() as session:
        trio.lowlevel.add_instrument(rounds)
        async with trio.open_nursery() as askers:
            for peer in (None, session, None, session, None):
                askers.start_soon(ask, peer)
    assert len(answered) == 5
    assert len(set(answered)) == 5
