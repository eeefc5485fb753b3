"""Any command by either client: what it sends, what it gets back, and what it does with one whose answer is lost."""

from typing import Any

import msgspec
import pytest

from bunqueue_trio import commands as c
from bunqueue_trio.client import ConnectionLost, Refused
from bunqueue_trio.protocol import codec
from bunqueue_trio.protocol.catalog import CATALOG, SESSION
from bunqueue_trio.protocol.commands.spec import Again, Spec
from bunqueue_trio.protocol.request import fields_of, query_of, target_of
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.client.test_fate import Loss
from tests.client.test_fate import loss as loss
from tests.protocol.inputs import complete
from tests.wire.server import Server


async def test_a_life_of_a_job_by_commands_alone(bunqueue: Bunqueue):
    run = bunqueue.client.run
    added = await run(c.Push(queue="q", data=c.payload({"a": 1.50}), tags=["x"]))
    pulled = await run(c.Pull(queue="q"))
    assert pulled.job is not None
    assert (pulled.job.id, bytes(pulled.job.data)) == (added.id, b'{"a":1.5}')
    assert (await run(c.Heartbeat(id=added.id, token=pulled.token))).data == {"ok": True, "count": 1}
    assert (await run(c.Ack(id=added.id, token=pulled.token, result=c.payload([1])))).data is msgspec.UNSET
    assert bytes((await run(c.GetResult(id=added.id))).result) == b"[1]"
    assert (await run(c.GetJob(id=added.id))).job.tags == ["x"]
    assert (await run(c.Stats())).stats["totalCompleted"] == 1
    assert isinstance((await run(c.Ping())).data, dict)
    with pytest.raises(Refused, match="not active"):
        await run(c.Ack(id=added.id))


async def test_a_client_keeps_its_connection_to_itself(bunqueue: Bunqueue):
    for command in (c.Auth(token="t"), c.Subscribe(events=[]), c.Unsubscribe(), c.StopPull()):
        with pytest.raises(TypeError, match="about a connection"):
            await bunqueue.client.run(command)


@pytest.mark.parametrize("said", ["Pause", c.Pause, {"cmd": "Pause"}, None], ids=str)
async def test_only_a_command_is_sent(bunqueue: Bunqueue, said: Any):
    told = r"^a command, such as Pause\(queue=…\), is wanted, not "
    with pytest.raises(TypeError, match=told):
        await bunqueue.client.run(said)
    with SyncClient("127.0.0.1:1") as client, pytest.raises(TypeError, match=told):
        client.run(said)


async def test_a_payload_that_is_no_json_is_not_sent(bunqueue: Bunqueue):
    for data in (b"", b"{"):
        with pytest.raises(msgspec.DecodeError):
            await bunqueue.client.run(c.Push(queue="q", data=msgspec.Raw(data)))
    assert not bunqueue.jobs


async def test_a_command_that_would_take_effect_twice_is_not_repeated(bunqueue: Bunqueue, loss: Loss):
    loss.arm("PUSH", arrives=True)
    with pytest.raises(ConnectionLost):
        await bunqueue.client.run(c.Push(queue="q", data=c.payload(1)))
    assert len(bunqueue.jobs) == 1


async def test_a_job_that_a_cut_command_has_taken_comes_again(bunqueue: Bunqueue, loss: Loss):
    job_id = await bunqueue.client.push("q")
    loss.arm("PULLB", arrives=True)
    taken = await bunqueue.client.run(c.PullBatch(queue="q", count=3, timeout=1000))
    assert [job.id for job in taken.jobs] == [job_id]
    loss.arm("ACK", arrives=True)
    with pytest.raises(ConnectionLost):
        await bunqueue.client.run(c.Ack(id=job_id, token=taken.tokens[0]))


def test_over_http(server: Server, queue: str):
    with SyncClient(server.url) as client:
        ids = client.run(c.PushBatch(queue=queue, jobs=[c.JobSpec(data=c.payload(n)) for n in range(2)])).ids
        assert len(ids) == 2
        first = client.run(c.Pull(queue=queue, timeout=60_000))
        assert first.job is not None
        assert first.job.id == ids[0]
        client.run(c.Ack(id=ids[0]))
        client.run(c.Cancel(id=ids[1]))
        assert client.run(c.GetState(id=ids[0])).state == "completed"
        assert client.run(c.Stats()).memory["rss"] > 0
        with pytest.raises(Refused, match="Job not found"):
            client.run(c.GetJob(id="no/such?job"))
        with pytest.raises(TypeError, match="about a connection"):
            client.run(c.Auth(token="t"))


@pytest.mark.parametrize("spec", [spec for spec in CATALOG if spec.http], ids=lambda spec: spec.tag)
def test_every_field_of_a_command_is_sent(spec: Spec):
    body = {name: "a/b" for name in ("queue", "id") if name in spec.command.__struct_fields__} | complete(spec.command)
    command = codec.decode(spec.command, codec.encode(body))
    assert spec.http is not None
    fields = fields_of(command)
    assert set(fields) == set(body) or spec.command in SESSION
    target = target_of(spec.http.path, fields)
    assert ":" not in target
    assert target.count("/") == spec.http.path.count("/")
    assert not {part[1:] for part in spec.http.path.split("/") if part[:1] == ":"} & set(fields)
    assert query_of(fields) == {name: body[name] for name in fields}


def test_what_a_token_changes():
    again = {(spec.tag, token): spec.repeatable(with_token=token) for spec in CATALOG for token in (False, True)}
    assert again["ACK", False] is again["PUSH", True] is Again.NEVER
    assert again["ACK", True] is again["Cancel", False] is Again.GUARDED
    assert again["ACKB", True] is again["FAILB", True] is Again.GUARDED
    assert again["GetJob", False] is Again.FREELY
    assert again["FAILB", False] is Again.NEVER
