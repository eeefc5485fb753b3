"""TLS: what a connection may make the server do in one step, how many handshakes there are in a round, what an answer takes."""

import ctypes
import ctypes.util
import ssl
from collections.abc import Callable

import pytest
import trio
import trio.testing
import trustme

from bunqueue_trio.config import (
    HANDSHAKES_A_ROUND,
    RECEIVE_BYTES,
    RECORDS_A_STEP,
    RECORDS_WITHOUT_DATA_MAX,
    TLS_SEND_BYTES,
)
from bunqueue_trio.transports.tls import TlsStream, handshake_turns

# A change of keys, encrypted, and the answer to it.
_KEY_UPDATE_BYTES = 27
_ANSWERED = 1
_NAMES = {name: ctypes.util.find_library(name) for name in ("ssl", "crypto")}


class _Bare(trio.abc.Stream):
    """Bytes from and to a client, in memory; it notes the sizes of what is sent in one step."""

    def __init__(self) -> None:
        self.send_in, self._receive = trio.open_memory_channel[bytes](100)
        self.sent: list[bytes] = []
        self.has_sent = trio.Event()
        self.is_stuck = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(bytes(data))
        self.has_sent.set()
        if self.is_stuck:
            await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def take(self) -> bytes:
        """Return what was sent since the last time, once there is something."""
        while not self.sent:
            self.has_sent = trio.Event()
            await self.has_sent.wait()
        taken, self.sent = b"".join(self.sent), []
        return taken


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(made)
    return made


class _Client:
    """The usual client, byte for byte."""

    def __init__(self, authority: trustme.CA) -> None:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(trusting)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trusting.wrap_bio(self._in, self._out, server_hostname="localhost")

    def hello(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._out.read()

    def finish(self, answer: bytes) -> bytes:
        self._in.write(answer)
        self._tls.do_handshake()
        return self._out.read()

    def encrypt(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._out.read()

    def decrypt(self, data: bytes) -> bytes:
        self._in.write(data)
        parts = []
        while True:
            try:
                parts.append(self._tls.read(RECEIVE_BYTES))
            except ssl.SSLWantReadError:
                return b"".join(parts)


class _Flooder:
    """A client that changes its keys as often as it likes, which Python's `ssl` does not."""

    def __init__(self) -> None:
        self._ssl, self._crypto = (ctypes.CDLL(name) for name in _NAMES.values())
        pointer = ctypes.c_void_p
        for library, name in (
            (self._ssl, "TLS_client_method"), (self._ssl, "SSL_CTX_new"), (self._ssl, "SSL_new"), (self._crypto, "BIO_new"), (self._crypto, "BIO_s_mem"),
        ):  # fmt: skip
            getattr(library, name).restype = pointer
        made = pointer(self._ssl.SSL_CTX_new(pointer(self._ssl.TLS_client_method())))
        self._tls = pointer(self._ssl.SSL_new(made))
        self._in, self._out = (pointer(self._crypto.BIO_new(pointer(self._crypto.BIO_s_mem()))) for _ in range(2))
        self._ssl.SSL_set_bio(self._tls, self._in, self._out)
        self._ssl.SSL_set_connect_state(self._tls)

    def _read(self) -> bytes:
        buffer = ctypes.create_string_buffer(1 << 16)
        count = self._crypto.BIO_read(self._out, buffer, len(buffer))
        return buffer.raw[: max(0, count)]

    def hello(self) -> bytes:
        assert self._ssl.SSL_do_handshake(self._tls) != 1
        return self._read()

    def finish(self, answer: bytes) -> bytes:
        self._crypto.BIO_write(self._in, answer, len(answer))
        assert self._ssl.SSL_do_handshake(self._tls) == 1
        return self._read()

    def encrypt(self, data: bytes) -> bytes:
        assert self._ssl.SSL_write(self._tls, data, len(data)) == len(data)
        return self._read()

    def update_keys(self, count: int) -> bytes:
        for _ in range(count):
            assert self._ssl.SSL_key_update(self._tls, _ANSWERED) == 1
            assert self._ssl.SSL_do_handshake(self._tls) == 1
        return self._read()


async def _connect(
    client: _Client | _Flooder, context: ssl.SSLContext, nursery: trio.Nursery
) -> tuple[_Bare, TlsStream]:
    bare = _Bare()
    stream = TlsStream(bare, context, server_side=True, turns=handshake_turns())
    nursery.start_soon(stream.do_handshake)
    await bare.send_in.send(client.hello())
    await bare.send_in.send(client.finish(await bare.take()))
    await trio.testing.wait_all_tasks_blocked()
    bare.sent.clear()
    return bare, stream


needs_openssl = pytest.mark.skipif(None in _NAMES.values(), reason="no OpenSSL is found by its name")


@needs_openssl
async def test_a_flood_of_changed_keys_is_worked_off_some_at_a_time_and_ends_the_connection(
    context: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    client = _Flooder()
    bare, stream = await _connect(client, context, nursery)
    await bare.send_in.send(client.update_keys(2000))
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    # Each is answered: what goes out in one step is what was done in it. The first one brings the tickets, too.
    answers = [len(sent) // _KEY_UPDATE_BYTES for sent in bare.sent[1:]]
    assert len(bare.sent) <= RECORDS_WITHOUT_DATA_MAX // RECORDS_A_STEP
    assert all(count <= RECORDS_A_STEP for count in answers)


@needs_openssl
async def test_a_client_may_change_its_keys_now_and_then(context: ssl.SSLContext, nursery: trio.Nursery) -> None:
    client = _Flooder()
    bare, stream = await _connect(client, context, nursery)
    for _ in range(2 * RECORDS_WITHOUT_DATA_MAX):
        await bare.send_in.send(client.update_keys(1) + client.encrypt(b"x"))
        assert await stream.receive_some() == b"x"
    await bare.send_in.send(client.update_keys(RECORDS_WITHOUT_DATA_MAX // 2) + client.encrypt(b"end"))
    assert await stream.receive_some() == b"end"


@needs_openssl
async def test_a_little_data_between_changes_of_keys_does_not_make_up_for_many(
    context: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    client = _Flooder()
    bare, stream = await _connect(client, context, nursery)
    for _ in range(RECORDS_WITHOUT_DATA_MAX):
        await bare.send_in.send(client.update_keys(4) + client.encrypt(b"x"))
    with pytest.raises(trio.BrokenResourceError):
        await _read_on(stream)


@pytest.mark.parametrize("piece", [1, 7, 1000, RECEIVE_BYTES])
async def test_records_of_all_sizes_come_whole_however_they_are_cut(
    authority: trustme.CA, context: ssl.SSLContext, nursery: trio.Nursery, piece: int
) -> None:
    client = _Client(authority)
    bare, stream = await _connect(client, context, nursery)
    texts = [b"a" * size for size in (1, 2, 30)] * 14 + ([b"b" * 500] if piece < 10 else [b"c" * 16384] * 9)
    sent = b"".join(client.encrypt(text) for text in texts)
    whole = b"".join(texts)
    nursery.start_soon(_send_pieces, bare, sent, piece)
    got = b""
    while len(got) < len(whole):
        got += await stream.receive_some()
    assert got == whole


async def _read_on(stream: TlsStream) -> None:
    while await stream.receive_some():
        pass


async def _send_pieces(bare: _Bare, sent: bytes, piece: int) -> None:
    for start in range(0, len(sent), piece):
        await bare.send_in.send(sent[start : start + piece])


async def test_an_answer_is_encrypted_part_by_part_and_no_more_of_it_is_held(
    authority: trustme.CA, context: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    client = _Client(authority)
    bare, stream = await _connect(client, context, nursery)
    whole = bytes(range(256)) * 2000
    await stream.send_all(whole)
    assert client.decrypt(b"".join(bare.sent)) == whole
    bare.sent.clear()
    bare.is_stuck = True
    nursery.start_soon(stream.send_all, whole)
    await trio.testing.wait_all_tasks_blocked()
    # Each record takes a little more.
    assert sum(map(len, bare.sent)) <= TLS_SEND_BYTES + 1024
    nursery.cancel_scope.cancel()


async def test_nothing_to_send_sends_nothing(
    authority: trustme.CA, context: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    bare, stream = await _connect(_Client(authority), context, nursery)
    await stream.send_all(b"")
    assert not bare.sent


async def test_of_many_handshakes_some_go_on_in_each_round(
    authority: trustme.CA, context: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    turns = handshake_turns()
    clients = [_Client(authority) for _ in range(5 * HANDSHAKES_A_ROUND)]
    bares = [_Bare() for _ in clients]
    rounds: list[int] = []
    answered: Callable[[], int] = lambda: sum(bool(bare.sent) for bare in bares)  # noqa: E731
    for client, bare in zip(clients, bares, strict=True):
        bare.send_in.send_nowait(client.hello())
        stream = TlsStream(bare, context, server_side=True, turns=turns)
        nursery.start_soon(stream.do_handshake)
    while not rounds or rounds[-1] < len(bares):
        await trio.lowlevel.checkpoint()
        rounds.append(answered())
    assert max(after - before for before, after in zip([0, *rounds], rounds, strict=False)) <= HANDSHAKES_A_ROUND
    for client, bare in zip(clients, bares, strict=True):
        await bare.send_in.send(client.finish(await bare.take()))


async def test_who_gives_up_in_line_lets_the_others_go_on(
    authority: trustme.CA, context: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    turns = handshake_turns()
    for _ in range(3 * HANDSHAKES_A_ROUND):
        bare = _Bare()
        await bare.send_in.send(_Client(authority).hello())
        with trio.move_on_after(0):
            await TlsStream(bare, context, server_side=True, turns=turns).receive_some()
    assert turns.left == HANDSHAKES_A_ROUND


async def test_who_has_keys_waits_for_no_handshake(
    authority: trustme.CA, context: ssl.SSLContext, nursery: trio.Nursery
) -> None:
    client, bare, turns = _Client(authority), _Bare(), handshake_turns()
    stream = TlsStream(bare, context, server_side=True, turns=turns)
    nursery.start_soon(stream.do_handshake)
    bare.send_in.send_nowait(client.hello())
    bare.send_in.send_nowait(client.finish(await bare.take()))
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(HANDSHAKES_A_ROUND):
        await turns.begin(b"")
    bare.send_in.send_nowait(client.encrypt(b"x"))
    assert await stream.receive_some() == b"x"
