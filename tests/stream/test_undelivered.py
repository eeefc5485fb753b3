"""A job or a reply that cannot be sent, in virtual time: the job returns at once, and nothing is held for it."""

import json
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.api import gateway as gateway_module
from bunqueue_trio.config import (
    GIVE_UP_S,
    MIB,
)
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol.commands import Push
from bunqueue_trio.protocol.replies import PullReply, Reply
from bunqueue_trio.transports.quart_app import make_app
from bunqueue_trio.transports.wire import Wire
from tests.stream.stream_world import World, pushed, received
from tests.stream.stream_world import world as world
from tests.wire.raw import request_bytes

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


async def test_a_list_that_is_given_up_is_answered_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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


def is_waiting(world: World) -> bool:
    return world.server.engine.counts == {"waiting": 1, "delayed": 0, "waiting-children": 0, "active": 0}


@pytest.mark.parametrize("why", ["no-room", "no-memory"])
async def test_a_job_that_cannot_be_sent_is_back_at_once(
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


async def test_no_job_is_taken_before_the_body_has_ended(world: World) -> None:
    """Whatever is in it: the lease would run while the client still sends."""
    job_id = await pushed(world, 1)
    read: list[bool] = []

    async def body(limit: int) -> bytes:
        read.append(is_waiting(world))
        return b""

    response = await world.gateway.respond(world.gateway.resolve("GET", "/queues/q/jobs", {}), body)
    assert read == [True]
    assert isinstance(response.body, bytes)
    assert job_id.encode() in response.body


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


@pytest.mark.parametrize("waits", [True, False], ids=["waited for", "there"])
@pytest.mark.parametrize("read", [0, 1, 1000], ids="{} bytes read".format)
@pytest.mark.parametrize("express", [True, False], ids=["express", "hypercorn"])
async def test_a_large_job_returns_when_its_client_goes_in_the_middle_of_it(
    world: World, express: bool, read: int, waits: bool
) -> None:
    """Hypercorn goes on as if what it could not send had been sent."""
    world.http._express = express
    if not waits:
        await pushed(world, MIB)
    client = await world.connect()
    await client.send_all(request_bytes("GET", "/queues/q/jobs?timeout=1000"))
    await trio.testing.wait_all_tasks_blocked()
    if waits:
        await pushed(world, MIB)
    if read:
        await client.receive_some(read)
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.engine.counts["active"] == 1
    await trio.aclose_forcefully(client)
    await trio.testing.wait_all_tasks_blocked()
    assert is_waiting(world)
