"""Streams of events in virtual time: slow readers, gaps, buffers and pieces."""

import json
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from bunqueue_trio.api.event_stream import EventFeed
from bunqueue_trio.config import (
    MIB,
    RECEIVE_BYTES,
    SSE_COMMENT_S,
)
from bunqueue_trio.errors import StoreDamaged, StoreError
from bunqueue_trio.protocol.commands import Push
from bunqueue_trio.runtime import hub
from tests.stream.stream_world import World
from tests.stream.stream_world import world as world


async def test_events_that_do_not_fit_are_counted_and_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "READER_EVENTS_MAX", 3)
    with world.session("q") as slow, world.session("other") as pusher:
        for n in range(10):
            await world.ask(pusher, "PUSH", queue="q", data=n)
        messages = [json.loads(m) for m in slow.outgoing()]
        assert [m.get("data") for m in messages] == [0, 1, 2, None]
        assert messages[-1]["missedEvents"] == 7
        await world.ask(pusher, "PUSH", queue="q", data=10)
        assert [json.loads(m)["data"] for m in slow.outgoing()] == [10]


# --- streams of events ----------------------------------------------------------------------------


async def test_an_idle_stream_says_something_now_and_then(world: World) -> None:
    stream = EventFeed(world.server, None, None)
    assert b'"connected":true' in await anext(stream)
    for n in range(1, 4):
        assert await anext(stream) == b": keep-alive\n\n"
        assert trio.current_time() == pytest.approx(n * SSE_COMMENT_S)
    await stream.aclose()


async def test_a_stream_whose_buffer_overflows_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "READER_EVENTS_MAX", 3)
    stream = EventFeed(world.server, None, None)
    await anext(stream)
    with world.session("other") as pusher:
        for n in range(10):
            await world.ask(pusher, "PUSH", queue="q", data=n)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await stream.aclose()
    assert world.server.connections.sse == 0
    again = EventFeed(world.server, None, 0)
    await anext(again)
    assert (await anext(again)).count(b"data: ") == 10
    await again.aclose()


async def test_a_stream_is_sent_in_pieces(world: World) -> None:
    """Each has its time to be taken: a reader of much is not cut for the length of what there is."""
    stream = EventFeed(world.server, None, None)
    await anext(stream)
    with world.session("other") as pusher:
        for _ in range(40):
            await world.ask(pusher, "PUSH", queue="q", data="x" * 10_000)
    count, pieces = 0, 0
    while count < 40:
        piece = await anext(stream)
        assert len(piece) < RECEIVE_BYTES + 11_000  # one event may be begun
        count, pieces = count + piece.count(b"data: "), pieces + 1
    assert pieces > 5
    await stream.aclose()


async def test_what_readers_do_not_take_is_inside_the_budget(world: World) -> None:
    """Readers that come back for much and read none of it: each holds a piece of it, and all of them so much."""
    core, buffers = world.server.core, world.server.buffers
    for _ in range(8):
        await core.execute(Push(queue="q", data=Raw(b'"%s"' % (b"x" * (MIB // 2)))))
    buffers.hold().grow(world.server.settings.buffers_max_bytes - 3 * MIB)
    before = buffers.held
    streams = [EventFeed(world.server, None, 0) for _ in range(3)]
    held = []
    for stream in streams:
        await anext(stream)
        with suppress(StopAsyncIteration):
            held.append(len(await anext(stream)))
    assert all(MIB <= size < 2 * MIB for size in held)
    assert buffers.held - before == sum(held) <= 3 * MIB
    assert len(held) == 2, "the third one is ended, and comes back"
    for stream in streams:
        await stream.aclose()
    assert buffers.held == before


class Damaged:
    """A store whose events up to one, from another one on, lie on a page that cannot be read."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, begin: int, end: int) -> None:
        store = world.server.store
        whole, first = store.events_after, store.first_event_id

        def events_after(event_id: int, limit: int) -> Any:
            found = whole(event_id, limit)
            if any(begin <= number <= end for number, _ in found):
                raise StoreDamaged("malformed")
            return found

        def first_event_id() -> int:
            if begin == 1:
                raise StoreDamaged("malformed")
            return first()

        monkeypatch.setattr(store, "events_after", events_after)
        monkeypatch.setattr(store, "first_event_id", first_event_id)


@pytest.mark.parametrize("how", ["behind an event", "of some time"])
@pytest.mark.parametrize(("begin", "end"), [(1, 3), (4, 7), (9, 12)])
@pytest.mark.parametrize("together", [1, 500])
async def test_what_lies_on_a_damaged_page_is_said_to_be_missing_and_the_stream_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, begin: int, end: int, how: str, together: int
) -> None:
    """To come back with the last id would bring the reader to the same page, for ever."""
    monkeypatch.setattr(hub, "REPLAY_EVENTS", together)
    with world.session("other") as pusher:
        for n in range(12):
            await world.ask(pusher, "PUSH", queue="q", data=n)
        Damaged(world, monkeypatch, begin, end)
        stream = EventFeed(world.server, None, 0 if how == "behind an event" else None, since=0)
        heard: list[dict[str, Any]] = []
        ids: list[int] = []

        async def hear() -> None:
            for line in (await anext(stream)).splitlines():
                if line.startswith(b"data: "):
                    heard.append(json.loads(line[6:]))
                elif line.startswith(b"id: "):
                    ids.append(int(line[4:]))

        while not ids or ids[-1] < 12:
            await hear()
        await world.ask(pusher, "PUSH", queue="q", data=12)
        await hear()
        await stream.aclose()
    (gap,) = [each for each in heard if "gap" in each]
    assert gap["damaged"]
    assert gap["after"] == begin - 1
    assert end < gap["oldest"] <= min(13, end + (end - begin) + 2), "not much more is left out"
    there = [each["data"] + 1 for each in heard if "data" in each]
    assert there == [*range(1, begin), *range(gap["oldest"], 14)]
    assert ids == sorted(ids)


async def test_retention_that_overtakes_a_replay_is_a_gap(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "REPLAY_EVENTS", 2)
    with world.session("other") as pusher:
        for n in range(10):
            await world.ask(pusher, "PUSH", queue="q", data=n)
    stream = EventFeed(world.server, None, 1)
    await anext(stream)
    assert b"id: 2\n" in await anext(stream)
    monkeypatch.setattr(world.server.store, "first_event_id", lambda: 8)
    assert await anext(stream) == b'id: 7\ndata: {"gap":true,"after":3,"oldest":8,"newest":10}\n\n'
    assert (await anext(stream)).startswith(b"id: 8\n")
    await stream.aclose()


@pytest.mark.parametrize("moment", [0, 1])
async def test_a_disk_that_cannot_be_read_ends_the_stream_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, logs: list[Any], moment: int
) -> None:
    with world.session("other") as pusher:
        await world.ask(pusher, "PUSH", queue="q", data=1)
    stream = EventFeed(world.server, None, 0)
    for _ in range(moment):
        await anext(stream)

    def unreadable() -> int:
        raise StoreError("no")

    with monkeypatch.context() as blind:
        blind.setattr(world.server.store, "first_event_id", unreadable)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    await stream.aclose()
    assert [entry["event"] for entry in logs] == ["read failed"]
    assert world.server.connections.sse == 0
    again = EventFeed(world.server, None, 0)
    await anext(again)
    assert b'"eventType":"pushed"' in await anext(again)
    await again.aclose()


async def test_a_payload_of_many_lines_is_one_line(world: World) -> None:
    stream = EventFeed(world.server, None, None)
    await anext(stream)
    with world.session("other") as pusher:
        pusher.receive(b'{"cmd":"PUSH","queue":"q","data":{\r\n"a":\n1,\r"b":"\\n"}}', world.nursery)
    chunk = await anext(stream)
    assert chunk.count(b"\n") == 3
    assert b'"data":{  "a": 1, "b":"\\n"}' in chunk
    await stream.aclose()


async def read(stream: EventFeed, events: int) -> list[Any]:
    """The ids of the first events, or the notice of a gap."""
    found: list[Any] = []
    while len(found) < events:
        for message in (await anext(stream)).split(b"\n\n"):
            if b'"gap"' in message:
                found.append(json.loads(message.partition(b"data: ")[2]))
            elif b'"eventType"' in message:
                found.append(int(message[4:].partition(b"\n")[0]))
    await stream.aclose()
    return found


@pytest.mark.parametrize("ago", [12, *(pytest.param(n, marks=pytest.mark.thorough) for n in (0, 1, 24, 999))])
async def test_a_reader_gets_what_happened_since_a_time_and_then_what_happens(
    world: World, monkeypatch: pytest.MonkeyPatch, ago: int
) -> None:
    """However much there was before; and it hears when what it asks for may be kept no more."""
    monkeypatch.setattr(hub, "REPLAY_EVENTS", 3)
    with world.session("other") as pusher:
        await trio.sleep(600)
        for n in range(24):
            await world.ask(pusher, "PUSH", queue="q", data=n)
            await trio.sleep(60)
        since = world.server.clock.now() - ago * 60_000
        assert await read(EventFeed(world.server, None, None, since=since), min(ago, 24)) == [
            *range(25 - min(ago, 24), 25)
        ]
        asked = len(calls := [0])
        events_after = world.server.store.events_after

        def counted(after: int, limit: int) -> Any:
            calls.append(after)
            return events_after(after, limit)

        monkeypatch.setattr(world.server.store, "events_after", counted)
        await world.server.hub.place_of(since)
        assert len(calls) - asked <= 6
        monkeypatch.setattr(world.server.store, "first_event_id", lambda: 13)
        is_gone = ago > 11
        told = await read(EventFeed(world.server, None, None, since=since), min(ago, 12) + is_gone)
        if is_gone:
            assert told.pop(0) == {"gap": True, "after": 0, "oldest": 13, "newest": 24}
        assert told == [*range(25 - min(ago, 12), 25)]
        # Who comes back goes on where it was.
        assert await read(EventFeed(world.server, None, 22, since=since), 2) == [23, 24]
