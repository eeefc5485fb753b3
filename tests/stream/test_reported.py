"""Who reports an end need not hear of it; of what others or the server do it hears all the same. In virtual time."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from bunqueue_trio.api.session import Session
from bunqueue_trio.config import Settings
from bunqueue_trio.runtime import core
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.storage.faulty import Fault, FaultyStore
from tests.stream.stream_world import START_MS, World, nothing

Heard = list[tuple[str, str]]


class Peer:
    """One connection, which is asked and heard by turns."""

    def __init__(self, world: World, session: Session) -> None:
        self._world = world
        self._session = session
        self.events: Heard = []

    async def ask(self, cmd: str, /, **fields: Any) -> dict[str, Any]:
        self._world.send(self._session, cmd, **fields, reqId="asked")
        while True:
            asked: dict[str, Any] | None = None
            for message in map(json.loads, self._session.outgoing()):
                if "eventType" in message:
                    self.events.append((message["eventType"], message["jobId"]))
                else:
                    asked = message
            if asked is not None:
                return asked
            await self._session.bell.wait()

    async def push_and_pull(self, count: int, **options: Any) -> tuple[list[str], list[str]]:
        """Return the ids and tokens of jobs that it holds now."""
        await self.ask("PUSHB", queue="q", jobs=[{"data": n} | options for n in range(count)])
        pulled = await self.ask("PULLB", queue="q", count=count)
        return [job["id"] for job in pulled["jobs"]], pulled["tokens"]

    async def heard(self) -> Heard:
        """Return what it has heard until now."""
        await trio.sleep(1)
        await self.ask("Ping")
        heard, self.events = self.events, []
        return heard


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    server = Server(Settings(), FaultyStore(MemoryStore()), Clock(START_MS))
    await nursery.start(serve, server, [nothing])
    yield World(server, nursery)
    nursery.cancel_scope.cancel()


@pytest.fixture
async def peer(world: World) -> AsyncIterator[Peer]:
    """A worker, as it were."""
    with world.session() as session:
        peer = Peer(world, session)
        await peer.ask("Subscribe", events=["completed", "failed"], own=False)
        yield peer


@pytest.fixture
async def other(world: World) -> AsyncIterator[Peer]:
    """Somebody who hears everything."""
    with world.session() as session:
        peer = Peer(world, session)
        await peer.ask("Subscribe", events=["completed", "failed"])
        yield peer


async def test_what_a_connection_reports_itself_it_does_not_hear(peer: Peer, other: Peer):
    ids, tokens = await peer.push_and_pull(6)
    await peer.ask("ACK", id=ids[0], token=tokens[0])
    await peer.ask("FAIL", id=ids[1], token=tokens[1])
    await peer.ask("ACKB", ids=ids[2:4], tokens=tokens[2:4])
    failures = [{"id": job, "token": token} for job, token in zip(ids[4:], tokens[4:], strict=True)]
    await peer.ask("FAILB", failures=failures)
    assert await peer.heard() == []
    kinds = ["completed", "failed", "completed", "completed", "failed", "failed"]
    assert await other.heard() == list(zip(kinds, ids, strict=True))


async def test_what_others_report_it_hears_though_it_tried_to_report_it(peer: Peer, other: Peer):
    ids, tokens = await other.push_and_pull(2)
    assert not (await peer.ask("FAIL", id=ids[1], token="no"))["ok"]
    assert (await peer.ask("FAILB", failures=[{"id": ids[1], "token": "no"}]))["data"]["ignoredIds"] == [ids[1]]
    assert (await peer.ask("ACKB", ids=ids, tokens=[tokens[0], "no"]))["data"]["ignoredIds"] == [ids[1]]
    await other.ask("ACK", id=ids[1], token=tokens[1])
    assert await peer.heard() == [("completed", ids[1])]


async def test_so_it_does_where_both_are_committed_together(world: World, peer: Peer, other: Peer):
    ids, tokens = await other.push_and_pull(2)
    world.send(peer._session, "ACKB", ids=ids, tokens=[tokens[0], "no"], reqId="mine")
    world.send(other._session, "ACK", id=ids[1], token=tokens[1], reqId="theirs")
    assert await peer.heard() == [("completed", ids[1])]


async def test_a_later_end_of_the_same_job_is_heard(peer: Peer, other: Peer):
    ids, tokens = await peer.push_and_pull(1, backoff=0, maxAttempts=3, timeout=60_000)
    await peer.ask("FAIL", id=ids[0], token=tokens[0])
    await peer.ask("PULL", queue="q")
    assert await peer.heard() == []
    await trio.sleep(120)
    assert await peer.heard() == [("failed", ids[0])]


async def test_who_asks_for_it_again_hears_itself(peer: Peer):
    await peer.ask("Subscribe", events=["completed"])
    ids, tokens = await peer.push_and_pull(1)
    await peer.ask("ACK", id=ids[0], token=tokens[0])
    assert await peer.heard() == [("completed", ids[0])]


@pytest.mark.thorough
async def test_many_that_go_in_steps_are_not_heard_either(peer: Peer):
    ids, tokens = await peer.push_and_pull(500)
    failures = [{"id": job, "token": token} for job, token in zip(ids, tokens, strict=True)]
    await peer.ask("FAILB", failures=failures)
    assert await peer.heard() == []


@pytest.mark.thorough
async def test_of_many_that_go_in_steps_a_later_end_is_heard(peer: Peer, other: Peer):
    ids, tokens = await peer.push_and_pull(500, backoff=0, maxAttempts=3)
    failures = [{"id": job, "token": token} for job, token in zip(ids, tokens, strict=True)]
    await peer.ask("FAILB", failures=failures)
    pulled = await other.ask("PULLB", queue="q", count=500)
    await other.ask("FAILB", failures=[{"id": job["id"]} for job in pulled["jobs"]])
    assert [job for _, job in await peer.heard()] == [job["id"] for job in pulled["jobs"]]


async def test_what_is_reported_of_other_queues_is_not_kept(world: World):
    with world.session("mine") as session:
        peer = Peer(world, session)
        await peer.ask("Subscribe", events=["failed"], own=False)
        for _ in range(10):
            ids, tokens = await peer.push_and_pull(1)
            await peer.ask("FAIL", id=ids[0], token=tokens[0])
        assert not session._subscription.reports


async def refused(world: World, peer: Peer, cmd: str, **fields: Any) -> None:
    """Let the peer ask for something that is committed when it has heard that it may never be."""
    store = world.server.store
    assert isinstance(store, FaultyStore)
    store.commits = iter([Fault.REFUSED] * 1000)
    assert "not committed" in (await peer.ask(cmd, **fields))["error"]
    assert await peer.heard() == []
    store.commits = iter(())


async def test_what_it_hears_may_never_be_it_hears_when_it_is(world: World, peer: Peer):
    ids, tokens = await peer.push_and_pull(1)
    await refused(world, peer, "ACK", id=ids[0], token=tokens[0])
    assert await peer.heard() == [("completed", ids[0])]


async def test_so_it_is_with_many_that_go_in_steps_of_which_some_were_committed_before(
    world: World, peer: Peer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(core, "BULK_SLICE", 10)
    ids, tokens = await peer.push_and_pull(30)
    store = world.server.store
    assert isinstance(store, FaultyStore)
    store.commits = iter([Fault.NONE] + [Fault.REFUSED] * 1000)
    assert "not committed" in (await peer.ask("ACKB", ids=ids, tokens=tokens))["error"]
    store.commits = iter(())
    assert sorted(await peer.heard()) == [("completed", job) for job in sorted(ids)]
