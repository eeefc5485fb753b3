"""Every way to ask a server for a command, behind one face: a scenario says what is asked, not how."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import pytest

from bunqueue_trio.client import Client
from bunqueue_trio.errors import LITERAL, Fault, Refused
from bunqueue_trio.protocol import codec
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.commands.spec import Spec
from bunqueue_trio.protocol.faults import FAULTS, fault_of
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.sync import SyncClient
from tests.patience import PATIENCE_S
from tests.stream.ws import peer
from tests.wire.server import NO_TLS, Server

R = TypeVar("R", bound=Reply)
Run = Callable[[c.Command[Any]], Awaitable[Any]]


class Api:
    """Asks by one carrier."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def run(self, command: c.Command[R]) -> R:
        """Return the reply, or raise what was refused."""
        reply: R = await self._run(command)
        return reply

    async def refused(self, command: c.Command[Any]) -> Fault:
        """Expect a refusal and return its kind."""
        with pytest.raises(Refused) as caught:
            await self._run(command)
        fault = FAULTS[caught.value.code]
        assert caught.value.status == fault.status
        return fault

    async def push(self, queue: str, data: object = None, **fields: Any) -> str:
        """Add a job and return its id."""
        return (await self.run(c.Push(queue=queue, data=msgspec.Raw(codec.encode(data)), **fields))).id

    async def take(self, queue: str) -> tuple[str, str]:
        """Pull a job that is there; return its id and token."""
        pulled = await self.run(c.Pull(queue=queue, timeout=60_000))
        assert pulled.job is not None
        assert pulled.token is not None
        return pulled.job.id, pulled.token

    async def state(self, job_id: str) -> str:
        """Return where a job stands."""
        return (await self.run(c.GetState(id=job_id))).state


def fields_of(command: c.Command[Any]) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(codec.encode(command))
    del fields["cmd"]
    return fields


def read(spec: Spec, said: dict[str, Any], status: int | None) -> Reply:
    """Judge an answer: a success is exactly its struct, a refusal has a code unless the reference shows it."""
    if said["ok"]:
        assert status in (200, None)
        reply = msgspec.json.decode(codec.encode(said), type=spec.reply)
        assert json.loads(codec.encode(reply)) == said
        return reply
    assert ("code" in said) == (not spec.contract or said["error"] not in LITERAL)
    fault = fault_of(said["error"], said.get("code"))
    assert fault is not None
    assert status in (fault.status, None)
    raise Refused(fault.status, said["error"], fault.code)


@asynccontextmanager
async def http(server: Server) -> AsyncIterator[Run]:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, verify=NO_TLS, timeout=PATIENCE_S * 2) as client:

        async def run(command: c.Command[Any]) -> Reply:
            spec, fields = SPECS[type(command)], fields_of(command)
            assert spec.http is not None
            path = re.sub(r":(\w+)", lambda name: quote(str(fields.pop(name[1])), safe=""), spec.http.path)
            sent = {"params": fields} if spec.http.method == "GET" else {"json": fields}
            response = await client.request(spec.http.method, path, **sent)  # type: ignore[arg-type]
            return read(spec, response.json(), response.status_code)

        yield run


@asynccontextmanager
async def websocket(server: Server) -> AsyncIterator[Run]:
    with peer(server, quiet=True) as connected:

        async def run(command: c.Command[Any]) -> Reply:
            spec = SPECS[type(command)]
            return read(spec, connected.ask(spec.tag, **fields_of(command)), None)

        yield run


@asynccontextmanager
async def trio_client(server: Server) -> AsyncIterator[Run]:
    async with Client(server.url) as client:
        yield client.run


@asynccontextmanager
async def sync_client(server: Server) -> AsyncIterator[Run]:
    with SyncClient(server.url) as client:

        async def run(command: c.Command[Any]) -> Reply:
            return client.run(command)

        yield run


CARRIERS = {
    "express": http, "hypercorn": http, "door": http, "websocket": websocket, "client": trio_client, "sync client": sync_client,
}  # fmt: skip
