"""A server that may not lead its database any more: its pages say so, to people and to programs, and hide nothing."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from trio.testing import MockClock

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import Settings
from bunqueue_trio.errors import StoreError
from bunqueue_trio.pages.openapi import openapi
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore
from tests.storage.distant import DistantStore
from tests.ui.site import Site


@pytest.fixture
async def store(autojump_clock: MockClock) -> DistantStore:
    return DistantStore(MemoryStore())


@pytest.fixture
async def server(store: DistantStore) -> Server:
    settings = Settings(store="postgres://bunqueue@db/queue", audit_jobs_per_second=0)
    made = Server(settings, store, Clock(1_700_000_000_000))
    made.core.begin(c.Push(queue="emails", data=c.Raw(b"1")))
    return made


async def asked(server: Server, path: str) -> tuple[int, dict[str, Any]]:
    gateway = Gateway(server)
    response = await gateway.respond(gateway.resolve("GET", path, {}), b"")
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)


async def test_programs_hear_of_it_and_probes_decide(server: Server, store: DistantStore) -> None:
    for path in ("/health", "/stats", "/findings"):
        assert "sure" not in (await asked(server, path))[1], "nothing is added while it is sure"
    store.is_led = False
    status, told = await asked(server, "/findings")
    assert (status, told["sure"]) == (200, False)
    assert (await asked(server, "/health"))[1]["status"] == "degraded"
    api = json.loads((await openapi(server))[1])
    for path in ("/health", "/stats", "/findings"):
        schema = api["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        told = (await asked(server, path))[1]
        assert set(told) == set(schema["properties"]), "as the description of the API has it"
        if path == "/findings":
            fields = set(schema["properties"]["findings"]["items"]["properties"])
            assert all(set(each) == fields for each in told["findings"])
    assert (await asked(server, "/ready"))[0] == 503
    assert (await asked(server, "/queues"))[0] == 503
    assert (await asked(server, "/findings"))[1]["findings"][0]["code"] == "not-sure"


async def test_an_operator_sees_the_pages_with_a_word_of_warning(server: Server, store: DistantStore) -> None:
    site = Site(SimpleNamespace(server=server))  # type: ignore[arg-type]
    warning = "Another one may lead: what you see is how things were."
    assert not (await site.get("/ui/queues/emails")).said(warning)
    store.is_led = False
    for path in ("/ui", "/ui/queues", "/ui/queues/emails", "/ui/storage", "/ui/server"):
        page = await site.get(path)
        assert page.status == 200
        assert page.said(warning), path
        assert (await site.get(path, {"x-part": "main"})).said(warning), "and where it looks again by itself"
    page = await site.get("/ui/queues/emails")
    assert page.said("Another server may lead: this one changes nothing until it knows.")
    assert "/ui/act/" not in page.html
    first = await site.get("/ui/act/pause?queue=emails")
    assert (await site.post("/ui/act/pause", {"queue": "emails", "csrf": first.csrf})).status == 503


async def test_a_database_that_is_down_is_not_called_a_disk(server: Server) -> None:
    server.journal.note_failure(StoreError("connection refused"))
    site = Site(SimpleNamespace(server=server))  # type: ignore[arg-type]
    for path in ("/ui", "/ui/queues/emails", "/ui/storage"):
        page = await site.get(path)
        assert page.said("The database takes no changes"), path
        assert "disk" not in page.text.lower(), path
