"""A waiting pull whose client has hung up gets no job, also in the very step in which both have come. Over sockets."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import closing

import pytest
import trio
import trio.testing

from bunqueue_trio.config import HANDED_MAX, MIB, RECEIVE_BYTES, Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.parts import PARTS_FROM
from bunqueue_trio.protocol.replies import PushReply
from bunqueue_trio.runtime import begun
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server as InProcess
from bunqueue_trio.runtime.supervisor import supervise
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.listener import Http
from tests.stream.ws import HANDSHAKE, TEXT, frame
from tests.wire import raw
from tests.wire.client import Client, eventually, ok
from tests.wire.server import Server

Leave = Callable[[socket.socket], None]

ONE = raw.request_bytes("GET", "/queues/q/jobs?timeout=60000")
SOME = raw.request_bytes("POST", "/queues/q/jobs/pull-batch", b'{"count":2,"timeout":60000}')
LIVE = raw.request_bytes("GET", "/live")
PULL = frame(TEXT, b'{"cmd":"PULL","queue":"q","timeout":60000}')

LEAVES: dict[str, Leave] = {
    "closed": lambda sock: sock.close(),
    "shut down": lambda sock: sock.shutdown(socket.SHUT_RDWR),
    "says no more": lambda sock: sock.shutdown(socket.SHUT_WR),
}


class Near:
    """A server in this process, so that a test can choose what happens in one step."""

    def __init__(self, server: InProcess, http: Http, nursery: trio.Nursery) -> None:
        self.server = server
        self._http = http
        self._nursery = nursery

    def connect(self, buffer: int | None = None) -> socket.socket:
        """Return the client's end of a connection; ``buffer``: of how many bytes the kernel holds few for it."""
        ours, theirs = socket.socketpair()
        if buffer is not None:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        theirs.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        self._nursery.start_soon(self._http.serve, stream)
        return ours

    def start_hot_loop(self) -> None:
        self._nursery.start_soon(supervise, self._http.loop)

    async def waiting(self, count: int) -> None:
        with trio.fail_after(60):
            while self.server.core.pulls_waiting != count:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)

    def push(self, data: bytes = b"1") -> str:
        reply = self.server.core.begin(c.Push(queue="q", data=c.Raw(data))).reply
        assert isinstance(reply, PushReply)
        return reply.id


@pytest.fixture
async def near(nursery: trio.Nursery) -> AsyncIterator[Near]:
    async def transport(server: InProcess, *, task_status: trio.TaskStatus[list[str]]) -> None:
        task_status.started([])
        await server.stop.wait()

    server = InProcess(Settings(), MemoryStore(), Clock())
    await nursery.start(serve, server, [transport])
    yield Near(server, Http(server, nursery, express=True), nursery)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
@pytest.mark.parametrize("asks", [ONE, SOME, LIVE + ONE, HANDSHAKE.format(path="/ws").encode() + PULL])
async def test_a_job_is_not_given_to_who_has_gone(near: Near, asks: bytes, leave: Leave) -> None:
    with closing(near.connect()) as sock:
        sock.sendall(asks)
        await near.waiting(1)
        leave(sock)
        job = near.server.engine.jobs[near.push()]
        assert (job.state.value, job.attempts, job.stalls, job.started_at) == ("waiting", 0, 0, None)
        await near.waiting(0)


async def wait_for_end(near: Near, sock: socket.socket) -> str:
    """Let a client wait for the end of a job, whose id is returned."""
    near.start_hot_loop()
    job_id = near.push()
    sock.sendall(raw.request_bytes("GET", f"/jobs/{job_id}/result?timeout=60000"))
    await ends_waiting(near, 1)
    return job_id


async def ends_waiting(near: Near, wanted: int) -> None:
    with trio.fail_after(60):
        while near.server.core.ends.waiting != wanted:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)


async def test_who_says_no_more_waits_a_while_for_the_end_of_a_job(near: Near, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begun, "HALF_CLOSED_S", 0.05)
    with closing(near.connect()) as sock:
        await wait_for_end(near, sock)
        LEAVES["says no more"](sock)
        await ends_waiting(near, 0)


async def test_connections_are_counted_by_their_addresses_until_they_end(near: Near) -> None:
    connections = near.server.connections
    with closing(near.connect()) as one, closing(near.connect()):
        one.sendall(ONE)
        await near.waiting(1)
        assert (connections.http, sum(connections.addresses.values())) == (2, 2)
    with trio.fail_after(60):
        while connections.http:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)
    assert connections.addresses == {}


@pytest.mark.parametrize(("leave", "waits"), [("closed", 0), ("shut down", 0), ("says no more", 1)])
async def test_a_wait_for_the_end_of_a_job_goes_on_while_its_answer_may_arrive(
    near: Near, leave: str, waits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine is.
    monkeypatch.setattr(begun, "HALF_CLOSED_S", 600)
    with closing(near.connect()) as sock:
        job_id = await wait_for_end(near, sock)
        LEAVES[leave](sock)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await ends_waiting(near, waits)
        if waits:
            await near.server.core.execute(c.Cancel(id=job_id))
            sock.settimeout(60)
            assert (await trio.to_thread.run_sync(_read_all, sock)).startswith(b"HTTP/1.1 ")


async def test_who_waits_behind_those_who_have_gone_is_served_at_once(near: Near) -> None:
    socks = [near.connect() for _ in range(20)]
    for number, sock in enumerate(socks):
        sock.sendall(ONE)
        await near.waiting(number + 1)
    for sock in socks[:-1]:
        sock.close()
    job = near.server.engine.jobs[near.push()]
    assert job.state.value == "active"
    await near.waiting(0)
    with closing(socks[-1]) as last:
        last.settimeout(60)
        assert job.id.encode() in await trio.to_thread.run_sync(last.recv, 4096)
    assert job.stalls == 0


async def test_who_goes_before_its_job_is_committed_gets_none(near: Near) -> None:
    with closing(near.connect()) as sock:
        sock.sendall(ONE)
        await near.waiting(1)
        job = near.server.engine.jobs[near.push()]
        assert job.state.value == "active"
        sock.shutdown(socket.SHUT_WR)
        await near.waiting(0)
        assert (job.state.value, job.attempts, job.stalls) == ("waiting", 0, 0)
        sock.settimeout(60)
        assert await trio.to_thread.run_sync(sock.recv, 4096) == b""


@pytest.mark.parametrize("is_hot", [False, True], ids=["own task", "hot loop"])
async def test_a_job_goes_out_in_the_very_step_of_its_commit(near: Near, is_hot: bool) -> None:
    """No task has to wake for it; and the connection goes on."""
    if is_hot:
        near.start_hot_loop()
    with closing(near.connect()) as sock:
        for _ in range(3):
            sock.sendall(ONE)
            await near.waiting(1)
            job_id = near.push()
            with pytest.raises(BlockingIOError):
                sock.recv(4096, socket.MSG_DONTWAIT)
            assert near.server.journal.commit_at_once()
            assert job_id.encode() in sock.recv(4096, socket.MSG_DONTWAIT)
            await near.waiting(0)
            job = near.server.engine.jobs[job_id]
            assert (job.state.value, job.attempts, job.stalls) == ("active", 0, 0)


async def test_all_have_their_jobs_however_many_have_waited(near: Near) -> None:
    socks = [near.connect() for _ in range(HANDED_MAX + 4)]
    for number, sock in enumerate(socks, 1):
        sock.sendall(ONE)
        await near.waiting(number)
    ids = {near.push() for _ in socks}
    assert near.server.journal.commit_at_once()
    await near.waiting(0)
    for sock in socks:
        with closing(sock):
            sock.settimeout(60)
            said = await trio.to_thread.run_sync(sock.recv, 4096)
            ids -= {job_id for job_id in ids if job_id.encode() in said}
    assert not ids


async def test_the_last_answer_of_a_connection_says_so(near: Near) -> None:
    with closing(near.connect()) as sock:
        sock.sendall(raw.request_bytes("GET", "/queues/q/jobs?timeout=60000", b"", "Connection: close"))
        await near.waiting(1)
        near.push()
        assert near.server.journal.commit_at_once()
        sock.settimeout(60)
        said = await trio.to_thread.run_sync(_read_all, sock)
    assert b"connection: close\r\n" in said.lower()


@pytest.mark.parametrize("leaves", [False, True], ids=["reads", "leaves"])
async def test_what_the_kernel_does_not_take_of_a_job_at_once_is_sent_by_and_by(near: Near, leaves: bool) -> None:
    """Or the job returns, when its client goes before it has all of it."""
    size = RECEIVE_BYTES // 2
    with closing(near.connect(buffer=1)) as sock:
        sock.sendall(ONE)
        await near.waiting(1)
        job = near.server.engine.jobs[near.push(b'"%s"' % (b"x" * size))]
        assert near.server.journal.commit_at_once()
        assert job.state.value == "active"
        await trio.testing.wait_all_tasks_blocked()
        if leaves:
            sock.close()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert (job.state.value, job.attempts, job.stalls) == ("waiting", 0, 0)
            return
        sock.settimeout(60)
        said = b""
        while said.count(b"x") < size:
            said += await trio.to_thread.run_sync(sock.recv, 1 << 20)
        assert said.endswith(b"}")
        assert job.state.value == "active"


def _read_all(sock: socket.socket) -> bytes:
    said = b""
    while data := sock.recv(4096):
        said += data
    return said


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
def test_the_next_pull_gets_the_job_at_once(server: Server, client: Client, queue: str, leave: Leave) -> None:
    for round_ in range(10):
        name = f"{queue}-{round_}"
        with closing(socket.create_connection(server.address)) as sock:
            sock.sendall(raw.request_bytes("GET", f"/queues/{name}/jobs?timeout=5000"))
            eventually(lambda name=name: ok(client.get(f"/queues/{name}"))["queue"]["pullsWaiting"], 1)  # type: ignore[misc]
            leave(sock)
            job_id = client.push(name)
            pulled = client.pull(name)
            assert pulled is not None
            assert (pulled.id, pulled.job["attempts"]) == (job_id, 0)


LARGE_JOB = b'{"data":"%s"}' % (b"x" * (2 * PARTS_FROM))
LARGE = {
    "HTTP": raw.request_bytes("POST", "/queues/q/jobs", LARGE_JOB),
    "WebSocket": HANDSHAKE.format(path="/ws").encode() + frame(TEXT, b'{"cmd":"PUSH","queue":"q",' + LARGE_JOB[1:]),
}


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
@pytest.mark.parametrize("sent", LARGE.values(), ids=LARGE)
async def test_a_large_command_of_who_has_gone_while_it_stood_in_line_is_not_carried_out(
    near: Near, sent: bytes, leave: Leave
) -> None:
    (line,) = [line for most, line in near._http.shared.gateway.large._lines if most == MIB]
    async with line:
        sock = near.connect()
        with closing(sock):
            await trio.to_thread.run_sync(sock.sendall, sent)
            with trio.fail_after(60):
                while not line.statistics().tasks_waiting:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.001)
            leave(sock)
    # It is behind in the line.
    async with line:
        assert not near.server.engine.jobs
