"""What a server does while another one leads its store: it is a door to that one, and says so where it cannot be."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio import run
from bunqueue_trio.config import (
    LINK_PATIENCE_S,
    LINK_PATIENT_MAX,
    WAITING_ROOM_ASKING,
    WAITING_ROOM_S,
    Settings,
)
from bunqueue_trio.doors.link import LinkLost
from bunqueue_trio.doors.remote import RemoteLink
from bunqueue_trio.doors.waiting_room import Waiting, WaitingRoom
from bunqueue_trio.errors import StartupError, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.cluster import DoorFigures
from bunqueue_trio.testing.process import free_port
from tests.doors.test_remote import KEY, start_leader
from tests.wire.raw import request_bytes

PUSH = b"POST /queues/q/jobs HTTP/1.1\r\n\r\n"


async def asked(room: WaitingRoom, request: bytes, *, ends: bool = True) -> bytes:
    """What comes back, up to the end of the connection."""
    mine, its = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.serve, its)
        await mine.send_all(request)
        if ends:
            await mine.send_eof()
        answer = b""
        while more := await mine.receive_some(65536):
            answer += more
    return answer


@pytest.fixture
def room() -> WaitingRoom:
    """One that knows of no leader."""
    return WaitingRoom(RemoteLink(), Settings())


async def test_it_lives_and_can_do_nothing(room: WaitingRoom, autojump_clock: trio.testing.MockClock):
    alive = await asked(room, b"GET /healthz?x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert alive.startswith(b"HTTP/1.1 200 OK\r\n")
    assert alive.endswith(b"\r\n\r\nOK")
    assert (await asked(room, b"HEAD /live HTTP/1.1\r\n\r\n")).endswith(b"Connection: close\r\n\r\n")
    ready = await asked(room, b"GET /ready HTTP/1.1\r\n\r\n")
    assert ready.startswith(b"HTTP/1.1 503 ")
    assert trio.current_time() == 0, "probes do not wait"
    for request in (PUSH, b"POST /healthz HTTP/1.1\r\n\r\n", b"\x16\x03\r\n\r\n", b"x" * 20_000):
        begun = trio.current_time()
        head, _, body = (await asked(room, request)).partition(b"\r\n\r\n")
        assert trio.current_time() - begun == LINK_PATIENCE_S + Settings().store_lease_ms / 1000
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Content-Length: %d" % len(body) in head
        assert b"\r\nRetry-After: 2\r\n" in head
        assert json.loads(body)["code"] == "standby"
    assert (await asked(room, b"HEAD / HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")
    assert room._patient == 0


async def test_who_says_nothing_or_half_of_it_is_left_alone(room: WaitingRoom, autojump_clock: trio.testing.MockClock):
    assert await asked(room, b"") == await asked(room, b"GET / HT") == b""
    begun = trio.current_time()
    assert await asked(room, b"GET / HT", ends=False) == b""
    assert trio.current_time() - begun == WAITING_ROOM_S


async def test_who_comes_while_many_ask_waits_a_while(room: WaitingRoom, autojump_clock: trio.testing.MockClock):
    streams = [trio.testing.memory_stream_pair() for _ in range(WAITING_ROOM_ASKING + 1)]
    async with trio.open_nursery() as nursery:
        for _, its in streams:
            nursery.start_soon(room.serve, its)
        await trio.testing.wait_all_tasks_blocked()
        assert room._asking.statistics().tasks_waiting == 1
    for mine, _ in streams:
        assert await mine.receive_some(1) == b""


async def test_a_bounded_number_waits_for_the_leader(room: WaitingRoom, autojump_clock: trio.testing.MockClock):
    room._patient = LINK_PATIENT_MAX
    assert (await asked(room, PUSH)).startswith(b"HTTP/1.1 503 ")
    assert trio.current_time() == 0


class LostOnce(RemoteLink):
    """A link that seems up; the first connection to the leader does not come about, and the next one goes to ``leader``."""

    def __init__(self, leader: trio.abc.Stream) -> None:
        super().__init__()
        self._streams: list[trio.abc.Stream | None] = [None, leader]

    @property
    def is_up(self) -> bool:
        return True

    async def wait_up(self, seconds: float) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def open(self, address: str) -> Any:
        await trio.lowlevel.checkpoint()
        stream = self._streams.pop(0)
        if stream is None:
            raise LinkLost("it has just died")
        return stream


async def test_no_byte_of_a_large_request_is_lost_when_the_leader_cannot_be_reached(
    autojump_clock: trio.testing.MockClock,
):
    leader, its = trio.testing.memory_stream_pair()
    room = WaitingRoom(LostOnce(its), Settings())
    request = b"POST /queues/q/jobs HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
    mine, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.serve, theirs)
        nursery.start_soon(mine.send_all, request)
        got = b""
        with trio.fail_after(60):
            while len(got) < len(request):
                got += await leader.receive_some(65536)
        assert got == request
        nursery.cancel_scope.cancel()


async def test_who_goes_before_the_answer_does_no_harm(room: WaitingRoom, autojump_clock: trio.testing.MockClock):
    mine, its = trio.testing.memory_stream_pair()
    await mine.send_all(b"GET /ready HTTP/1.1\r\n\r\n")
    await mine.aclose()
    await room.serve(its)
    assert room.connections == 0


async def test_one_too_many_is_refused_in_words(room: WaitingRoom, autojump_clock: trio.testing.MockClock):
    room._connections_max = 0
    assert b"too-many-connections" in await asked(room, PUSH)


async def test_an_address_that_is_taken_is_named(nursery: trio.Nursery, tmp_path):
    settings = Settings(bind=("127.0.0.1:0", f"unix:{tmp_path}/s"))
    await nursery.start(Waiting(settings).run)
    with pytest.raises(StartupError, match="cannot listen"):
        await Waiting(Settings(bind=(f"unix:{tmp_path}/s",))).run()
    async with await trio.open_unix_socket(f"{tmp_path}/s") as stream:
        await stream.send_all(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200")
    nursery.cancel_scope.cancel()


async def opened(waiting: Waiting, nursery: trio.Nursery, path: str) -> trio.SocketStream:
    """A client of a server that waits."""
    await nursery.start(waiting.run)
    return await trio.open_unix_socket(path)


async def ended(stream: trio.SocketStream) -> bytes:
    """What comes up to the end of a connection."""
    data = b""
    with trio.fail_after(60):
        while more := await stream.receive_some(65536):
            data += bytes(more)
    return data


async def asks(waiting: Waiting, stream: trio.SocketStream, request: bytes) -> None:
    """Ask, and wait until that is known."""
    await stream.send_all(request)
    with trio.fail_after(60):
        while not waiting._room or not waiting._room._patient:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


async def test_a_server_that_waits_says_how_it_is_doing_as_a_door(
    nursery: trio.Nursery, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 0.01)
    path = f"{tmp_path}/s"
    waiting = Waiting(Settings(bind=(f"unix:{path}",)))
    assert waiting.note_leader(None, KEY) == DoorFigures(reaches=False, connections=0, requests=0)
    client = await opened(waiting, nursery, path)
    leader = await start_leader(nursery)
    waiting.note_leader(leader.where, KEY)
    assert await waiting.link.wait_up(60)
    await client.send_all(request_bytes("GET", "/health"))
    assert (await client.receive_some(65536)).startswith(b"HTTP/1.1 200")
    assert waiting.note_leader(leader.where, KEY) == DoorFigures(reaches=True, connections=1, requests=0)
    await client.aclose()
    nursery.cancel_scope.cancel()


async def test_a_server_that_leads_itself_answers_what_its_clients_have_asked_of_the_last_leader(
    nursery: trio.Nursery, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 0.01)
    path = f"{tmp_path}/s"
    waiting = Waiting(Settings(bind=(f"unix:{path}",)))
    assert not waiting.has_begun
    client = await opened(waiting, nursery, path)
    assert waiting.has_begun
    await asks(waiting, client, request_bytes("GET", "/queues/q/jobs"))
    await waiting.leave()
    assert waiting.kept is not None
    [listener] = waiting.kept.listeners
    newcomer = await trio.open_unix_socket(path)
    accepted = await listener.accept()  # by the server itself
    for stream in (newcomer, accepted, listener):
        await stream.aclose()
    leader = await start_leader(nursery)  # which is the same process, later
    waiting.note_served(leader.where, KEY)
    answer = await ended(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower(), "the next request is for the server itself"
    await client.aclose()
    nursery.cancel_scope.cancel()


async def test_a_database_that_breaks_off_as_a_server_begins_to_lead_costs_those_who_waited_no_answer(
    autojump_clock: trio.testing.MockClock,
):
    asked: list[float] = []
    served: list[tuple[str | None, bytes]] = []

    async def reached() -> tuple[str | None, bytes]:
        await trio.lowlevel.checkpoint()
        asked.append(trio.current_time())
        if len(asked) < 3:
            raise StoreError("the connection broke")
        return "127.0.0.1:1", KEY

    closed: list[bool] = []
    announcer = SimpleNamespace(reached=reached, close=lambda: closed.append(True))
    store: Any = SimpleNamespace(announcer=lambda: announcer)
    waiting: Any = SimpleNamespace(note_served=lambda *where: served.append(where))
    await run._serve_those_who_waited(store, waiting)
    assert (served, closed, len(asked)) == ([("127.0.0.1:1", KEY)], [True], 3)
    assert 0 < asked[-1] < LINK_PATIENCE_S


async def test_who_has_hung_up_before_there_is_a_leader_gets_no_job(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """Over TCP, where nobody who writes learns that the other side reads no more."""
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 0.01)
    port = free_port()
    waiting = Waiting(Settings(bind=(f"127.0.0.1:{port}",)))
    await nursery.start(waiting.run)
    gone = await trio.open_tcp_stream("127.0.0.1", port)
    await asks(waiting, gone, request_bytes("GET", "/queues/q/jobs"))
    await gone.aclose()
    leader = await start_leader(nursery)
    await leader.server.core.execute(c.Push(queue="q", data=Raw(b"1")))
    waiting.link.note_leader(leader.where, KEY)
    with trio.fail_after(60):
        while waiting._room is None or waiting._room.connections:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        # It was delivered, and returned: the leader cannot know who waits at a door.
        while leader.server.counts()["waiting"] != 1:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert leader.server.statistics().totals.pulled == 1
    nursery.cancel_scope.cancel()


async def test_a_server_that_leads_without_a_link_cannot_answer_those(nursery: trio.Nursery, tmp_path):
    path = f"{tmp_path}/s"
    waiting = Waiting(Settings(bind=(f"unix:{path}",)))
    waiting.note_served(None, KEY)
    client = await opened(waiting, nursery, path)
    assert waiting._room is not None
    asked = waiting._room.asking.ask(1, b"a", PUSH)
    await waiting.leave()
    waiting.note_served(None, KEY)
    assert b'"standby"' in asked.answer
    await client.aclose()
    assert waiting.kept is not None
    for listener in waiting.kept.listeners:
        await listener.aclose()
    nursery.cancel_scope.cancel()


async def test_a_server_that_is_asked_to_stop_while_it_waits_ends_what_it_has(nursery: trio.Nursery, tmp_path):
    path = f"{tmp_path}/s"
    waiting = Waiting(Settings(bind=(f"unix:{path}",)))
    await waiting.stop()  # before it has any
    waiting = Waiting(Settings(bind=(f"unix:{path}",), shutdown_grace_ms=100))
    client = await opened(waiting, nursery, path)
    await asks(waiting, client, PUSH)
    await waiting.stop()
    assert await ended(client) == b""
    await client.aclose()
    nursery.cancel_scope.cancel()


async def test_who_waits_reads_meanwhile_what_it_will_serve_with(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """The web framework takes 0.2 s of a processor, which the first clients of a new leader were without."""
    reads = trio.Event()

    async def open_store(_: Settings, on_wait: Callable[[], object]) -> None:
        on_wait()
        with trio.fail_after(60):
            await reads.wait()

    async def read(_: trio.Event) -> None:
        await trio.lowlevel.checkpoint()
        reads.set()

    monkeypatch.setattr(run, "open_store", open_store)
    monkeypatch.setattr(run, "read_slow_lane", read)
    settings = Settings(store="postgres://x/y", bind=(f"unix:{tmp_path}/s",))
    _, signals = trio.open_memory_channel[int](0)
    waiting = Waiting(settings)
    async with trio.open_nursery() as beside:
        await run._open(settings, cast("Any", signals), cast("Any", None), waiting, beside)
        beside.cancel_scope.cancel()
    assert reads.is_set()
    assert waiting.kept is not None
    await waiting.kept.close()
