"""Bulk pushes read in parts: the same as when they are read whole, or left to that."""

import json
from functools import partial

import pytest

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import parts
from bunqueue_trio.protocol.codec import DEPTH_MAX, decode, decode_message
from bunqueue_trio.protocol.parts import read_in_parts

JOB = '{"data":{"a":[1.50,"é\\ud83d\\ude00"]},"priority":3,"tags":["x","y"],"dependsOn":["a"],"jobId":"j"}'
read = partial(decode, c.PushBatch, queue="q")


def body(*jobs: str, more: str = "") -> bytes:
    return f'{{"x":1,"jobs":[{", ".join(jobs)}]{more}}}'.encode()


def in_parts(text: bytes, of_socket: bool = False) -> tuple[c.PushBatch | None, int]:
    """What came of it, and in how many parts."""
    *others, last = read_in_parts(text, decode_message if of_socket else read)  # type: ignore[arg-type]
    assert not any(others)
    return last, len(others)


@pytest.mark.parametrize("n", [0, 1, 199, 200, 201, 1000])
def test_it_is_the_same_as_read_whole(n: int):
    text = body(*[JOB] * n, more=',"durable":null')
    command, count = in_parts(text)
    assert command == decode(c.PushBatch, text, queue="q")
    assert count == 2 + bool(n) + n // 200


def test_a_list_with_many_commas_is_held_against_its_limit_on_the_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "_COMMAS", 10)
    text = body(*[JOB] * 500)
    assert in_parts(text)[0] == decode(c.PushBatch, text, queue="q")
    assert in_parts(body(*["1"] * 10_001))[0] is None


def test_over_a_socket_too():
    text = b'{"cmd":"PUSHB","reqId":7,"queue":"q",' + body(*[JOB] * 500)[1:]
    command, _ = in_parts(text, of_socket=True)
    assert command == decode_message(text)
    assert command is not None
    assert bytes(command.req_id) == b"7"


def test_large_jobs_are_read_a_few_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "_PART_BYTES", 2 * len(JOB))
    assert in_parts(body(*[JOB] * 10))[1] == 3 + 5


def deep(n: int) -> str:
    return f'{{"data":{"[" * n}{"]" * n}}}'


def test_a_job_may_be_as_deep_as_it_may_be_elsewhere():
    text = body(*[JOB] * 300, deep(DEPTH_MAX - 3))
    assert in_parts(text)[0] == decode(c.PushBatch, text, queue="q")
    assert in_parts(body(*[JOB] * 300, deep(DEPTH_MAX - 2)))[0] is None


@pytest.mark.parametrize(
    "text",
    [
        body(JOB, '{"data":1,"priority":2.0}'),
        body(JOB, '{"data":1,"priority":"x"}'),
        body(JOB, r'{"data":"\ud800"}'),
        body(*["1"] * 10_001),
        body('{"data":"%s"}' % ("x" * 70_000)),
        body(JOB, "1"),
        b'{"jobs":{}}',
        b'{"x":1}',
        b"[1]",
        b"{",
        b'{"jobs":[1]}\xff',
        body(more=',"x":' + "[" * 600 + "]" * 600),
    ],
    ids=[
        "leniency", "a wrong field", "a surrogate", "too many", "a large one", "no object", "no list", "no jobs",
        "no object at all", "no JSON", "no text", "deep beside it",
    ],
)  # fmt: skip
def test_what_is_not_as_usual_is_left_to_be_read_whole(text: bytes):
    assert in_parts(text)[0] is None


def test_another_command_is_left_too():
    text = json.dumps({"cmd": "PUSH", "queue": "q", "data": 1, "jobs": [{"cmd": "PUSHB"}]}).encode()
    assert in_parts(text, of_socket=True)[0] is None
