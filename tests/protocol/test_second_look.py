"""What a second look at a body costs: a mistake in a large one must not hold everybody."""

import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.codec import decode

BIG, PIECE = 10 * 1024 * 1024, 256 * 1024


@pytest.mark.parametrize(
    "data",
    [b'"\\ud800' + rb"\n" * (BIG // 2 - 50) + b'"', b"[" + b"[]," * 600 + b'"' + rb"\"" * (BIG // 2 - 1000) + b'"]'],
    ids=["escapes beside a surrogate", "escapes beside brackets"],
)
@pytest.mark.thorough
def test_no_function_of_ours_is_called_for_each_escape_of_a_large_body(data: bytes):
    def read() -> None:
        decode(c.Push, b'{"data":' + data + b"}", queue="q")

    read()  # the decoders are made
    # Some for each piece that it is looked at in, and there are five million escapes.
    assert calls_of(read) < 50 * BIG // PIECE


@pytest.mark.parametrize("wrong", ['"priority":0.5', '"priority":2.0'])
@pytest.mark.thorough
def test_one_job_that_needs_a_second_look_is_the_only_one_that_gets_it(wrong: str):
    """Else a request of 300 kB held everybody for seconds."""
    jobs = ['{"data":1,"tags":["a","b"]}'] * 5000 + [f'{{"data":1,{wrong},"tags":["a"]}}']
    body = f'{{"jobs":[{",".join(jobs)}]}}'.encode()

    def read() -> None:
        with suppress(Refused):
            decode(c.PushBatch, body, queue="q")

    read()
    assert calls_of(read) < 10 * len(jobs)


def test_texts_of_a_list_are_held_against_their_limits_on_the_second_look():
    with pytest.raises(Refused, match=r"tags\[1\] must be at most 1024 characters"):
        decode(c.Push, b'{"data":1,"priority":2.0,"tags":["a","%s"]}' % (b"a" * 1025), queue="q")
    with pytest.raises(Refused, match="tags must be an array of strings"):
        decode(c.Push, b'{"data":1,"priority":2.0,"tags":["a",1]}', queue="q")
    assert decode(c.Push, b'{"data":1,"priority":2.0,"tags":["a","b"]}', queue="q").tags == ["a", "b"]
    assert decode(c.Push, b'{"data":1,"priority":2.0,"tags":[]}', queue="q").tags == []


def calls_of(function: Callable[[], object]) -> int:
    """Count the calls that ``function`` makes, of Python and of C."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count
