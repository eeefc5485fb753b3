"""Requests whose head is a number: tokens, roles, limits, acts and sizes hold for them as for all others."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio import errors
from bunqueue_trio.config import SMALL_BODY_BYTES, NamedToken, Settings
from bunqueue_trio.doors.frames import (
    ANSWER,
    CALL,
    HEAD,
    HERE,
    SHAPE,
    SHAPE_BITS,
    SPLICE,
    VERSION,
    Said,
    pack,
    pack_all,
)
from bunqueue_trio.protocol.commands import Push
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.tree import serve
from bunqueue_trio.storage.memory import MemoryStore
from tests.doors.framed_world import Raw, World, nothing
from tests.wire.raw import request_bytes

PUSH = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')
Ask = Callable[..., Awaitable[tuple[int, Any]]]


@asynccontextmanager
async def asking(**settings: Any) -> AsyncIterator[tuple[World, Ask]]:
    """A leader with these settings, and what asks it by numbers; SPLICE is the status 0."""
    async with trio.open_nursery() as nursery:
        made = Settings(**settings)
        server = Server(made, MemoryStore(), Clock(1_700_000_000_000))
        await nursery.start(serve, server, [nothing])
        world = World(server, nursery, made)
        door, statuses, heads = Raw(world), dict[int, int](), dict[bytes, int]()
        await door.stream.send_all(pack(0, HERE, VERSION))
        await door.hear()

        async def ask(request: bytes, *, token: str = "", body: bytes | None = None) -> tuple[int, Any]:
            head, _, given = request.partition(b"\r\n\r\n")
            if body is not None:
                head, given = head.partition(b"Content-Length")[0] + b"Content-Length: %d" % len(body), body
            head += (b"\r\nAuthorization: Bearer %s" % token.encode() if token else b"") + b"\r\n\r\n"
            number = heads.setdefault(head, len(heads))
            await door.stream.send_all(
                pack_all([(number, HEAD, 0, head, ""), (1, CALL, number, given, "a.b")], VERSION)
            )
            while True:
                heard = await door.hear()
                if heard.kind == SPLICE:
                    return 0, None
                if heard.kind == SHAPE:
                    statuses[heard.number] = int(heard.data.split()[1])
                if heard.kind == ANSWER:
                    return statuses[heard.extra >> SHAPE_BITS], json.loads(heard.data)

        yield world, ask
        nursery.cancel_scope.cancel()


async def test_a_token_is_needed_and_its_role():
    looks = NamedToken("look")
    looks.name, looks.role = "reader", "read"
    async with asking(auth_tokens=("secret", looks)) as (world, ask):
        for _ in range(2):
            assert (await ask(PUSH))[0] == 401
            assert (await ask(PUSH, token="wrong"))[0] == 401
            assert (await ask(PUSH, token="look"))[0] == 403
            assert (await ask(PUSH, token="secret"))[0] == 200
        assert world.counts() == (2, 0)


async def test_a_client_has_its_rate_limit():
    async with asking(rate_limit_max_requests=2) as (world, ask):
        assert [(await ask(PUSH))[0] for _ in range(4)] == [200, 200, 429, 429]
        assert world.counts() == (2, 0)


async def test_an_act_is_noted_with_the_address_of_the_client():
    async with asking() as (_, ask):
        assert (await ask(request_bytes("POST", "/queues/q/pause", b"{}")))[0] == 200
        _, found = await ask(request_bytes("GET", "/actions"))
        assert "a.b" in json.dumps(found)


async def test_who_pulls_without_a_name_has_that_of_its_address():
    async with asking() as (world, ask):
        await ask(PUSH)
        assert (await ask(request_bytes("GET", "/queues/q/jobs")))[1]["job"] is not None
        _, found = await ask(request_bytes("GET", "/workers"))
        assert world.counts() == (0, 1)
        assert "@a.b" in json.dumps(found)


async def test_an_answer_waits_for_its_commit_and_that_for_nobody(autojump_clock: trio.testing.MockClock):
    async with asking() as (_, ask):
        began = trio.current_time()
        assert (await ask(PUSH))[0] == 200
        assert (await ask(request_bytes("GET", "/queues/q/jobs")))[0] == 200
        assert (await ask(PUSH))[0] == 200
        assert trio.current_time() == began


@pytest.mark.parametrize("body", [b'{"data":', b""])
async def test_what_is_wrong_is_said(body: bytes):
    async with asking() as (world, ask):
        assert (await ask(PUSH, body=body))[0] == 400
        assert world.counts() == (0, 0)


async def test_an_overloaded_leader_reads_no_body(monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Journal, size: int = 0, *, fills: bool = True) -> None:
        raise errors.OVERLOADED.refuse(retry_after=1)

    async with asking() as (_, ask):
        monkeypatch.setattr(Journal, "check", refuse)
        assert (await ask(PUSH, body=b"no JSON"))[0] == 503


async def test_a_large_request_waits_its_turn_elsewhere(monkeypatch: pytest.MonkeyPatch):
    async with asking() as (world, ask):
        monkeypatch.setattr(Journal, "must_wait", lambda *_: True)
        assert (await ask(PUSH))[0] == 200
        assert (await ask(PUSH, body=b'{"data":"%s"}' % (b"x" * SMALL_BODY_BYTES)))[0] == 0
        assert world.counts() == (1, 0)


async def heads_of(world: World, requests: list[bytes]) -> list[tuple[bytes, Any]]:
    """Ask all in one frame; return the head of each answer, as a door makes it, and its body."""
    door, shapes, found = Raw(world), dict[int, bytes](), dict[int, tuple[bytes, Any]]()
    await door.stream.send_all(pack(0, HERE, VERSION))
    await door.hear()
    said, last = list[Said](), b""
    for number, request in enumerate(requests):
        head, _, body = request.partition(b"\r\n\r\n")
        if head != last:
            last = head
            said.append((0, HEAD, 0, head + b"\r\n\r\n", ""))
        said.append((number, CALL, 0, body, "a.b"))
    await door.stream.send_all(pack_all(said, VERSION))
    while len(found) < len(requests):
        heard = await door.hear()
        if heard.kind == SHAPE:
            shapes[heard.number] = heard.data
        else:
            found[heard.number] = shapes[heard.extra >> SHAPE_BITS], json.loads(heard.data)
    return [found[number] for number in range(len(requests))]


async def test_a_frame_has_one_commit(autojump_clock: trio.testing.MockClock):
    async with asking() as (world, _):
        before = world.server.journal.commits
        answers = await heads_of(world, [PUSH] * 100)
        assert len({body["id"] for _, body in answers}) == 100
        assert world.server.journal.commits == before + 1
        assert world.server.core.meters.by_command[Push].count == 100


async def test_each_answer_of_a_frame_has_its_own_head(monkeypatch: pytest.MonkeyPatch):
    """Also where each head that the door has not heard of takes the number of the one before."""
    monkeypatch.setattr("bunqueue_trio.doors.known.HEADS_KEPT", 1)
    pushes = [PUSH.replace(b"\r\n\r\n", b"\r\nOrigin: http://%b\r\n\r\n" % name) for name in (b"a", b"a", b"b", b"a")]
    broken = request_bytes("POST", "/queues/q/jobs", b'{"data":')
    async with asking(cors_allow_origin=("http://a", "http://b")) as (world, _):
        answers = await heads_of(world, [*pushes, broken, pushes[2], pushes[0]])
        origins = [head.lower().partition(b"access-control-allow-origin: ")[2][:8] for head, _ in answers]
        assert origins == [b"http://" + name for name in (b"a", b"a", b"b", b"a")] + [b"", b"http://b", b"http://a"]
        assert [head.split()[1] for head, _ in answers] == [b"200"] * 4 + [b"400"] + [b"200"] * 2


async def test_an_answer_behind_a_refusal_has_its_own_head(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.doors.known.HEADS_KEPT", 1)
    named = request_bytes("POST", "/queues/q/jobs", b'{"data":1,"jobId":"x"}')
    async with asking() as (world, _):
        answers = await heads_of(
            world, [named, request_bytes("DELETE", "/jobs/x"), request_bytes("GET", "/jobs/x"), PUSH]
        )
        assert [int(head.split()[1]) for head, _ in answers] == [200, 200, 404, 200]
