"""Texts that are too long: what is kept of them, and what it costs to find that."""

import json
import time

import pytest

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.codec import decode, decode_message
from bunqueue_trio.protocol.commands import TEXT_MAX
from bunqueue_trio.protocol.cutting import CUT_BYTES, cut_texts

BIG = CUT_BYTES + 100
PARTS = {
    "plain": b"a",
    "lone surrogates": rb"\ud800",
    "lone ones with something between": rb"\uDFFFa",
    "pairs": rb"\ud83d\ude00",
    "backslashes": rb"\\",
    "quotes": rb"\"",
    "backslashes before escapes": rb"\\\n\\\ud800",
    "two bytes each": "é".encode(),
    "four bytes each": "🐇".encode(),
}


def text_in(part: bytes) -> str:
    """What the server makes of a text as JSON, without the cut."""
    return json.loads(b'"%s"' % part).encode("utf-8", "backslashreplace").decode()


@pytest.mark.thorough
@pytest.mark.parametrize("blanks", [b"", b" \n"], ids=["close", "with blanks"])
@pytest.mark.parametrize("shift", range(7))
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_both_ends_of_a_text_are_kept(part: bytes, shift: int, blanks: bytes):
    """Wherever its middle is cut: also within an escape."""
    text = b"first" + b"x" * shift + part * (BIG // len(part) + 20) + b"y" * shift + b"last"
    body = b'{"token":"t","error"%b:%b"%b","stack":"short"}' % (blanks, blanks, text)
    short = cut_texts(b"error|stack", body)
    assert len(short) < 8 * TEXT_MAX
    read = json.loads(short)
    kept, whole = read["error"], text_in(text)
    assert len(kept) <= TEXT_MAX
    begin, _, end = kept.partition("\n… ")
    _, _, end = end.partition(" …\n")
    assert len(begin) == len(end) > TEXT_MAX // 2 - 50
    assert whole.startswith(begin)
    assert whole.endswith(end)
    assert (read["token"], read["stack"]) == ("t", "short")


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"short"}',
        b'{"error":"%s"}' % (b"a" * (CUT_BYTES - 2000)),
        b'{"other":"%s","error":1}' % (b"a" * BIG),
        b'{"error":"short",%s"x":"y"}' % (b" " * BIG),
        b'{"error":"%s' % (b"a" * BIG),
        b'{"x":["error","%s"]}' % (b"a" * BIG),
        rb'{"x":"\"error\":%s"}' % (b"a" * BIG),
    ],
    ids=["short", "long, not too long", "another field", "no text", "no end", "no name", "in a text"],
)
def test_what_is_no_such_text_stays(body: bytes):
    assert cut_texts(b"error", body) == body


def test_each_of_several_texts_is_cut():
    body = b'{"error":"%s","stack":"%s","error":"%s"}' % (b"a" * BIG, b"b" * BIG, rb"\ud800" * BIG)
    failed = decode(c.Fail, body, id="x")
    assert failed.error is not None
    assert failed.stack is not None
    assert failed.error.startswith(r"\ud800")
    assert {len(failed.error), len(failed.stack)} <= set(range(TEXT_MAX - 100, TEXT_MAX))


def test_the_texts_of_several_failures_are_cut_before_the_size_of_all_counts():
    one = b'{"id":"x","error":"%s"}' % (rb"\ud800" * BIG)
    body = b'{"failures":[%s,%s]}' % (one, one)
    assert len(body) > c.FAILURES_BYTES
    message = decode_message(body.replace(b"{", b'{"cmd":"FAILB",', 1))
    assert isinstance(message, c.FailBatch)
    for failed in (*decode(c.FailBatch, body).failures, *message.failures):
        assert failed.error is not None
        assert failed.error.startswith(r"\ud800")
        assert len(failed.error) <= TEXT_MAX


def test_a_text_with_a_broken_escape_is_no_json():
    assert decode(c.Push, b'{"data":"%s"}' % (b"a" * BIG), queue="q").data
    with pytest.raises(Exception, match="Invalid JSON body"):
        decode(c.Fail, rb'{"error":"\x%s"}' % (b"a" * BIG), id="x")


@pytest.mark.parametrize("text", [rb"\ud800", b"a"])
def test_over_a_socket_only_texts_are_cut(text: bytes):
    big = text * (BIG // len(text) + 1)
    failed = decode_message(b'{"error":"%s","cmd":"FAIL","id":"x","reqId":"\\ud800"}' % big)
    assert isinstance(failed, c.Fail)
    assert failed.error is not None
    assert len(failed.error) <= TEXT_MAX
    assert bytes(failed.req_id) == rb'"\ud800"'
    payload = b'{"error":"%s","x":"FAIL"}' % big
    pushed = decode_message(b'{"cmd":"PUSH","queue":"q","data":%s}' % payload)
    assert isinstance(pushed, c.Push)
    assert bytes(pushed.data) == payload
    assert bytes(decode_message(b'{"cmd":"FAIL","id":"x","reqId":"%s"}' % big).req_id) == b'"%s"' % big


@pytest.mark.parametrize("kind", [c.Fail, c.Progress, c.AddLog])
def test_what_is_cut_away_costs_nothing_but_its_bytes(kind: type[c.Command]):
    """Before, each of its characters was decoded, and cleaned: 0.5 s for 10 MiB. Against a payload, which is copied."""
    body = b'{"progress":1,"message":"%s","error":"a"}' % (rb"\ud800" * 500_000)
    plain = b'{"data":"%s"}' % (b"a" * len(body))

    def best(read: object) -> float:
        assert callable(read)
        times = []
        for _ in range(3):
            begun = time.thread_time()
            read()
            times.append(time.thread_time() - begun)
        return min(times)

    if kind is c.Fail:
        body = body.replace(b'"message"', b'"stack"')
    assert best(lambda: decode(kind, body, id="x")) < 6 * best(lambda: decode(c.Push, plain, queue="q"))
