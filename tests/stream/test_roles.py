"""Roles in virtual time: what a gateway and a session let the bearer of a token do, without a socket."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import load
from bunqueue_trio.protocol.commands import Discard, Push
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore

FILE = "ann admin a-1\nbob work w-1\neve read r-1\nbare-1\n"
MAY = {"r-1": 1, "w-1": 2, "a-1": 3, "bare-1": 3}
ASKED = [("GET", "/queues/q/count"), ("POST", "/queues/q/jobs"), ("POST", "/queues/q/drain")]
"""What takes the role to read, to work and to administer."""


async def nothing(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
    task_status.started([])
    await server.stop.wait()


@pytest.fixture
async def gateway(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Gateway]:
    file = tmp_path / "tokens"
    file.write_text(FILE)
    server = Server(load({"AUTH_TOKENS_FILE": str(file)}).settings, MemoryStore(), Clock(1_700_000_000_000))
    await nursery.start(serve, server, [nothing])
    yield Gateway(server)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("token", MAY)
async def test_a_request_is_let_in_by_its_role(gateway: Gateway, token: str):
    found = []
    for method, path in ASKED:
        call = gateway.resolve(method, path, {"authorization": f"Bearer {token}"})
        response = await gateway.respond(call, b'{"data": 1}' if path.endswith("jobs") else b"")
        if response.status == 403:
            assert isinstance(response.body, bytes)
            assert json.loads(response.body)["code"] == "missing-role"
        found.append(response.status)
    assert found == [200] * MAY[token] + [403] * (3 - MAY[token])


async def test_a_session_goes_by_the_token_that_was_said_last(gateway: Gateway, nursery: trio.Nursery):
    server = gateway._server
    call = gateway.resolve("GET", "/ws", {"authorization": "Bearer r-1"})
    with Session(server, gateway, None, vouched=True, grant=call.grant) as session:

        def allowed() -> int:
            for cmd in ('"Count"', '"Promote","id":"x"', '"Resume"'):
                session.receive(b'{"cmd":%s,"queue":"q"}' % cmd.encode(), nursery)
            return [json.loads(message).get("code") for message in session.outgoing()].count("missing-role")

        assert allowed() == 2
        for token, refused in (("a-1", 0), ("w-1", 1), ("nobody", 1), ("r-1", 2), ("bare-1", 0)):
            session.receive(b'{"cmd":"Auth","token":"%s"}' % token.encode(), nursery)
            session.outgoing()
            assert allowed() == refused


async def test_who_works_revives_no_dead_letter(gateway: Gateway, nursery: trio.Nursery):
    server = gateway._server
    await server.core.execute(Push(queue="q", data=Raw(b"1"), job_id="j"))
    await server.core.execute(Discard(id="j"))
    for token, status in (("w-1", 403), ("a-1", 200)):
        call = gateway.resolve("POST", "/jobs/j/move-to-wait", {"authorization": f"Bearer {token}"})
        assert (await gateway.respond(call, b"{}")).status == status
    await server.core.execute(Discard(id="j"))
    call = gateway.resolve("GET", "/ws", {"authorization": "Bearer w-1"})
    with Session(server, gateway, None, vouched=True, grant=call.grant) as session:
        session.receive(b'{"cmd":"MoveToWait","id":"j"}', nursery)
        assert [json.loads(message)["code"] for message in session.outgoing()] == ["missing-role"]
