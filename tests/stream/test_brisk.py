"""The socket below TLS: what it sends and reads, when it lets others run, and how it ends."""

import socket
import ssl
import struct

import pytest
import trio
import trio.lowlevel
import trustme

from bunqueue_trio.transports.brisk import Brisk, BriskListener, socket_of
from bunqueue_trio.transports.tls import TlsListener, handshake_turns
from bunqueue_trio.transports.wire import Wire, address_of, make_buffer

LARGE = bytes(range(256)) * 8192


async def pair() -> tuple[Brisk, Brisk]:
    buffer = make_buffer()
    ours, theirs = (Brisk(trio.SocketStream(end), buffer) for end in trio.socket.socketpair())
    return ours, theirs


class Steps(trio.abc.Instrument):
    """Counts the steps of the task that makes it."""

    def __init__(self) -> None:
        self.count = 0
        self._own = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._own


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    read = bytearray()
    while data := await stream.receive_some():
        read += data
    return bytes(read)


@pytest.mark.parametrize("data", [b"small", LARGE[:30_000], LARGE], ids=len)
async def test_what_is_sent_arrives_whole_however_slowly_it_is_taken(data: bytes) -> None:
    ours, theirs = await pair()
    ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    async def send() -> None:
        for _ in range(3):
            await ours.send_all(data)
        await ours.send_eof()

    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.lowlevel.checkpoint()
        assert await read_all(theirs) == data * 3


async def test_others_run_once_for_each_read_and_for_what_is_large() -> None:
    ours, theirs = await pair()
    async with ours, theirs:
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        for _ in range(5):
            await ours.send_all(b"small")
        assert steps.count == 0
        assert await theirs.receive_some(5) == b"small"
        assert steps.count == 1
        await ours.send_all(LARGE[:40_000])
        assert steps.count > 1
        trio.lowlevel.remove_instrument(steps)


async def test_two_that_share_a_buffer_do_not_share_what_they_read() -> None:
    ours, theirs = await pair()
    async with ours, theirs:
        await ours.send_all(b"there")
        await theirs.send_all(b"back")
        there = await theirs.receive_some()
        assert await ours.receive_some() == b"back"
        assert there == b"there"


async def test_its_ends_are_said_as_those_of_any_stream() -> None:
    ours, theirs = await pair()
    await theirs.send_all(b"the last")
    await theirs.aclose()
    assert await read_all(ours) == b"the last"
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"too late")
    await ours.aclose()
    for ask in (ours.receive_some, lambda: ours.send_all(b"x")):
        with pytest.raises(trio.ClosedResourceError):
            await ask()


async def test_a_client_that_resets_the_connection_has_broken_it() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        accepted = await BriskListener(listener, make_buffer()).accept()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await accepted.receive_some()
        await accepted.aclose()


async def test_a_read_ends_when_this_end_is_closed_meanwhile() -> None:
    ours, theirs = await pair()
    async with theirs, trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()


async def test_tls_goes_over_it_and_who_is_there_is_known() -> None:
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    secure = TlsListener(BriskListener(listener, make_buffer()), context, handshake_turns())

    async def echo() -> None:
        stream = await secure.accept()
        assert (address_of(stream), socket_of(stream) is not None) == ("127.0.0.1", True)
        wire = Wire(stream, make_buffer())
        while data := await wire.receive():
            await wire.send(data)
        assert wire.has_ended()
        await stream.aclose()

    async with secure, trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        bare = await trio.open_tcp_stream(*listener.socket.getsockname())
        client = trio.SSLStream(bare, trusting, server_hostname="127.0.0.1", https_compatible=True)
        for data in (b"small", LARGE):
            nursery.start_soon(client.send_all, data)
            read = b""
            while len(read) < len(data):
                read += await client.receive_some()
            assert read == data
        await client.aclose()
