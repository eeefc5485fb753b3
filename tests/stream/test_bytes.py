"""The bytes of one connection, on real sockets."""

import ssl

import pytest
import trio.testing

from bunqueue_trio.transports.tls import TlsStream
from bunqueue_trio.transports.wire import Wire, address_of, make_buffer


async def _pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


async def test_a_wire_that_has_been_closed_says_so_however_it_was_read_before() -> None:
    for waited in (False, True):
        ours, theirs = await _pair()
        wire = Wire(ours, make_buffer())
        await theirs.send_all(b"x")
        assert await wire.receive() == b"x"
        if waited:  # nothing there: the next reads begin by waiting
            with trio.move_on_after(0.01):
                await wire.receive()
        await ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await wire.receive()
        await theirs.aclose()


@pytest.mark.parametrize("unread", [b"", b"the next request"])
async def test_what_is_unread_is_no_end_and_hides_none(unread: bytes) -> None:
    ours, theirs = await _pair()
    wire = Wire(ours, make_buffer())
    assert not wire.is_readable()
    await theirs.send_all(unread)
    assert (wire.is_readable(), wire.has_ended()) == (bool(unread), False)
    await theirs.send_eof()
    assert (wire.is_readable(), wire.has_ended()) == (True, True)
    await ours.aclose()
    assert (wire.is_readable(), wire.has_ended()) == (False, False)
    await theirs.aclose()


async def test_wires_share_a_buffer_and_not_what_they_have_read() -> None:
    buffer = make_buffer()
    (one, to_one), (two, to_two) = await _pair(), await _pair()
    await to_one.send_all(b"first")
    await to_two.send_all(b"second")
    first = await Wire(one, buffer).receive()
    assert await Wire(two, buffer).receive(3) == b"sec"
    assert first == b"first"
    for stream in (one, two, to_one, to_two):
        await stream.aclose()


async def test_a_connection_tells_who_is_at_its_other_end() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with (
        listener,
        await trio.testing.open_stream_to_socket_listener(listener),
        await listener.accept() as accepted,
    ):
        assert address_of(accepted) == "127.0.0.1"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert address_of(TlsStream(accepted, context, server_side=True)) == "127.0.0.1"
    assert address_of(accepted) == "unknown"
    ours, theirs = await _pair()
    async with ours, theirs:
        assert address_of(ours) == "unix"
    one, _ = trio.testing.memory_stream_pair()
    assert address_of(one) == "unknown"
