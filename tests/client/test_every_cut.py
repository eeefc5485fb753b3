"""A real connection is cut at every single moment of a story, on Trio and on asyncio.

As in `test_every_moment.py`, which has virtual time and so Trio alone: a moment is a point at which a task of a client
waits for its connection, before or after a message went either way. Here the socket itself is shut down, below TLS
or WebSocket, without a goodbye.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
import trio

from bunqueue_trio.client import Client, Job, Worker
from bunqueue_trio.client.backend import websocket
from bunqueue_trio.client.connection import Connection
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server

OPTIONS: dict[str, Any] = {"max_attempts": 1000, "backoff": 0.01}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that buries no job: each cut counts as a stall of what the worker holds."""
    with Server(tmp_path_factory.mktemp("cuts") / "q.db", {"STALLS_MAX": "1000"}) as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before another try."""
    monkeypatch.setattr("bunqueue_trio.client.upkeep.BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr("bunqueue_trio.client.worker.RETRY_S", 0.01)
    monkeypatch.setattr("bunqueue_trio.client.reports.RETRY_S", 0.01)


def socket_of(connection: Any) -> socket.socket:
    below = connection._socket
    if isinstance(below, trio.abc.AsyncResource):
        return below._stream._socket  # type: ignore[attr-defined, no-any-return]
    return below.transport.get_extra_info("socket")  # type: ignore[no-any-return]


class Cutter:
    """Cuts a connection at the ``at``-th moment, and ``cuts`` times in all, three moments apart."""

    def __init__(self, url: str, at: int, cuts: int) -> None:
        self._connect = websocket(url)
        self.at = at
        self.cuts = cuts
        self.passed = 0

    def connect(self, queue: str | None) -> AbstractAsyncContextManager[Connection]:
        return self._connected(queue)

    @asynccontextmanager
    async def _connected(self, queue: str | None) -> AsyncIterator[Connection]:
        async with self._connect(queue) as connection:
            yield _Watched(connection, self)

    def moment(self, connection: Connection) -> None:
        self.passed += 1
        if self.cuts and self.passed >= self.at:
            self.cuts -= 1
            self.at += 3
            try:
                socket_of(connection).shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is over already


class _Watched:
    def __init__(self, connection: Connection, cutter: Cutter) -> None:
        self._connection = connection
        self._cutter = cutter
        self.keepalive_s = connection.keepalive_s
        self.message_max = connection.message_max

    async def send(self, message: bytes) -> None:
        self._cutter.moment(self._connection)
        await self._connection.send(message)
        self._cutter.moment(self._connection)

    async def receive(self) -> bytes:
        self._cutter.moment(self._connection)
        message = await self._connection.receive()
        self._cutter.moment(self._connection)
        return message


async def story(cutter: Cutter, queue: str, url: str) -> None:
    """Pushes of both kinds, a job that fails once, a wait, a pull that is taken back, a worker; then a look at all."""
    runs: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    worker = Worker(queue, concurrency=3, connect=cutter.connect)

    @worker.handler
    async def handle(job: Job) -> str:
        await anyio.sleep(0.002)
        runs[job.id] += 1
        if job.data == "bad" and not failures[job.id]:
            failures[job.id] += 1
            raise ValueError("once")
        return job.id

    async with Client(connect=cutter.connect) as client, anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.002):
            await client.pull(queue, timeout=30)
        ids = [await client.push(queue, "good", **OPTIONS)]
        tasks.start_soon(worker.run)
        ids += await client.push_many(queue, [{"data": data, **OPTIONS} for data in ("good", "bad", "good")])
        for job_id in ids:
            assert await client.wait(job_id, 60) == job_id
        worker.stop()
    assert worker.running == 0
    assert runs.keys() == set(ids)
    async with Client(url) as client:
        for job_id in ids:
            job, state = await client.get(job_id), await client.look(job_id)
            assert state.state == "completed"
            assert job.attempts <= failures[job_id], "it is charged for its own failures only"
            assert runs[job_id] <= 1 + failures[job_id] + state.stalls, "and runs again only for one, or a cut"
        assert await client.pull(queue) is None, "nothing is left"


def tasks_alive() -> int:
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


@pytest.mark.slow
@pytest.mark.untraced
# Every third moment, on both loops; in `long` each.
@pytest.mark.parametrize(("cuts", "every"), [(1, 3), *(pytest.param(n, 1, marks=pytest.mark.long) for n in (1, 3))])
@on_both
async def test_cut_at_every_moment(patient: Server, queue: str, cuts: int, every: int):
    moments = 0
    while True:
        cutter = Cutter(ws(patient), moments + 1, cuts)
        before = tasks_alive()
        try:
            with anyio.fail_after(60):
                await story(cutter, f"{queue}-{moments}", ws(patient))
            assert tasks_alive() == before
        except BaseException as error:
            error.add_note(f"cut at moment {moments + 1}, {cuts} times")
            raise
        if cutter.cuts == cuts:
            break
        moments += every
    assert moments > 40
