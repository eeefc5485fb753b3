"""What the server accepts, its own client reads: a payload costs its job at most, never the connection."""

import json
from typing import Any

import httpx
import msgspec
import pytest
import trio

from bunqueue_trio import commands as c
from bunqueue_trio.client import Client, ConnectionLost, Job, JobFailed, Refused
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.testing.lives import Pipe
from tests.client.test_real_server import ws
from tests.wire.client import Client as Wire
from tests.wire.server import Server

ODD = {
    "lone high": rb'{"name": "a\ud83d"}',
    "lone low": rb'"\udce9"',
    "lone beside a pair": rb'["\ud83d\ude00\ud83d", "\\ud83d", "\\\udce9"]',
    "in a key": rb'{"\udce9": 1}',
    "deep": b"[" * 490 + b"]" * 490,
    "long integer": b"1" * 4000,
    "longer than Python reads": b"[1," + b"1" * 5000 + b"]",
    "out of range": b"1e999",
    "same key twice": b'{"a":1,"a":2}',
}


async def raw_push(bunqueue: Bunqueue, payload: bytes, options: bytes = b"") -> str:
    """Push what no encoder of ours would make."""
    async with bunqueue._place.connect(None) as pipe:
        await pipe.send(b'{"cmd":"Subscribe","events":[],"reqId":1}')
        await pipe.receive()
        await pipe.send(b'{"cmd":"PUSH","queue":"q","reqId":2,"data":' + payload + options + b"}")
        return str(json.loads(await pipe.receive())["id"])


@pytest.mark.parametrize("name", ODD)
async def test_odd_payload_gets_to_its_handler(bunqueue: Bunqueue, name: str):
    payload = ODD[name]
    worker = bunqueue.worker("q", concurrency=1)
    got: list[Any] = []

    @worker.handler
    def handle(job: Job) -> str:
        got.append((job.raw, job.data))
        return "done"

    bunqueue.start(worker)
    async with bunqueue.client.events("pushed") as events:
        job_id = await raw_push(bunqueue, payload)
        assert await bunqueue.client.wait(job_id, 10) == "done"
        event = await anext(events)
    expected = [1, "1" * 5000] if name == "longer than Python reads" else json.loads(payload)
    assert got == [(payload, expected)]
    assert (await bunqueue.client.get(job_id)).data == expected
    assert bytes(event.data) == payload  # type: ignore[arg-type]
    assert (bunqueue.client.connections, events.missed) == (1, 0)


async def test_odd_payload_costs_no_other_job(bunqueue: Bunqueue):
    odd = await raw_push(bunqueue, rb'"\ud83d"')
    other = await bunqueue.client.push("q", "plain")
    jobs = await bunqueue.client.pull_many("q", 5)
    assert [(job.id, job.raw) for job in jobs] == [(odd, rb'"\ud83d"'), (other, b'"plain"')]
    single = await raw_push(bunqueue, rb'"\ud83d"')
    job = await bunqueue.client.pull("q")
    assert job is not None
    assert (job.id, job.raw, job.data) == (single, rb'"\ud83d"', "\ud83d")


async def test_odd_result_is_read(bunqueue: Bunqueue):
    job_id = await bunqueue.client.push("q")
    job = await bunqueue.client.pull("q")
    assert job is not None
    link = bunqueue.client._upkeep.link
    assert link is not None
    raw = b'{"cmd":"ACK","id":"%s","token":"%s","result":"\\ud83d"}' % (job_id.encode(), job.token.encode())
    await link._connection.send(raw)
    assert await bunqueue.client.wait(job_id, 10) == "\ud83d"


def pushed(wire: Wire, queue: str, payload: bytes) -> str:
    """Push what no encoder of ours would make."""
    return str(wire.post_bytes(f"/queues/{queue}/jobs", b'{"data":%s}' % payload).json()["id"])


def acked(wire: Wire, job_id: str, token: str | None, result: bytes) -> None:
    body = b'{"token":"%s","result":%s}' % (str(token).encode(), result)
    wire.post_bytes(f"/jobs/{job_id}/ack", body).raise_for_status()


@pytest.mark.parametrize("name", ODD)
def test_run_without_trio_reads_every_payload_and_result(server: Server, queue: str, name: str):
    payload = ODD[name]
    with Wire(server.url) as wire, SyncClient(server.url) as sync:
        job_id = pushed(wire, queue, payload)
        taken = sync.run(c.Pull(queue=queue))
        assert taken.job is not None
        assert (taken.job.id, bytes(taken.job.data)) == (job_id, payload)
        assert bytes(sync.run(c.GetJob(id=job_id)).job.data) == payload
        acked(wire, job_id, taken.token, payload)
        assert bytes(sync.run(c.GetResult(id=job_id)).result) == payload
        listed = sync.run(c.GetJobs(queue=queue, state="completed")).jobs
        assert [bytes(job.data) for job in listed] == [payload]


@pytest.mark.parametrize("name", ODD)
async def test_run_gives_every_payload_and_result_as_it_came(server: Server, queue: str, name: str):
    payload = ODD[name]
    with Wire(server.url) as wire:
        async with Client(ws(server)) as client:
            job_id = pushed(wire, queue, payload)
            taken = await client.run(c.Pull(queue=queue))
            assert taken.job is not None
            assert (taken.job.id, bytes(taken.job.data)) == (job_id, payload)
            assert bytes((await client.run(c.GetJob(id=job_id))).job.data) == payload
            acked(wire, job_id, taken.token, payload)
            assert bytes((await client.run(c.GetResult(id=job_id))).result) == payload
            listed = (await client.run(c.GetJobs(queue=queue, state="completed"))).jobs
            assert [bytes(job.data) for job in listed] == [payload]


def test_answer_that_cannot_be_read_is_one_whose_fate_is_unknown():
    body = b'{"ok":true,"job":{"id":7},"token":"t"}'
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    with (
        SyncClient("http://x", transport=transport) as sync,
        pytest.raises(ConnectionLost, match="PULL cannot be read"),
    ):
        sync.run(c.Pull(queue="q"))


async def test_typed_payload_that_is_no_text_fails_with_a_reason(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    def handle(job: Job[str]) -> str:
        return job.data

    bunqueue.start(worker)
    job_id = await raw_push(bunqueue, rb'"\ud83d"', b',"maxAttempts":1')
    other = await bunqueue.client.push("q", "plain")
    assert await bunqueue.client.wait(other, 10) == "plain"
    with pytest.raises(JobFailed, match="DecodeError"):
        await bunqueue.client.wait(job_id, 10)
    assert await bunqueue.client.state(job_id) == "failed"


async def test_what_cannot_be_read_costs_its_reader_only(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    """An event of a newer server is one that was missed; an answer is one whose fate is unknown."""
    receive = Pipe.receive
    changes = [(b'"timestamp":', b'"timestamp":"soon","was":'), (b'"state":', b'"state":7,"was":')]

    async def newer(pipe: Pipe) -> bytes:
        message = await receive(pipe)
        for change in changes:
            if change[0] in message:
                changes.remove(change)
                return message.replace(*change, 1)
        return message

    monkeypatch.setattr(Pipe, "receive", newer)
    async with bunqueue.client.events("pushed") as events:
        first, second = [await bunqueue.client.push("q") for _ in range(2)]
        assert (await anext(events)).job_id == second
        assert events.missed == 1
    with pytest.raises(ConnectionLost, match="cannot be read"):
        await bunqueue.client.state(first)
    assert await bunqueue.client.state(first) == "waiting"
    assert bunqueue.client.connections == 1


@pytest.mark.parametrize("raw", [b"{no JSON", b'"\xff"'])
async def test_raw_that_is_no_json_is_refused_and_nothing_else(bunqueue: Bunqueue, raw: bytes):
    """The server cannot say whose message it could not read: whoever sent it would wait for ever."""
    answers: dict[str, Any] = {}

    async def push(name: str, payload: msgspec.Raw) -> None:
        try:
            answers[name] = await bunqueue.client.push("q", payload, job_id=name)
        except Refused as refused:
            answers[name] = str(refused)

    async with trio.open_nursery() as nursery:
        for name, payload in (("before", b"1"), ("bad", raw), ("after", b"[" * 600 + b"]" * 600), ("last", b"2")):
            nursery.start_soon(push, name, msgspec.Raw(payload))
    assert answers == {"before": "before", "bad": "Invalid JSON", "after": "Invalid JSON", "last": "last"}
    assert bunqueue.client.connections == 1
