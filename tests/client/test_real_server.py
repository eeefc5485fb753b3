"""Client and worker against a real server process, over real sockets."""

from base64 import b64encode
from hashlib import sha1
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest
import trio

from bunqueue_trio.client import Client, Refused, ServerUnavailable, Worker, link, socket_asyncio, socket_trio
from bunqueue_trio.client.connection import MESSAGE_MAX
from tests.client.client_chaos import Chaos
from tests.client.loops import on_both
from tests.client.proxy import Between, Proxy
from tests.patience import PATIENCE_S
from tests.wire.server import NO_TLS, Server, StartServer


def ws(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}"


@on_both
async def test_round_trip(server: Server, queue: str):
    async with Client(ws(server)) as client:
        job_id = await client.push(queue, {"to": "ä"})
        job = await client.pull(queue, timeout=60)
        assert job is not None
        assert (job.id, job.data) == (job_id, {"to": "ä"})
        await job.ack({"sent": True})
        assert await client.wait(job_id, PATIENCE_S) == {"sent": True}
        assert (await client.get(job_id)).completed_at is not None
        with pytest.raises(Refused, match="Job not found"):
            await client.cancel(job_id)


@on_both
async def test_leaving_gives_jobs_back(server: Server, queue: str):
    async with Client(ws(server)) as client:
        job_id = await client.push(queue)
        async with Client(ws(server)) as other:
            assert await other.pull(queue) is not None
            assert await client.state(job_id) == "active"
        assert await client.pull(queue, timeout=60) is not None


@pytest.mark.slow
@on_both
async def test_wrong_token_is_the_callers_fault(tmp_path: Path):
    with Server(tmp_path / "q.db", {"AUTH_TOKENS": "secret"}) as server:
        async with Client(ws(server), token="secret") as client:
            await client.ping()
        async with Client(ws(server), token="guess") as client:
            with pytest.raises(Refused, match="Unauthorized") as caught:
                await client.ping()
            assert (caught.value.status, caught.value.code) == (401, "unauthorized")
        worker = Worker("q", ws(server))
        worker.handler(lambda job: None)
        with pytest.raises(Refused, match="Unauthorized"):
            await worker.run()


@pytest.mark.slow
@on_both
async def test_message_too_big_for_this_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Server(tmp_path / "q.db", {"BODY_MAX_BYTES": "100000"}) as server:
        async with Client(ws(server)) as client:
            with pytest.raises(Refused, match="longer than the 100,000 that the server takes"):
                await client.push("q", "x" * 200_000)
            await client.push("q", "x")
            assert client.connections == 1
        for sockets in (socket_trio, socket_asyncio):  # as if the server had not said it
            monkeypatch.setattr(sockets, "message_max_of", lambda said: MESSAGE_MAX)
        async with Client(ws(server)) as client:
            with pytest.raises(Refused, match="too large"):
                await client.push("q", "x" * 200_000)
            await client.push("q", "x")
            assert client.connections == 2


@on_both
async def test_no_server_says_so():
    async with Client("ws://127.0.0.1:1", patience=0.2) as client:
        with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
            await client.ping()


class Nonsense(Between):
    """Says yes to a handshake, then sends a frame with reserved bits set, and does not hang up."""

    async def serve(self, client: trio.SocketStream) -> None:
        head = bytes(await client.receive_some())
        key = head.lower().split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
        key = head[head.lower().index(key) :][: len(key)]
        accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest())
        await client.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n\xff\xff"
        )
        while await client.receive_some():
            pass


@pytest.mark.slow
@on_both
async def test_nonsense_after_the_handshake_ends_only_the_connection():
    """The client says so, closes, and connects again."""
    with Nonsense() as nonsense:
        async with Client(nonsense.url, patience=0.5) as client:
            with anyio.fail_after(60):
                while client.connections < 2:
                    await client._upkeep._changed.wait()


@on_both
async def test_message_larger_than_the_sockets_buffer(server: Server, queue: str):
    """The kernel takes only a part at once."""
    async with Client(ws(server)) as client:
        job_id = await client.push(queue, "x" * 9_000_000)
        assert len((await client.get(job_id)).data) == 9_000_000


@pytest.mark.slow
@on_both
async def test_silent_server_is_noticed(server: Server, queue: str, monkeypatch: pytest.MonkeyPatch):
    """Nothing ends the connection, and nothing comes any more: the client connects anew."""
    for sockets in (socket_trio, socket_asyncio):
        monkeypatch.setattr(sockets._WebSocket, "keepalive_s", 0.2)
    for name in ("ANSWER_S", "ONCE_MORE_S"):
        monkeypatch.setattr(link, name, 0.2)
    with Proxy(server.address) as proxy:
        async with Client(proxy.url) as client:
            await client.ping()
            proxy.freeze_those_that_are_there()
            with anyio.fail_after(60):
                while client._upkeep.link is not None and not client._upkeep.link.over:
                    await client._upkeep._changed.wait()
                await client.push(queue)
            assert client.connections > 1


@pytest.mark.slow
@on_both
async def test_stopped_server_is_waited_for(fresh: Server):
    worker = Worker("q", ws(fresh), concurrency=4)
    worker.handler(lambda job: job.data)
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(worker.run)
        async with Client(ws(fresh)) as client:
            first = await client.push("q", 1)
            assert await client.wait(first, 60) == 1
            assert await anyio.to_thread.run_sync(fresh.terminate) == 0
            await anyio.to_thread.run_sync(fresh.start)
            second = await client.push("q", 2)
            assert await client.wait(second, 60) == 2
        worker.stop()


@pytest.mark.slow
@on_both
async def test_chaos(start_server: StartServer):
    fresh = start_server({"STALLS_MAX": "1000"})  # each cut counts as a stall of what the worker holds
    chaos = Chaos(7, pace=0.2)
    with Proxy(fresh.address) as proxy:
        await chaos_behind(proxy, fresh, chaos)


async def chaos_behind(proxy: Proxy, fresh: Server, chaos: Chaos) -> None:
    url = proxy.url
    async with anyio.create_task_group() as nursery:
        workers = [Worker("q", url, concurrency=5) for _ in range(2)]
        for worker in workers:
            worker.handler(chaos.handle)
            nursery.start_soon(worker.run)

        async def crash():
            fresh.kill()
            await anyio.to_thread.run_sync(fresh.start)

        async with Client(url) as client:
            async with anyio.create_task_group() as disturbed:
                disturbed.start_soon(chaos.produce, client, "q", 25)
                disturbed.start_soon(chaos.disturb, 5, proxy.cut, crash)
            await chaos.check(client, workers, "q")
            stats = await client.stats()
        for worker in workers:
            worker.stop()
        await anyio.sleep(0.5)
        nursery.cancel_scope.cancel()
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S, verify=NO_TLS) as http:
        counts = (await http.get(f"{fresh.url}/health")).json()["queues"]
    assert counts["completed"] == len(chaos.ids)
    assert counts["active"] == counts["waiting"] == counts["dlq"] == 0
    assert stats
