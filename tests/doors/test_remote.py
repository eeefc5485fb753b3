"""The link between two servers, over real sockets in one process: who waits passes on, and the leader knows whom it serves."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import structlog.testing
import trio
import trio.testing
import trustme

from bunqueue_trio.config import Bind, Settings
from bunqueue_trio.doors.door import Door
from bunqueue_trio.doors.handshake import prove_door
from bunqueue_trio.doors.link import FRAMES, LinkLost
from bunqueue_trio.doors.remote import RemoteDoors, RemoteLink, announced, link_bind, link_certificate, open_link
from bunqueue_trio.doors.waiting_room import WaitingRoom
from bunqueue_trio.errors import StartupError
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Store
from bunqueue_trio.testing.process import free_port
from bunqueue_trio.transports.listener import Http
from bunqueue_trio.transports.sockets import check_startable
from tests.storage.distant import DistantStore
from tests.wire.raw import request_bytes

pytestmark = pytest.mark.thorough  # each has a leader and a door
KEY = b"k" * 32
PAGE = request_bytes("GET", "/health")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 0.01)


class Leader(NamedTuple):
    server: Server
    where: str
    over: trio.Event


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """With a certificate that names nobody's host, and that nobody trusts."""
    made = trustme.CA().issue_cert("elsewhere.example")
    cert, key = (tmp_path_factory.mktemp("link") / name for name in ("cert.pem", "key.pem"))
    cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    return Settings(link_bind="127.0.0.1:0", link_tls_cert_file=str(cert), link_tls_key_file=str(key))


async def start_leader(nursery: trio.Nursery, store: Store | None = None, settings: Settings | None = None) -> Leader:
    """A server that is reached over its link, and by nothing else."""
    server = Server(settings or Settings(link_bind="127.0.0.1:0"), store or MemoryStore(), Clock())
    certificate = link_certificate(server.settings)
    listeners = await open_link(server.settings)

    async def transport(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
        async with trio.open_nursery() as connections:
            http = Http(server, connections, express=True)
            await http.run([], lambda: task_status.started([]), [RemoteDoors(server, listeners, KEY, certificate)])

    over = trio.Event()

    async def live(*, task_status: trio.TaskStatus[Server]) -> None:  # noqa: ASYNC128 - `serve` calls started
        await serve(server, [transport], task_status=task_status)
        over.set()

    await nursery.start(live)
    return Leader(server, announced(listeners, "127.0.0.1", is_tls=certificate is not None), over)


@pytest.fixture(params=["plain", "tls"])
async def leader(nursery: trio.Nursery, request: pytest.FixtureRequest, tls: Settings) -> AsyncIterator[Leader]:
    yield await start_leader(nursery, settings=tls if request.param == "tls" else None)
    nursery.cancel_scope.cancel()


async def test_a_leader_that_is_another_one_when_the_look_at_it_ends_is_none(
    leader: Leader, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    link, looked = RemoteLink(), trio.Event()

    async def prove(*args: Any) -> None:
        await prove_door(*args)
        link.note_leader(None, KEY)
        looked.set()

    monkeypatch.setattr("bunqueue_trio.doors.remote.prove_door", prove)
    link.note_leader(leader.where, KEY)
    nursery.start_soon(link.watch)
    await looked.wait()
    for _ in range(20):  # the next look would take it back
        await trio.lowlevel.checkpoint()
        assert not link.is_up


async def test_a_server_that_leads_now_does_not_say_that_it_serves_through_itself(
    leader: Leader, nursery: trio.Nursery
):
    for is_own in (True, False):
        link = RemoteLink()
        link.note_leader(leader.where, KEY, is_own=is_own)
        with structlog.testing.capture_logs() as logs:
            nursery.start_soon(link.watch)
            assert await link.wait_up(60)
        assert [line["event"] for line in logs] == ([] if is_own else ["serving through the leader"])


async def waiting(nursery: trio.Nursery, leader: Leader | None, key: bytes = KEY) -> tuple[WaitingRoom, RemoteLink]:
    """A server that waits, and its link; without a leader it knows of none."""
    link = RemoteLink()
    if leader is not None:
        link.note_leader(leader.where, key)
    room = WaitingRoom(link, Settings())
    nursery.start_soon(room.run)
    return room, link


async def answer(stream: trio.abc.Stream, until: bytes) -> bytes:
    data = b""
    with trio.fail_after(60):
        while until not in data:
            more = await stream.receive_some(65536)
            assert more, data
            data += bytes(more)
    return data


async def connect(nursery: trio.Nursery, door: Door) -> trio.SocketStream:
    """Return the client's end of a connection to ``door``."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream(*listener.socket.getsockname())
    nursery.start_soon(door.serve, await listener.accept())
    await listener.aclose()
    return client


async def test_a_request_is_answered_by_the_leader_for_the_client_that_asks(leader: Leader, nursery: trio.Nursery):
    room, link = await waiting(nursery, leader)
    assert await link.wait_up(60)
    client = await connect(nursery, room)
    await client.send_all(request_bytes("GET", "/queues/q/jobs"))
    await answer(client, b'"token":null')
    with trio.fail_after(60):  # in a frame: what comes and goes is who looks after the leader
        while leader.server.doors.connections:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)
    await client.send_all(PAGE)
    assert b"healthy" in await answer(client, b"}}")
    assert leader.server.doors.connections >= 1, "and by itself"
    await client.send_all(request_bytes("GET", "/workers"))
    assert b'"@127.0.0.1"' in await answer(client, b'"@')
    await client.aclose()
    with trio.fail_after(60):
        while leader.server.doors.connections:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


async def test_who_has_another_key_reaches_nobody(leader: Leader, nursery: trio.Nursery):
    _, link = await waiting(nursery, leader, b"o" * 32)
    assert not await link.wait_up(0.1)
    with pytest.raises(LinkLost):
        await link.open("127.0.0.1")
    assert leader.server.doors.connections == 0


async def test_a_leader_looks_whether_doors_of_other_machines_hang(
    leader: Leader, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.answering.DOOR_LOOK_S", 0.01)
    link = RemoteLink()
    link.note_leader(leader.where, KEY)
    nursery.start_soon(link.watch)
    assert await link.wait_up(60)
    async with await link.open(FRAMES) as stream:
        with trio.fail_after(60):
            while await stream.receive_some(1000):
                pass  # which is all that it does


async def test_a_request_waits_for_the_next_leader(leader: Leader, nursery: trio.Nursery):
    room, link = await waiting(nursery, None)
    client = await connect(nursery, room)
    await client.send_all(request_bytes("GET", "/nowhere"))
    link.note_leader(leader.where, KEY)
    assert (await answer(client, b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
    await client.aclose()


async def test_a_leader_that_stops_ends_what_comes_through_its_link(nursery: trio.Nursery):
    leader = await start_leader(nursery)
    room, link = await waiting(nursery, leader)
    assert await link.wait_up(60)
    client = await connect(nursery, room)
    await client.send_all(PAGE)
    await answer(client, b"OK")
    leader.server.stop.set()
    with trio.fail_after(60):
        assert await client.receive_some(1) == b""
        await client.aclose()
        while link.is_up:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()


async def test_a_stop_of_the_leader_answers_what_was_asked_in_frames(leader: Leader, nursery: trio.Nursery):
    room, link = await waiting(nursery, leader)
    assert await link.wait_up(60)
    client = await connect(nursery, room)
    await client.send_all(request_bytes("GET", "/queues/q/jobs?timeout=60000"))
    with trio.fail_after(60):
        while not leader.server.core.pulls_waiting:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    leader.server.stop.set()
    assert b"connection: close" in (await answer(client, b'"token":null')).lower()
    assert await client.receive_some(1) == b""
    await client.aclose()


async def test_a_stop_of_the_leader_waits_for_commits_of_what_was_asked_in_frames(nursery: trio.Nursery):
    leader = await start_leader(nursery, DistantStore(MemoryStore(), away_s=0.1))
    room, link = await waiting(nursery, leader)
    assert await link.wait_up(60)
    client = await connect(nursery, room)
    await client.send_all(request_bytes("POST", "/queues/q/jobs", b'{"data":1}'))
    with trio.fail_after(60):
        while not leader.server.doors.requests:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)
    leader.server.stop.set()
    assert b'"ok":true' in await answer(client, b"}")
    await client.aclose()
    nursery.cancel_scope.cancel()


async def test_who_does_not_find_the_leader_saves_the_others_the_way():
    """They wait until it is there again, and are not refused one by one."""
    link = RemoteLink()
    link.note_leader(f"127.0.0.1:{free_port()}", KEY)
    link._up.set()
    with pytest.raises(LinkLost):
        await link.open("127.0.0.1")
    assert not link.is_up


async def test_a_request_that_nobody_can_be_asked_is_refused(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    # Beside the time of a lease.
    patience_s = 0.1 - Settings().store_lease_ms / 1000
    monkeypatch.setattr("bunqueue_trio.doors.waiting_room.LINK_PATIENCE_S", patience_s)
    leader = await start_leader(nursery)
    room, link = await waiting(nursery, leader)
    assert await link.wait_up(60)
    client = await connect(nursery, room)
    await client.send_all(request_bytes("GET", "/queues/q/jobs"))
    await answer(client, b'"token":null')
    kept, later, latest = [await connect(nursery, room) for _ in range(3)]
    for stream in (kept, later, latest):
        await stream.send_all(request_bytes("GET", "/queues/q/jobs"))
        await answer(stream, b'"token":null')
    leader.server.stop.set()
    with trio.fail_after(60):
        await leader.over.wait()
        while link.is_up:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    await client.send_all(request_bytes("GET", "/queues/q/jobs"))
    assert b'"code":"standby"' in await answer(client, b"}")
    await client.aclose()
    for stream in (later, latest):  # also when nobody was there for long
        await stream.send_all(request_bytes("GET", "/queues/q/jobs"))
        assert b'"code":"standby"' in await answer(stream, b"}")
        await stream.aclose()
    next_leader = await start_leader(nursery)
    await kept.send_all(request_bytes("GET", "/queues/q/jobs"))
    link.note_leader(next_leader.where, KEY)
    await answer(kept, b'"token":null')
    await kept.aclose()
    nursery.cancel_scope.cancel()


async def test_a_leader_that_was_not_reached_once_is_not_tried_by_everybody(
    leader: Leader, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 1000)
    _, link = await waiting(nursery, leader)
    assert await link.wait_up(60)
    link.note_leader("127.0.0.1:1", KEY)
    with pytest.raises(LinkLost):
        await link.open("127.0.0.1")
    assert not link.is_up
    with pytest.raises(LinkLost, match="it could not be reached"):
        await link.open("127.0.0.1")


async def test_a_lost_connection_and_another_leader_are_looked_at_at_once(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """Clients wait meanwhile."""
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 1000)
    first, second, link = await start_leader(nursery), await start_leader(nursery), RemoteLink()
    nursery.start_soon(link.watch)
    with trio.fail_after(60):
        link.note_leader(first.where, KEY)
        await link.wait_up(60)
        first.server.stop.set()
        await first.over.wait()
        with pytest.raises(LinkLost):
            await link.open("127.0.0.1")
        while not link.is_gone:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        link.note_leader(None, KEY)
        assert not link.is_gone, "another one leads, and has not said where yet"
        link.note_leader(second.where, KEY)
        assert await link.wait_up(60)
    nursery.cancel_scope.cancel()


async def test_only_a_leader_that_was_reached_once_is_taken_for_dead(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """The address of another one may just be wrong, or a machine in between refuses."""
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 0.01)
    leader = await start_leader(nursery)
    reached, never = RemoteLink(), RemoteLink()
    looked, note_down = trio.Event(), never._note_down
    monkeypatch.setattr(never, "_note_down", lambda: (note_down(), looked.set()))
    reached.note_leader(leader.where, KEY)
    never.note_leader(f"127.0.0.1:{free_port()}", KEY)
    nursery.start_soon(reached.watch)
    assert await reached.wait_up(60)
    assert not reached.is_gone
    leader.server.stop.set()
    nursery.start_soon(never.watch)
    with trio.fail_after(60):
        await leader.over.wait()
        while not reached.is_gone:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        await looked.wait()
    for _ in range(20):
        await trio.lowlevel.checkpoint()
        assert not never.is_gone
    nursery.cancel_scope.cancel()


async def test_where_the_link_listens():
    assert link_bind(Settings()) == Bind("0.0.0.0", 6791)
    assert link_bind(Settings(host="10.0.0.1", http_port=80)) == Bind("10.0.0.1", 81)
    assert link_bind(Settings(http_port=0)) == link_bind(Settings(http_port=65535)) == Bind("0.0.0.0", 0)
    assert link_bind(Settings(bind=("unix:/tmp/s",))) is None
    assert link_bind(Settings(bind=("unix:/tmp/s", "[::1]:7000"))) == Bind("::1", 7001)
    assert link_bind(Settings(link_bind="none")) is None
    assert await open_link(Settings(link_bind="none")) == []
    [taken] = await open_link(Settings(link_bind="127.0.0.1:0"))
    port = taken.socket.getsockname()[1]
    assert announced([taken], "10.0.0.7") == f"127.0.0.1:{port}"
    with structlog.testing.capture_logs() as logs:
        [elsewhere] = await open_link(Settings(host="127.0.0.1", http_port=port - 1))
        assert await open_link(Settings(host="192.0.2.1", http_port=1000)) == [], "an address of another machine"
    assert (logs[0]["port"], "no link" in logs[1]["event"]) == (elsewhere.socket.getsockname()[1], True)
    with pytest.raises(StartupError, match=f"LINK_BIND=127.0.0.1:{port}: cannot listen"):
        await open_link(Settings(link_bind=f"127.0.0.1:{port}"))
    [everywhere] = await open_link(Settings(link_bind="0.0.0.0:0"))
    assert announced([everywhere], "10.0.0.7").startswith("10.0.0.7:")
    for listener in (taken, everywhere, elsewhere):
        await listener.aclose()


class Between:
    """Somebody who has got between a door and its leader, with a certificate of their own, and passes on all that both say."""

    def __init__(self, leader: Leader) -> None:
        self.heard = b""
        self._leader = leader
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert("elsewhere.example").configure_cert(self._context)
        self._trusting = ssl.create_default_context()
        self._trusting.check_hostname, self._trusting.verify_mode = False, ssl.CERT_NONE

    async def pass_on(self, door: trio.SocketStream) -> None:
        ours = trio.SSLStream(door, self._context, server_side=True)
        host, port = self._leader.where.removeprefix("tls://").split(":")
        its = trio.SSLStream(await trio.open_tcp_stream(host, int(port)), self._trusting)
        try:
            await ours.do_handshake()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._copy, ours, its)
                await self._copy(its, ours)
                nursery.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            for stream in (ours, its):
                stream.transport_stream.socket.close()

    async def _copy(self, source: Any, target: Any) -> None:
        while data := await source.receive_some(65536):
            self.heard += bytes(data)
            await target.send_all(data)


async def test_who_is_between_with_a_certificate_of_their_own_is_found_out(nursery: trio.Nursery, tls: Settings):
    leader = await start_leader(nursery, settings=tls)
    between = Between(leader)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, between.pass_on, [listener])
    link = RemoteLink()
    link.note_leader("tls://{}:{}".format(*listener.socket.getsockname()), KEY)
    with pytest.raises(LinkLost, match="does not know the key"):
        await link._open("10.0.0.7")
    assert b"10.0.0.7" not in between.heard, "it learns nothing of a client"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("leads", ["plain", "tls"])
async def test_who_encrypts_and_who_does_not_have_nothing_to_say_to_each_other(
    nursery: trio.Nursery, tls: Settings, leads: str
):
    leader = await start_leader(nursery, settings=tls if leads == "tls" else None)
    address = leader.where.removeprefix("tls://")
    link = RemoteLink()
    link.note_leader(address if leads == "tls" else f"tls://{address}", KEY)
    with trio.fail_after(60), pytest.raises(LinkLost):
        await link._open("a")
    assert leader.server.doors.connections == 0
    nursery.cancel_scope.cancel()


async def test_another_key_opens_nothing_over_tls_either(nursery: trio.Nursery, tls: Settings):
    leader = await start_leader(nursery, settings=tls)
    link = RemoteLink()
    link.note_leader(leader.where, b"o" * 32)
    with pytest.raises(LinkLost, match="does not know the key"):
        await link._open("a")
    nursery.cancel_scope.cancel()


def test_files_that_are_no_certificate_stop_the_start(tls: Settings):
    assert link_certificate(Settings()) is None
    for change, said in (
        ({"link_tls_cert_file": tls.link_tls_key_file}, "LINK_TLS_CERT_FILE=.*are no certificate with its key"),
        ({"link_tls_key_file": "/nowhere"}, "LINK_TLS_KEY_FILE='/nowhere': cannot be read"),
    ):
        with pytest.raises(StartupError, match=said):
            link_certificate(replace(tls, **change))
        with pytest.raises(StartupError, match=said):
            check_startable(replace(tls, data_path="/tmp/q.db", **change))
