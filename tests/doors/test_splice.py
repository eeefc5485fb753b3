"""What a door passes on, and how it ends: every byte, both ends, and nobody waits for ever. In virtual time."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing

from bunqueue_trio.config import RECEIVE_BYTES, WRITE_TIMEOUT_S
from bunqueue_trio.doors.splice import _AFTERWARDS_S, splice
from bunqueue_trio.transports.wire import make_buffer

Pair = Any


class Ends(NamedTuple):
    """The outer ends of a splice, and whether it is over."""

    client: trio.abc.Stream
    leader: trio.abc.Stream
    over: trio.Event


@asynccontextmanager
async def spliced(
    make: Pair = trio.testing.memory_stream_pair, unread: bytes = b"", client: Any = None, lost: bytes = b""
) -> AsyncIterator[Ends]:
    ours, its = make() if client is None else (client, client)
    leader, to_leader = make()
    over = trio.Event()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await splice(its, to_leader, make_buffer(), unread, lost)
        finally:
            await trio.aclose_forcefully(its)
            await trio.aclose_forcefully(to_leader)
            over.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield Ends(ours, leader, over)
        with trio.fail_after(1000):
            await over.wait()


async def everything(stream: trio.abc.Stream) -> bytes:
    data = b""
    while more := await stream.receive_some(RECEIVE_BYTES):
        data += bytes(more)
    return data


async def test_both_sides_get_all_bytes_and_both_ends(autojump_clock: trio.testing.MockClock):
    large = bytes(range(256)) * 4096
    async with spliced(unread=b"first ") as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ends.client.send_all, large)
        got = b""
        while len(got) < len(large) + 6:
            got += bytes(await ends.leader.receive_some(1000))
        assert got == b"first " + large
        await ends.client.send_eof()  # type: ignore[attr-defined]
        assert await ends.leader.receive_some(1) == b""
        await ends.leader.send_all(b"the answer to it comes after the client's end")
        await ends.leader.aclose()
        assert await everything(ends.client) == b"the answer to it comes after the client's end"
        await ends.over.wait()


async def test_the_last_word_of_the_leader_is_heard_while_the_client_still_sends(
    autojump_clock: trio.testing.MockClock,
):
    async with spliced() as ends:
        begun = trio.current_time()
        await ends.client.send_all(b"too much")
        await ends.leader.send_all(b"no more of it")
        await ends.leader.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await ends.client.send_all(b"and more")
        assert await everything(ends.client) == b"no more of it"
        assert trio.current_time() - begun < 1, "the end is seen at once"
        await ends.over.wait()
        assert trio.current_time() - begun <= _AFTERWARDS_S


async def test_a_client_that_takes_nothing_stops_the_leader_and_is_left_when_its_time_is_over(
    autojump_clock: trio.testing.MockClock,
):
    async with spliced(trio.testing.lockstep_stream_pair) as ends:
        sent = 0
        begun = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - until it is cut off
            while True:
                await ends.leader.send_all(b"x" * RECEIVE_BYTES)
                sent += RECEIVE_BYTES
        assert sent <= RECEIVE_BYTES, "no more than one read is kept"
        assert trio.current_time() - begun == WRITE_TIMEOUT_S


async def test_a_leader_that_reads_nothing_stops_the_client(autojump_clock: trio.testing.MockClock):
    async with spliced(trio.testing.lockstep_stream_pair) as ends:
        sent = 0
        with trio.move_on_after(10_000):
            while True:
                await ends.client.send_all(b"x" * RECEIVE_BYTES)
                sent += RECEIVE_BYTES
        assert sent <= RECEIVE_BYTES
        assert not ends.over.is_set(), "when a client is late is for the leader to say"
        await ends.leader.aclose()


class Reset(trio.abc.HalfCloseableStream):
    """A client that goes without a goodbye."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(self._after_s)
        raise trio.BrokenResourceError("reset")

    async def send_all(self, data: Any) -> None:
        raise trio.BrokenResourceError("reset")

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def send_eof(self) -> None:
        raise trio.BrokenResourceError("reset")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_the_leader_sees_the_end_of_a_client_that_is_gone(autojump_clock: trio.testing.MockClock):
    async with spliced(client=Reset(3)) as ends:
        assert await everything(ends.leader) == b""
        assert trio.current_time() == pytest.approx(3, abs=0.01)
    async with spliced(client=Reset(600)) as ends:
        await ends.leader.send_all(b"x")
        assert await everything(ends.leader) == b"", "also when it is found out by writing"


async def test_a_leader_that_has_closed_is_not_waited_for(autojump_clock: trio.testing.MockClock):
    """Between two processes of one machine the end of both directions can be distinguished from that of one."""
    ours, its = trio.testing.memory_stream_pair()
    leader, to_leader = (trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in socket.socketpair())
    await leader.send_all(b"bye")
    await leader.aclose()
    begun = trio.current_time()
    await splice(its, to_leader, make_buffer())
    assert trio.current_time() == begun
    assert await ours.receive_some(10) == b"bye"
    await trio.aclose_forcefully(to_leader)


LOST = b"HTTP/1.1 503 x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "asks_again", "heard"),
    [
        (b"", False, LOST),
        (ANSWER, False, ANSWER),
        (ANSWER, True, ANSWER + LOST),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", True, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (b"HTTP/1.1 413 x\r\nConnection: close\r\n\r\n", True, b"HTTP/1.1 413 x\r\nConnection: close\r\n\r\n"),
    ],
)
async def test_who_has_no_answer_of_a_leader_that_is_lost_gets_an_error(
    autojump_clock: trio.testing.MockClock, said: bytes, asks_again: bool, heard: bytes
):
    async with spliced(lost=LOST) as ends:
        await ends.client.send_all(b"POST / HTTP/1.1\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        if said:
            await ends.leader.send_all(said)
            await trio.testing.wait_all_tasks_blocked()
        if asks_again:
            await ends.client.send_all(b"again")
            await trio.testing.wait_all_tasks_blocked()
        await ends.leader.aclose()
        assert await everything(ends.client) == heard
