"""A connection that hangs: the network takes its packets away, and neither end hears of it. A worker goes on with its jobs over another one.

In virtual time over the real link, and over real sockets, where a proxy swallows what comes.
"""

import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trio

from bunqueue_trio.client import Again, Client, Job, JobFailed, Worker, link, socket_asyncio, socket_trio
from bunqueue_trio.client.connection import KEEPALIVE_S, Connection
from bunqueue_trio.commands import GetState
from bunqueue_trio.config import PING_S, PINGS_MISSED_MAX
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.testing.lives import Pipe
from tests.client.loops import on_both
from tests.client.proxy import Proxy
from tests.operations.processes import environment
from tests.patience import PATIENCE_S
from tests.wire.server import NO_TLS, Server

NOTICED_S = PING_S * (PINGS_MISSED_MAX + 1)
"""The server gives a connection up that has said nothing in these seconds."""
SPOKEN_S = 15.0
"""As often as a worker with jobs says something."""


class Hanging:
    """Connections to a server of a test; those that :meth:`hang` was called for swallow what is said, and the server ends them late."""

    def __init__(self, bunqueue: Bunqueue) -> None:
        self._lives = bunqueue._lives
        self.wires: list[Wire] = []
        self.made_at: list[float] = []
        self.holder: object = None

    @asynccontextmanager
    async def connect(self, queue: str | None) -> AsyncIterator[Connection]:
        wire = Wire(await self._lives.open(queue, self.holder))
        self.wires.append(wire)
        self.made_at.append(trio.current_time())
        try:
            yield wire
        finally:
            if not wire.hangs:
                wire.pipe.close()

    async def hang(self, noticed_s: float) -> None:
        """Let those that are there hang, until the server notices it."""
        wires = [wire for wire in self.wires if not wire.pipe.closed]
        for wire in wires:
            wire.hangs = True
        await trio.sleep(noticed_s)
        for wire in wires:
            wire.pipe.cut()


class Wire:
    keepalive_s: float | None = KEEPALIVE_S

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.message_max = pipe.message_max
        self.hangs = False

    async def send(self, message: bytes) -> None:
        if self.hangs:
            await trio.lowlevel.checkpoint()
        else:
            await self.pipe.send(message)

    async def receive(self) -> bytes:
        while True:
            message = await self.pipe.receive() if not self.hangs else await trio.sleep_forever()
            if not self.hangs:
                return message


# When the worker has spoken last, and so when the server begins to count, is up to one heartbeat before it hangs.
@pytest.mark.parametrize("spoken_s", [0, SPOKEN_S / 2, SPOKEN_S])
@pytest.mark.parametrize("hangs_s", [3, 14.9, 17, 100])
async def test_jobs_go_on_over_another_connection(
    bunqueue: Bunqueue, nursery: trio.Nursery, hangs_s: float, spoken_s: float
):
    hanging, runs = Hanging(bunqueue), Counter[str]()
    worker = hanging.holder = Worker("q", connect=hanging.connect, random=bunqueue.random, concurrency=4)

    @worker.handler
    async def handle(job: Job) -> str:
        runs[job.id] += 1
        await trio.sleep(job.data)
        if job.data == 90:
            raise Again(after=1000)
        return job.id

    nursery.start_soon(worker.run)
    # Two end while nobody hears it, one before the old connection ends and one after that.
    ids = await bunqueue.client.push_many("q", [{"data": hangs_s + more} for more in (5, 30, 90 - hangs_s, 200)])
    await trio.sleep(hangs_s)
    await hanging.hang(NOTICED_S - spoken_s)
    assert len(hanging.made_at) > 2
    await trio.sleep(10)
    assert [await bunqueue.client.state(job_id) for job_id in ids[:2]] == ["completed"] * 2
    await trio.sleep(max(0, 300 - hangs_s))
    looks = [await bunqueue.client.look(job_id) for job_id in ids]
    assert [look.state for look in looks] == ["completed", "completed", "delayed", "completed"]
    assert {look.stalls for look in looks} == {0}
    assert {job.attempts for job in [await bunqueue.client.get(job_id) for job_id in ids]} == {0, 1}
    assert runs == Counter(ids)
    nursery.cancel_scope.cancel()


async def test_the_other_connection_is_there_before_the_server_gives_the_old_one_up():
    """However the server counts: it has heard a worker with jobs a heartbeat ago at the most."""
    leaves_s = KEEPALIVE_S + link.ANSWER_S + link.ONCE_MORE_S
    assert leaves_s <= NOTICED_S - SPOKEN_S - 5, "a few seconds are for connecting"


async def test_a_job_that_the_server_gave_to_somebody_else_is_left(bunqueue: Bunqueue, nursery: trio.Nursery):
    """Of a worker whose new connection comes too late."""
    hanging, begun, ended = Hanging(bunqueue), list[int](), list[int]()
    worker = hanging.holder = Worker("q", connect=hanging.connect, random=bunqueue.random)

    @worker.handler
    async def handle(job: Job) -> None:
        begun.append(job.fence)
        try:
            await trio.sleep(math.inf if len(begun) == 1 else 1)
        finally:
            ended.append(job.fence)

    nursery.start_soon(worker.run)
    job_id = await bunqueue.client.push("q")
    await trio.sleep(5)
    await hanging.hang(10)
    await trio.sleep(1)
    assert (await bunqueue.client.look(job_id)).stalls == 1
    assert await bunqueue.client.wait(job_id, 100) is None
    assert sorted(ended) == begun
    assert len(begun) == 2
    nursery.cancel_scope.cancel()


async def websockets(server: Server) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S, verify=NO_TLS) as http:
        return int((await http.get(f"{server.url}/health")).json()["connections"]["ws"])


@pytest.mark.thorough
@on_both
async def test_jobs_go_on_over_another_real_connection(server: Server, queue: str, monkeypatch: pytest.MonkeyPatch):
    for sockets in (socket_trio, socket_asyncio):
        monkeypatch.setattr(sockets._WebSocket, "keepalive_s", 0.2)
    for name in ("ANSWER_S", "ONCE_MORE_S"):
        monkeypatch.setattr(link, name, 0.2)
    runs, go = Counter[str](), anyio.Event()
    with Proxy(server.address) as proxy:
        worker = Worker(queue, proxy.url, concurrency=3)

        @worker.handler
        async def handle(job: Job) -> str:
            runs[job.id] += 1
            await go.wait()
            if job.data:
                raise Again(after=1000)
            return job.id

        async with Client(f"ws://127.0.0.1:{server.port}") as client, anyio.create_task_group() as working:
            working.start_soon(worker.run)
            ids = await client.push_many(queue, [{"data": None}, {"data": None}, {"data": "again"}])
            with anyio.fail_after(60):
                while worker.running < 3:
                    await worker._changed.wait()
                beaten, renew = anyio.Event(), Client.renew

                async def renew_and_tell(*asked: Any, **how: Any) -> Any:
                    told = await renew(*asked, **how)
                    beaten.set()
                    return told

                monkeypatch.setattr(Client, "renew", renew_and_tell)
                proxy.freeze_those_that_are_there()
                await beaten.wait()
                before = await websockets(server)
                proxy.cut_those_that_are_frozen()
                # Of the worker's two only the one that it takes jobs over was made anew.
                while await websockets(server) >= before:  # noqa: ASYNC110 - nobody tells
                    await anyio.sleep(0.02)
                go.set()
                assert await client.wait(ids[0]) == ids[0]
                assert await client.wait(ids[1]) == ids[1]
                while await client.state(ids[2]) != "delayed":  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            assert runs == Counter(ids)
            assert {(await client.look(job_id)).stalls for job_id in ids} == {0}
            worker.stop()


@pytest.mark.long  # as long as a server and a client wait before they give a connection up
@pytest.mark.parametrize("loop", ["--trio", "--asyncio"])
def test_a_worker_process_goes_on_while_the_network_swallows_what_it_says(fresh: Server, tmp_path: Path, loop: str):
    """Without FIN or RST, as it is deployed: no job is done twice, none is charged anything."""
    (tmp_path / "work.py").write_text(HANDLERS)
    with Proxy(fresh.address) as proxy, SyncClient(fresh.url) as client:
        command = [sys.executable, "-m", "bunqueue_trio", "worker", "work:worker", "--url", proxy.url]
        command += ["--asyncio"] if loop == "--asyncio" else []
        with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
            try:
                ids = [client.push("q", {"s": seconds}) for seconds in (8, 50, 80, 100)]
                while [client.state(job_id) for job_id in ids] != ["active"] * 4:
                    time.sleep(0.1)
                proxy.freeze_those_that_are_there()
                for job_id in ids[:3]:
                    assert client.wait(job_id, 150) == job_id
                with pytest.raises(JobFailed, match="GiveUp: at last"):
                    client.wait(ids[3], 150)
                process.terminate()
                assert process.wait(60) == 0
            finally:
                process.kill()
                said = process.communicate()[1]
        looks = [client.run(GetState(id=job_id)) for job_id in ids]
    assert {look.stalls for look in looks} == {0}, said
    assert Counter((tmp_path / "runs").read_text().split()) == Counter(ids), said


HANDLERS = """
import anyio
from bunqueue_trio import GiveUp, Job, Worker

worker = Worker("q")

@worker.handler
async def handle(job: Job) -> str:
    with open("runs", "a") as runs:
        print(job.id, file=runs)
    await anyio.sleep(job.data["s"])
    if job.data["s"] == 100:
        raise GiveUp("at last") from ValueError("at last")
    return job.id
"""
