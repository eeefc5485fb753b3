"""What is sent over one WebSocket without waiting is done and answered one after the other, also what is done in steps."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import Settings
from bunqueue_trio.errors import StoreDamaged, StoreError
from bunqueue_trio.protocol.catalog import SLICED, SPECS
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.slices import SLICE
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.storage.distant import DistantStore
from tests.stream.stream_world import START_MS, World, nothing, pushed
from tests.stream.stream_world import world as world
from tests.stream.two_lanes import client as client
from tests.stream.two_lanes import lane as lane
from tests.stream.two_lanes import ws as ws
from tests.stream.ws import TEXT, Peer, frame
from tests.wire.client import Client

MANY = 2 * SLICE + SLICE // 2

# Of each command that is done in steps: what it is asked of a queue with MANY jobs, and of which answer the rest is known.
IN_STEPS: list[tuple[str, dict[str, Any]]] = [
    ("Obliterate", {}),
    ("Clean", {"grace": 0, "state": "waiting", "limit": 1000}),
    ("ActOnJobs", {"action": "cancel", "filter": {"state": "waiting"}}),
    ("ActOnJobs", {"action": "move", "to": "elsewhere", "filter": {"state": "waiting"}}),
    ("RetryDlq", {}),
    ("PurgeDlq", {}),
    ("Drain", {}),
    ("PromoteJobs", {}),
]


def test_each_command_that_is_done_in_steps_is_tried() -> None:
    assert {SPECS[kind].tag for kind in SLICED} == {cmd for cmd, _ in IN_STEPS}


def breath(ws: Peer, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """Send commands in one go; return their replies as they come."""
    messages = [{**command, "reqId": n} for n, command in enumerate(commands)]
    ws.connection.socket.sendall(b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages))
    return [ws.reply() for _ in commands]


@pytest.mark.parametrize(
    ("cmd", "fields"), IN_STEPS, ids=[f"{cmd} {fields.get('action', '')}" for cmd, fields in IN_STEPS]
)
def test_what_is_sent_behind_a_command_in_steps_is_done_when_that_is_whole(
    ws: Peer, client: Client, queue: str, cmd: str, fields: dict[str, Any]
) -> None:
    put_off = {"delay": 60_000} if cmd == "PromoteJobs" else {}
    ws.done("PUSHB", queue=queue, jobs=[{"data": n, "maxAttempts": 1, **put_off} for n in range(MANY)])
    if cmd.endswith("Dlq"):
        jobs = ws.done("PULLB", queue=queue, count=MANY)["jobs"]
        ws.done("FAILB", failures=[{"id": job["id"], "error": "no"} for job in jobs])
    if "filter" in fields:
        fields = fields | {"filter": {**fields["filter"], "queue": queue}}
    said = {"cmd": cmd, **fields} | ({} if "filter" in fields else {"queue": queue})
    new = {"cmd": "PUSH", "queue": queue, "data": "new"}
    replies = breath(ws, said, *[new] * 3, {"cmd": "Dlq", "queue": queue})
    assert [reply["reqId"] for reply in replies] == [0, 1, 2, 3, 4]
    assert replies[0]["count"] == MANY
    assert [client.state(reply["id"]) for reply in replies[1:4]] == ["waiting"] * 3
    assert replies[4]["total"] == 0


def test_the_reply_to_a_search_comes_in_its_place(ws: Peer, client: Client, queue: str) -> None:
    ws.done("PUSHB", queue=queue, jobs=[{"data": n} for n in range(MANY)])
    search = {"cmd": "FindJobs", "queue": queue, "text": "17"}
    replies = breath(ws, search, {"cmd": "Ping"}, search, {"cmd": "PUSH", "queue": queue, "data": 1}, {"cmd": "Ping"})
    assert [reply["reqId"] for reply in replies] == [0, 1, 2, 3, 4]
    assert all(reply["ok"] for reply in replies)


@pytest.fixture
async def distant(mock_clock: trio.testing.MockClock, nursery: trio.Nursery) -> AsyncIterator[World]:
    mock_clock.autojump_threshold = 0
    server = Server(Settings(), DistantStore(MemoryStore(), away_s=0.01), Clock(START_MS))
    await nursery.start(serve, server, [nothing])
    yield World(server, nursery)
    nursery.cancel_scope.cancel()


async def test_what_a_distant_store_is_asked_for_is_answered_in_its_place(distant: World) -> None:
    with distant.session() as session:
        # Whether there was a job of that id is asked for; the others need no answer.
        distant.send(session, "PUSH", queue="q", data=1, jobId="a", reqId=0)
        distant.send(session, "PULL", queue="none", timeout=60_000, reqId=1)
        distant.send(session, "PUSH", queue="q", data=1, reqId=2)
        distant.send(session, "GetJob", id="gone", reqId=3)
        distant.send(session, "Ping", reqId=4)
        came: list[int] = []
        while len(came) < 4:
            await session.bell.wait()
            came += [said["reqId"] for said in map(json.loads, session.outgoing()) if "reqId" in said]
        assert came == [0, 2, 3, 4]
        distant.send(session, "StopPull", reqId=1)
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("gone"), "storage-down"), (StoreDamaged("malformed"), "storage-damaged"),
        (KeyError("what nobody expects"), "internal-error"),
    ],
)  # fmt: skip
async def test_a_search_that_comes_to_nothing_is_answered_and_costs_the_connection_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, code: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    await pushed(world)
    with world.session() as session:
        held = (await world.ask(session, "PULL", queue="q"))["job"]["id"]
        monkeypatch.setattr(world.server.core, "_look", broken)
        reply = await world.ask(session, "FindJobs", queue="q", text="nothing")
        assert reply["code"] == code
        assert (await world.ask(session, "ACK", id=held))["ok"]


@pytest.mark.parametrize("cmd", ["WaitJob", "GetResult"])
@pytest.mark.parametrize("end", ["ACK", "Cancel", "the server"])
async def test_a_wait_that_is_taken_back_in_the_moment_of_the_end_is_answered(world: World, cmd: str, end: str) -> None:
    job_id = await pushed(world)
    with world.session() as session:
        await world.ask(session, "PULL", queue="q")
        world.send(session, cmd, id=job_id, timeout=60_000, reqId="wait")
        await trio.testing.wait_all_tasks_blocked()
        if end == "the server":
            world.server.core.stop_polls()
        else:
            world.send(session, "StopPull", reqId="wait")
        world.send(session, "ACK" if end == "the server" else end, id=job_id, force=True, reqId="end")
        came: dict[str, Any] = {}
        while len(came) < 2:
            await session.bell.wait()
            came |= {
                said["reqId"]: said
                for said in map(json.loads, session.outgoing())
                if "state" in said or said.get("reqId") == "end"
            }
        assert came["end"]["ok"]
        assert came["wait"]["state"] == "active"


LOOKED = [
    ("RetryDlq", {}, "count", 3), ("PurgeDlq", {}, "count", 3), ("Clean", {"state": "failed", "grace": 0}, "count", 3),
    ("ActOnJobs", {"action": "purge", "filter": {"state": "failed"}}, "count", 3), ("Dlq", {}, "total", 3),
    ("Obliterate", {}, "count", 3),
]  # fmt: skip


@pytest.mark.parametrize(("cmd", "fields", "name", "wanted"), LOOKED, ids=[cmd for cmd, *_ in LOOKED])
def test_who_looks_at_ended_jobs_finds_those_that_ended_in_the_same_packet(
    ws: Peer, client: Client, queue: str, cmd: str, fields: dict[str, Any], name: str, wanted: int
) -> None:
    ws.done("PUSHB", queue=queue, jobs=[{"data": n, "maxAttempts": 1} for n in range(3)])
    jobs = ws.done("PULLB", queue=queue, count=3)["jobs"]
    fails = [{"cmd": "FAIL", "id": job["id"], "error": "no"} for job in jobs]
    said = {"cmd": cmd, **fields}
    if "filter" in fields:
        said["filter"] = {**fields["filter"], "queue": queue}
    else:
        said["queue"] = queue
    assert breath(ws, *fails, said)[3][name] == wanted


async def test_who_looks_waits_for_what_was_done_before_it(distant: World) -> None:
    with distant.session() as session:
        job_id = (await distant.ask(session, "PUSH", queue="q", data=1, maxAttempts=1))["id"]
        await distant.ask(session, "PULL", queue="q")
        distant.send(session, "FAIL", id=job_id, error="no")
        assert session.full is False
        distant.send(session, "Dlq", queue="q", reqId="looked")
        assert session.full
        came: list[dict[str, Any]] = []
        while len(came) < 2:
            await session.bell.wait()
            came += [said for said in map(json.loads, session.outgoing()) if "eventType" not in said]
        assert (came[1]["reqId"], came[1]["total"]) == ("looked", 1)
