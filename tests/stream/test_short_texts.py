"""Short texts that pass the parser by are read as it would read them, whatever comes with them and however it is cut."""

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bunqueue_trio.config import Settings
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports import frames
from bunqueue_trio.transports.frames import SHORT_BYTES, framed, read_text, text_frame, text_frames
from bunqueue_trio.transports.websocket import WebSocket

HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
KEY = b"\x11\x22\x33\x44"


class Heard:
    """A session that notes what it is handed."""

    full = False

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def takes_turns(self, message: bytes) -> bool:
        return False

    def take_in(self, message: bytes, nursery: object) -> None:
        self.messages.append(message)

    def hurry(self) -> None: ...

    def settle(self) -> None: ...

    def is_settled(self) -> bool:
        return False

    async def wait_added(self) -> None: ...


def masked(data: bytes) -> bytes:
    return bytes(byte ^ KEY[i % 4] for i, byte in enumerate(data))


def frame(first: int, data: bytes, *, length: int | None = None, is_masked: bool = True) -> bytes:
    """A frame of a client; ``length`` is how many bits its length is written with, if not as few as it needs."""
    size, bit = len(data), 0x80 if is_masked else 0
    bits = length or (7 if size < 126 else 16 if size < 65536 else 64)
    short = {7: size, 16: 126, 64: 127}[bits]
    extra = b"" if bits == 7 else size.to_bytes(bits // 8, "big")
    return bytes([first, bit | short]) + extra + (KEY + masked(data) if is_masked else data)


def some_frame(rng: random.Random) -> list[bytes]:
    text = ("é€x" * 50 if rng.random() < 0.3 else "abcdef" * 30)[: rng.choice([0, 1, 5, 100])].encode()
    match rng.randrange(20):
        case 0:
            return [frame(0x89, b"ping")]
        case 1:
            return [frame(0x01, text), frame(0x89, b""), frame(0x80, b"end")]
        case 2:
            return [frame(0x82, b"binary \xff")]
        case 3:
            return [frame(0x81, b"x" * rng.choice([125, 126, 127, SHORT_BYTES, SHORT_BYTES + 1, 65535, 65536]))]
        case 4:
            return [frame(0x8A, b"pong")]
        case 5:
            return [frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")]
        case _:
            return [frame(0x81, text)]


def last_frame(rng: random.Random) -> list[bytes]:
    """What breaks a rule, or ends the connection, or is only written in an odd way, and texts behind it."""
    odd = [
        frame(0x88, b"\x03\xe8bye"), frame(0x81, b"\xff\xfe"), frame(0x81, b"bare", is_masked=False), frame(0xC1, b"rsv"),
        frame(0x81, b"a" * 200, length=64), frame(0x81, b"a" * 20, length=16), frame(0x81, b"", length=16), frame(0x80, b"no beginning"),
        frame(0x01, b"begun"), frame(0x83, b"no such kind"), frame(0x81, b"\xc3"), b"\x81", b"\x81\xfe", b"\x81\xfe\x00", b"\x81\x85" + KEY[:2],
    ]  # fmt: skip
    return [rng.choice(odd), frame(0x81, b"behind"), frame(0x81, b"far behind")]


class Free:
    """Rounds in which there is always room."""

    async def begin(self) -> None: ...

    def begin_nowait(self, now: float) -> bool:
        return True


async def heard(
    pieces: list[bytes], *, is_plain: bool, settings: Settings | None = None
) -> tuple[list[bytes], str, bytes]:
    """The messages, the state, and what is answered before a close frame: which of two faults that says is no matter."""
    server = Server(settings or Settings(), MemoryStore(), Clock())
    shared = cast("Any", SimpleNamespace(server=server, commands=Free(), pages=Free()))
    socket = WebSocket(shared, HEAD, cast("Any", None), cast("Any", None))
    socket._protocol.data_to_send()
    if not is_plain:
        cast("Any", socket)._is_plain = lambda: False
    session = Heard()
    for piece in pieces:
        await socket._take_in(piece, cast("Any", session), cast("Any", None))
    answered = b"".join(socket._protocol.data_to_send())
    return session.messages, socket._protocol.state.name, answered.partition(b"\x88")[0]


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(60))
async def test_they_are_what_the_parser_says(seed: int) -> None:
    rng = random.Random(seed)
    stream = b"".join(piece for _ in range(rng.randrange(40)) for piece in some_frame(rng)) + b"".join(last_frame(rng))
    pieces, at = [], 0
    while at < len(stream):
        size = rng.choice([1, 2, 3, 7, 50, 4096, 4096])
        pieces.append(stream[at : at + size])
        at += size
    assert await heard(pieces, is_plain=True) == await heard(pieces, is_plain=False)


async def test_a_text_between_two_fragments_breaks_the_protocol() -> None:
    pieces = [frame(0x01, b"begun"), frame(0x81, b"between"), frame(0x80, b"ended")]
    for is_plain in (True, False):
        assert await heard(pieces, is_plain=is_plain) == ([], "CLOSING", b"")


async def test_what_looks_like_a_text_within_another_frame_is_none() -> None:
    hidden = frame(0x81, b"hidden")
    whole = frame(0x82, masked(hidden))
    pieces = [whole[: -len(hidden)], hidden, frame(0x81, b"next")]
    found = await heard(pieces, is_plain=True)
    assert found == await heard(pieces, is_plain=False)
    assert b"hidden" not in found[0]


async def test_one_that_is_longer_than_messages_may_be_is_not_taken() -> None:
    small = Settings(body_max_bytes=100)
    pieces = [frame(0x81, b"x" * 100), frame(0x81, b"x" * 101)]
    for is_plain in (True, False):
        assert await heard(pieces, is_plain=is_plain, settings=small) == ([b"x" * 100], "CLOSING", b"")


async def test_they_pass_the_parser_by(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [b"a" * size for size in (0, 1, 125, 126, 4000)]
    stream = b"".join(frame(0x81, text) for text in texts)
    fed: list[int] = []
    monkeypatch.setattr(frames.Place, "fed", lambda self, size: fed.append(size))
    for cut in (1, 2, 5, 4096):
        pieces = [stream[i : i + cut] for i in range(0, len(stream), cut)]
        assert (await heard(pieces, is_plain=True))[0] == texts
    assert fed == []


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_what_a_server_sends(size: int) -> None:
    text = b"x" * size
    assert text_frame(text) == frame(0x81, text, is_masked=False)


def test_what_is_missing_is_named() -> None:
    whole = frame(0x81, b"x" * 300)
    for size in range(1, len(whole)):
        missing = read_text(whole[:size], 0)
        assert isinstance(missing, int)
        assert 0 < missing <= len(whole) - size


def test_long_texts_are_framed_as_they_are_and_short_ones_together():
    short, long = [b"a" * n for n in (1, 125, 126, SHORT_BYTES)], b"x" * (SHORT_BYTES + 1)
    pieces = framed([*short, long, *short, long])
    assert b"".join(pieces) == b"".join(map(text_frame, [*short, long, *short, long]))
    assert [piece is long for piece in pieces] == [False, True, False, True]
    assert [len(framed(texts)) for texts in ([], short, [long], [long, b"a"])] == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 30, 31])
def test_a_text_in_several_frames_is_one_text_to_who_reads_it(size: int):
    text = bytes(i % 128 for i in range(size))
    frames = [*text_frames(text, 10)]
    assert len(frames) == max(1, -(-size // 10))
    kinds = [(frame[0] & 0x80 != 0, frame[0] & 0x0F) for frame in frames]
    assert kinds == [(i == len(frames) - 1, 0 if i else 1) for i in range(len(frames))]
    assert b"".join(frame[2:] for frame in frames) == text
