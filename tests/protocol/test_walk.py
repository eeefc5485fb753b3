"""JSON that is read piece by piece: the same members and items as when it is read whole, wherever it is cut."""

import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bunqueue_trio.protocol import walk
from bunqueue_trio.protocol.surrogates import MARK, marked

Fields = msgspec.defstruct("Fields", [(name, Raw, Raw(b"")) for name in ("data", "ids", "b")])
SPACES = ("", "", "", " ", "\n\t", " " * 18, " " * 40)
NAMES = ("data", "ids", "b", "x", "", "k" * 30, "k" * 60, r"\"", r"\\", r"d\u0061ta")
VALUES = (
    "1", "-0.5e10", "true", "null", '""', r'"\\"', r'"a\"b,[{"', r'"\ud83d\ude00é"', '"%s"' % ("x" * 50), "1" * 50, "1." + "2" * 40,
    "1e" + "0" * 40, r'"%s"' % (r"\n" * 30), r'"\ud83d"', r'"\ude00%s\\ud83d"' % (r"\ud83d\ude00" * 8),
)  # fmt: skip
SLIPS = (b'"', b",", b":", b"[", b"]", b"{", b"}", b"\\", b" ", b"0", b"e", b".", b"-", b"x", b"")
FIXED = [
    b'{"x":1 .2222222222222222222222222222222222222}', b"[1 ,[1" + b" " * 60 + b".5]]", rb'["%s\ud8d\ude00\ud83d\ude00"]' % (rb"\ud83d\ude00" * 9),
    b'{"%sdata":1}' % (b"x" * 80), b'{"x":{"%s":0},"x":{"%s":0}}' % (b"k" * 80, b"k" * 80), b"{} x", b"[]" + b" " * 90 + b"]", b"[[1]" + b",[]" * 50,
]  # fmt: skip
"""Where a place of a text is easily taken for another one."""


def run(steps: Iterator[None]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def value(rnd: random.Random, depth: int) -> str:
    """Some JSON, with much space in it."""
    draw = rnd.random()
    between = rnd.choice(SPACES) + "," + rnd.choice(SPACES)
    if depth and draw < 0.3:
        return "[" + rnd.choice(SPACES) + between.join(value(rnd, depth - 1) for _ in range(rnd.randint(0, 4))) + "]"
    if depth and draw < 0.6:
        members = [
            f'"{rnd.choice(NAMES)}"{rnd.choice(SPACES)}:{rnd.choice(SPACES)}{value(rnd, depth - 1)}'
            for _ in range(rnd.randint(0, 4))
        ]
        return "{" + rnd.choice(SPACES) + between.join(members) + rnd.choice(SPACES) + "}"
    return rnd.choice(VALUES)


def texts(rnd: random.Random, opening: str) -> Iterator[bytes]:
    """JSON that begins so, and what is nearly some."""
    while True:
        text = ""
        while not text.startswith(opening):
            text = value(rnd, 5)
        sent = bytearray(text.encode() + rnd.choice([b"", b" " * 200, b" x"]))
        yield bytes(sent)
        for _ in range(2):
            at = rnd.randrange(1, len(sent) + 1)
            sent[at : at + rnd.randint(0, 1)] = rnd.choice(SLIPS)
            yield bytes(sent)


def whole(text: bytes) -> object:
    """What the parser makes of all of it."""
    if text.startswith(b"["):
        return [restored(each) for each in msgspec.json.decode(marked(text), type=list[Raw])]
    found = msgspec.json.decode(marked(text), type=Fields)
    return {name: restored(raw) for name in Fields.__struct_fields__ if (raw := getattr(found, name))}


def restored(raw: Raw) -> bytes:
    return bytes(raw).replace(MARK, b"\\")


def by_pieces(text: bytes) -> object:
    if text.startswith(b"["):
        return [bytes(each).strip() for each in run(walk.items(text, 10_000))]
    return {name: bytes(raw).strip() for name, raw in run(walk.members(Fields, text)).items()}


def outcome(read: Callable[[bytes], object], text: bytes) -> object:
    try:
        return read(text)
    except ValueError:
        return None


@pytest.mark.thorough
@pytest.mark.parametrize("size", [60, 80, 150])
@pytest.mark.parametrize("opening", ["{", "["])
def test_it_is_the_same_wherever_it_is_cut(monkeypatch: pytest.MonkeyPatch, opening: str, size: int):
    monkeypatch.setattr(walk, "PIECE", size)
    monkeypatch.setattr(walk, "_LONG", 13)
    rnd = random.Random(size)
    made = texts(rnd, opening)
    refused = 0
    for text in [*FIXED, *(next(made) for _ in range(900))]:
        try:
            text.decode()
        except UnicodeDecodeError:
            continue
        if text[:1] in b"[{":
            expected = outcome(whole, text)
            assert outcome(by_pieces, text) == expected, text
            refused += expected is None
    assert 150 < refused < 800


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
def test_no_piece_is_large(opening: bytes):
    end = b"}" if opening[:1] == b"{" else b"]"
    for many in (b"[]", b"[[1]]", b'"a"', b"1" * 9, b"{}"):
        text = opening + b"[" + b",".join([many] * 100_000) + b"]" + end
        given: list[int] = []

        def noted(decoder: Any, piece: bytes, given: list[int] = given, read: Any = walk._read) -> Any:
            given.append(len(piece))
            return read(decoder, piece)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(walk, "_read", noted)
            by_pieces(text)
        assert max(given) < walk.PIECE + 2000
        assert sum(given) < len(text) * 1.1


def test_a_value_keeps_nothing_large_beside_it():
    text = b'{"pad":[%s1],"data":"%s"}' % (b"1," * 500_000, b"x" * 200_000)
    before = sys.getrefcount(text)
    data = run(walk.members(Fields, text))["data"]
    assert len(memoryview(data)) == 200_002
    assert sys.getrefcount(text) == before


@pytest.mark.parametrize(
    "text", [b'{"%sdata":1}', b"[%s[1 .2]]", b'{"data":%s1 .2}'], ids=["a name", "an item", "a member"]
)
def test_what_is_cut_anywhere_is_not_taken_for_something_else(monkeypatch: pytest.MonkeyPatch, text: bytes):
    monkeypatch.setattr(walk, "PIECE", 60)
    monkeypatch.setattr(walk, "_LONG", 13)
    for n in range(40, 130):
        made = text % ((b"k" if b"sdata" in text else b" ") * n)
        assert outcome(by_pieces, made) == outcome(whole, made), made


NUMBERS = (
    "", ".", ".5", ".5.5", ".e5", "e", "E", "e5", "e05", "e5.", "e+", "e-", "e+5", "E-5", "e+-5", "e5e5", ".5e", ".5e+", ".5e+5", "-5", "+5", "x",
)  # fmt: skip
"""How a number may end, or may not."""


@pytest.mark.thorough
@pytest.mark.parametrize("begun", ["", "-", "0.", "1e", "1e-", "."])
@pytest.mark.parametrize("text", ["[%s]", "[%s ,2]", '{"data":%s}', '{"x":[%s],"data":1}'])
def test_a_number_is_one_or_none_wherever_it_is_cut(monkeypatch: pytest.MonkeyPatch, text: str, begun: str):
    monkeypatch.setattr(walk, "PIECE", 60)
    monkeypatch.setattr(walk, "_LONG", 13)
    right = 0
    for n in range(40, 130):
        for end in NUMBERS:
            made = (text % f"{begun}{'1' * n}{end}").encode()
            expected = outcome(whole, made)
            assert outcome(by_pieces, made) == expected, made
            right += expected is not None
    assert (right > 0) == (begun != ".")


def test_what_is_too_deep_is_not_read():
    text = b'{"data":[%s%s,"%s"]}' % (b"[" * 600, b"]" * 600, b"x" * walk.PIECE)
    with pytest.raises(walk.TooDeepError):
        by_pieces(text)
