"""What a server answers while another one leads its store."""

import json

import pytest
import trio
import trio.testing

from bunqueue_trio.config import WAITING_ROOM_ASKING, WAITING_ROOM_S, Settings
from bunqueue_trio.errors import StartupError
from bunqueue_trio.transports.waiting_room import _serve, waiting_room


async def asked(request: bytes, *, ends: bool = True) -> bytes:
    """What comes back, up to the end of the connection."""
    mine, its = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve, trio.CapacityLimiter(1), its)
        await mine.send_all(request)
        if ends:
            await mine.send_eof()
        answer = b""
        while more := await mine.receive_some(65536):
            answer += more
    return answer


async def test_it_lives_and_can_do_nothing():
    alive = await asked(b"GET /healthz?x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert alive.startswith(b"HTTP/1.1 200 OK\r\n")
    assert alive.endswith(b"\r\n\r\nOK")
    assert (await asked(b"GET /live HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\nOK")
    assert (await asked(b"HEAD /healthz HTTP/1.1\r\n\r\n")).endswith(b"Connection: close\r\n\r\n")
    for request in (
        b"GET /ready HTTP/1.1\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\n\r\n",
        b"\x16\x03\r\n\r\n",
        b"x" * 20_000,
    ):
        head, _, body = (await asked(request)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Content-Length: %d" % len(body) in head
        assert json.loads(body)["code"] == "standby"
    assert (await asked(b"HEAD / HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")


async def test_who_says_nothing_or_half_of_it_is_left_alone(autojump_clock: trio.testing.MockClock):
    assert await asked(b"") == await asked(b"GET / HT") == b""
    begun = trio.current_time()
    assert await asked(b"GET / HT", ends=False) == b""
    assert trio.current_time() - begun == WAITING_ROOM_S


async def test_who_comes_while_many_ask_waits_a_while(autojump_clock: trio.testing.MockClock):
    asking = trio.CapacityLimiter(WAITING_ROOM_ASKING)
    streams = [trio.testing.memory_stream_pair() for _ in range(WAITING_ROOM_ASKING + 1)]
    async with trio.open_nursery() as nursery:
        for _, its in streams:
            nursery.start_soon(_serve, asking, its)
        await trio.testing.wait_all_tasks_blocked()
        assert asking.statistics().tasks_waiting == 1
    for mine, _ in streams:
        assert await mine.receive_some(1) == b""


async def test_who_goes_before_the_answer_does_no_harm():
    mine, its = trio.testing.memory_stream_pair()
    await mine.send_all(b"GET / HTTP/1.1\r\n\r\n")
    await mine.aclose()
    await _serve(trio.CapacityLimiter(1), its)


async def test_an_address_that_is_taken_is_told(nursery: trio.Nursery, tmp_path):
    settings = Settings(bind=("127.0.0.1:0", f"unix:{tmp_path}/s"))
    await nursery.start(waiting_room, settings)
    with pytest.raises(StartupError, match="cannot listen"):
        await waiting_room(Settings(bind=(f"unix:{tmp_path}/s",)))
    async with await trio.open_unix_socket(f"{tmp_path}/s") as stream:
        await stream.send_all(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200")
    nursery.cancel_scope.cancel()
