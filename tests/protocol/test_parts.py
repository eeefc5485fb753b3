"""Large commands read in parts: the same as when they are read whole, and no step looks at much."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec import inspect as types

from bunqueue_trio import errors
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import depth, parts, walk
from bunqueue_trio.protocol.bounds import LARGE_BYTES
from bunqueue_trio.protocol.catalog import CATALOG, COMMANDS
from bunqueue_trio.protocol.codec import BadMessage, NeedsParts, decode, decode_message
from bunqueue_trio.protocol.cutting import CUT_BYTES
from bunqueue_trio.protocol.depth import DEPTH_MAX, is_deep
from bunqueue_trio.protocol.parts import read_in_parts

LARGE = 2000
"""Bytes from which on something is large, here."""
JOB = '{"data":{"a":[1.50,"é\\ud83d\\ude00"]},"priority":3,"tags":["x","y"],"dependsOn":["a"],"jobId":"j"}'
read_push = partial(decode, c.PushBatch, queue="q")
ONE = {
    "id": b'"a"',
    "queue": b'"q"',
    "data": b"1",
    "ids": b'["a"]',
    "jobs": b"[]",
    "failures": b"[]",
    "filter": b'{"queue":"q"}',
}
VALUES = {
    "a text": lambda n: b'"' + b"a" * n + b'"',
    "escapes": lambda n: b'"' + rb"\u00e9\\\"" * (n // 10) + b'"',
    "surrogates": lambda n: b'"' + rb"\ud83d\ude00" * (n // 12) + rb'\ud800"',
    "brackets": lambda n: b"[" + b"[]," * (n // 3) + b"1]",
    "strings": lambda n: b"[" + rb'"]\"",' * (n // 6) + b"1]",
    "no ASCII": lambda n: '"é"'.encode().replace("é".encode(), "é".encode() * (n // 2)),
}


def body(*jobs: str, more: str = "") -> bytes:
    return f'{{"x":1,"jobs":[{", ".join(jobs)}]{more}}}'.encode()


def run(steps: Iterator[None]) -> tuple[Any, int]:
    """What comes of it, and in how many steps."""
    count = 1
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value, count
        count += 1


def in_parts(text: bytes, kind: type[c.Command] | None = c.PushBatch, read: Any = read_push) -> tuple[Any, int]:
    malformed = errors.INVALID_JSON if kind is None else errors.INVALID_JSON_BODY
    return run(read_in_parts(kind, text, read, malformed))


def outcome(work: Callable[[], Any]) -> object:
    try:
        return work()
    except Refused as refused:
        return refused.status, str(refused), refused.code


def facts(command: Any) -> object:
    """What can be compared of a command, or of a refusal."""
    return msgspec.json.encode(command) if isinstance(command, msgspec.Struct) else command


@pytest.mark.parametrize("n", [0, 1, 199, 200, 201, 1000])
def test_it_is_the_same_as_read_whole(n: int):
    text = body(*[JOB] * n, more=',"durable":null')
    assert facts(in_parts(text)[0]) == facts(read_push(text))


@pytest.mark.parametrize("size", [100, 1000, 10_000])
def test_where_a_list_is_cut_changes_nothing(monkeypatch: pytest.MonkeyPatch, size: int):
    monkeypatch.setattr(walk, "PIECE", size)
    monkeypatch.setattr(walk, "_LONG", 40)
    large = body(*['{"data":[1,2,3]}', '{ "data" : "\\ud800 x" }', JOB] * 300)
    assert facts(in_parts(large)[0]) == facts(read_push(large))
    over = body(*["1"] * 50_000)
    assert outcome(lambda: in_parts(over)) == outcome(lambda: read_push(over))


def deep(n: int) -> str:
    return f'{{"data":{"[" * n}{"]" * n}}}'


def test_a_job_may_be_as_deep_as_it_may_be_elsewhere():
    text, deeper = (body(*[JOB] * 300, deep(DEPTH_MAX - n)) for n in (3, 2))
    assert facts(in_parts(text)[0]) == facts(read_push(text))
    assert outcome(lambda: in_parts(deeper)) == outcome(lambda: read_push(deeper))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_how_deep_it_is_does_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch, size: int):
    monkeypatch.setattr(depth, "_PIECE", size)
    text = rb'{"a\\":["]]]\"[[[",{"b":[[]]},"[",[[[1]]]],"\u00e9\\":"}"}' * 3
    assert max(depth.depths(text)) == 5
    assert is_deep(b"[" * (DEPTH_MAX + 1))
    assert not is_deep(b"[" * DEPTH_MAX + b'"[["' * 100)


@pytest.mark.parametrize("padding", ["", "x" * 200_000], ids=["small jobs", "beside a large one"])
@pytest.mark.parametrize(
    "job",
    [
        '{"data":1,"priority":2.0}', '{"data":1,"priority":"x"}', r'{"data":"\ud800"}', "1", '{"data":1,"jobId":""}',
        '{"data":1,"backoff":{"type":"no"}}',
    ],
)  # fmt: skip
def test_what_is_not_as_usual_of_a_job_is_said_in_the_same_words(job: str, padding: str):
    text = body(JOB, f'{{"data":"{padding}"}}', job, JOB)
    assert facts(outcome(lambda: in_parts(text)[0])) == facts(outcome(lambda: read_push(text)))


NO_COMMANDS = [
    b"[1]", b"{", b'{"jobs":[1]}\xff', b"", b"x" * 100, b"[" * 600, b'{"jobs":[1]} x', b'{"jobs":[1]}' + b" " * 900 + b"1", b'"x', b"7", b"[[1}",
    b" " * 500 + b'{"jobs":[{"data":1}]}', b'{"jobs":[{"data":1}]}' + b" " * 500, b"\xef\xbb\xbf" + b'{"jobs":[{"data":1}]}',
    b"\xef\xbb\xbf" * 2 + b'{"jobs":[{"data":1}]}' + b" " * 500, b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2,
    b" " * 500, b"null" + b" " * 500, b'{"jobs":[1}', b'{"jobs":[' + b"{" * 600,
]  # fmt: skip


@pytest.mark.parametrize("text", NO_COMMANDS, ids=range(len(NO_COMMANDS)))
def test_what_is_no_object_is_refused_in_the_same_words(text: bytes, small_pieces: None):
    assert facts(outcome(lambda: in_parts(text)[0])) == facts(outcome(lambda: read_push(text)))
    assert facts(outcome(lambda: in_parts(text, None, decode_message))) == outcome(lambda: decode_message(text))


def test_a_body_that_may_be_nothing_may_be_so_at_length(small_pieces: None):
    read = partial(decode, c.Pull, queue="q")
    optional = lambda text: decode(c.Pull, text, True, queue="q")  # noqa: E731
    for text in (b" " * 900, b"null" + b" " * 900):
        assert in_parts(text, c.Pull, optional)[0] == optional(text)
        assert outcome(lambda text=text: in_parts(text, c.Pull, read)) == outcome(lambda text=text: read(text))  # type: ignore[misc]


COMMAND_WORDS = [
    b'{"cmd":"NOPE","x":1}', b'{"cmd":7}', b'{"x":1}', b'{"cmd":"NOPE","cmd":"Ping","reqId":1}', b'{"cmd":"%s"}' % (b"x" * 900),
    rb'{"cmd":"\ud800"}', b'{"cmd":"Ping","reqId":' + b"[" * 600 + b"]" * 600 + b"}", rb'{"\u0063md":"Ping","reqId":"\ud83d\ude00"}',
]  # fmt: skip


@pytest.mark.parametrize("text", COMMAND_WORDS, ids=range(len(COMMAND_WORDS)))
def test_a_command_that_there_is_not_is_refused_in_the_same_words(text: bytes, small_pieces: None):
    got, expected = (
        outcome(work) for work in (lambda: in_parts(text, None, decode_message)[0], lambda: decode_message(text))
    )
    assert facts(got) == facts(expected)


@pytest.mark.parametrize("size", [LARGE_BYTES - 2, LARGE_BYTES, CUT_BYTES - 2, CUT_BYTES, 2 * CUT_BYTES])
@pytest.mark.parametrize("letters", [b"x", rb"\\\""])
def test_however_long_the_name_of_a_command_that_there_is_not_is_it_is_named(size: int, letters: bytes):
    text = b'{"cmd":"%s","reqId":7}' % (letters * (size // len(letters)))
    got = facts(outcome(lambda: in_parts(text, None, decode_message)[0]))
    assert got == facts(outcome(lambda: decode_message(text)))
    assert "Unknown command: " in str(got)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PIECE", 90)
    monkeypatch.setattr(walk, "_LONG", 40)


def options_of(shape: types.Type) -> tuple[types.Type, ...]:
    return shape.types if isinstance(shape, types.UnionType) else (shape,)


def large_ones(kind: type[c.Command]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Commands of a kind with one large field each."""
    size = 3 * LARGE
    for name, make in VALUES.items():
        yield f"unknown: {name}", {"pad": make(size)}
    for field in msgspec.structs.fields(kind):
        for option in options_of(types.type_info(field.type)):
            if isinstance(option, types.RawType):
                for name, make in VALUES.items():
                    yield f"{field.name}: {name}", {field.encode_name: make(size)}
            elif isinstance(option, types.ListType):
                of_strings = isinstance(option.item_type, types.StrType)
                item = (
                    b'"%s"' % (b"i" * 200)
                    if of_strings
                    else JOB.encode()
                    if kind is c.PushBatch
                    else b'{"id":"a","error":"%s"}' % (b"e" * 200)
                    if kind is c.FailBatch
                    else b'"%s"' % (b"r" * 200)
                )
                n = min(option.max_length or 0, size // len(item))
                yield f"{field.name}: items", {field.encode_name: b"[%s]" % b",".join([item] * n)}
            elif isinstance(option, types.StrType | types.Metadata):
                # Of a name of megabytes it counts only that nothing has it: another one stands for it.
                any_length = "any " if isinstance(option, types.StrType) and option.max_length is None else ""
                for name in ("a text", "brackets"):
                    yield f"{any_length}{field.name}: {name}", {field.encode_name: VALUES[name](size)}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [spec.command for spec in CATALOG])
@pytest.mark.parametrize("of_message", [False, True], ids=["body", "message"])
def test_no_step_of_any_command_reads_much(kind: type[c.Command], of_message: bool, monkeypatch: pytest.MonkeyPatch):
    """Work is counted: what is read at once, and what is looked at piece by piece."""
    most: list[int] = []

    def counted(read: Callable[..., Any], place: int) -> Callable[..., Any]:
        def reading(*args: Any) -> Any:
            most.append(len(args[place]))
            return read(*args)

        return reading

    monkeypatch.setattr(parts, "LARGE_BYTES", LARGE)
    monkeypatch.setattr(parts, "_TOO_LONG", b"x" * LARGE)
    monkeypatch.setattr(walk, "PIECE", LARGE)
    monkeypatch.setattr(walk, "_LONG", 200)
    monkeypatch.setattr(walk, "_read", counted(walk._read, 1))
    monkeypatch.setattr(parts, "read_part", counted(parts.read_part, 1))
    tag = {tag for tag, each in COMMANDS.items() if each is kind}.pop()
    whole = decode_message if of_message else partial(decode, kind)
    fault = errors.INVALID_JSON if of_message else errors.INVALID_JSON_BODY
    needed = {
        field.encode_name: ONE.get(field.encode_name, b"1")
        for field in msgspec.structs.fields(kind) if field.required or field.encode_name in ("id", "queue", "data")
    }  # fmt: skip
    for name, more in large_ones(kind):
        fields = ({"cmd": b'"%s"' % tag.encode(), "reqId": b"7"} if of_message else {}) | needed | more
        text = b"{%s}" % b",".join(b'"%s":%s' % (each.encode(), value) for each, value in fields.items())
        most.clear()
        steps = read_in_parts(None if of_message else kind, text, counted(whole, 0), fault)  # type: ignore[arg-type]
        got = outcome(lambda steps=steps: run(steps))  # type: ignore[misc]
        expected = outcome(lambda whole=whole, text=text: whole(text))  # type: ignore[misc]
        if isinstance(got, tuple) and isinstance(got[0], msgspec.Struct):
            command, count = got
            assert count > len(text) // LARGE, name
            if not name.startswith(("any ", "req_id:")):
                assert facts(command) == facts(expected), name
        else:
            assert got == expected, name
        is_text = any(isinstance(option, types.Metadata) for field in msgspec.structs.fields(kind)
                      if name.startswith(f"{field.name}:") for option in options_of(types.type_info(field.type)))  # fmt: skip
        assert is_text or max(most, default=0) < 2 * LARGE, name


def test_what_is_wrong_with_a_message_says_whose_it_is():
    text = json.dumps({"cmd": "PUSHB", "reqId": [7], "queue": "q", "jobs": [{"data": "x" * 1000}] * 500 + [1]}).encode()
    with pytest.raises(BadMessage, match=r"^jobs\[500\] must be an object$") as refused:
        in_parts(text, None, decode_message)
    assert bytes(refused.value.req_id) == b"[7]"


def test_payloads_stay_as_they_were():
    data = VALUES["surrogates"](parts.LARGE_BYTES)
    command, _ = in_parts(b'{"cmd":"PUSH","queue":"q","data":%s}' % data, None, decode_message)
    assert command.data == Raw(data)


def test_failures_of_megabytes_are_refused():
    """Each error is short enough to be kept whole; together they would be too long to make texts of."""
    one = b'{"id":"a","error":"%s"}' % (b"x" * 3000)
    text = b'{"failures":[' + b",".join([one] * 1000) + b"]}"
    with pytest.raises(BadMessage, match="failures must be at most 2097152 bytes"):
        in_parts(text, c.FailBatch, partial(decode, c.FailBatch))


def test_many_jobs_are_read_some_in_a_step():
    _, steps = in_parts(body(*['{"data":1}'] * 8000))
    assert steps >= 8000 // parts._PART


def test_a_million_tags_are_nothing_for_the_garbage_collector():
    """It looks at the texts in a list each time, and equal ones that stay until the end are all let go in one step."""
    same, other = json.dumps({"data": 1, "tags": ["a", "b"]}), json.dumps({"data": 1, "tags": ["c" * 9]})
    command, _ = in_parts(body(*[same, other] * 3000))
    tags = [job.tags for job in command.jobs]
    assert tags == [("a", "b"), ("c" * 9,)] * 3000
    assert len({id(each) for each in tags}) == 2


def test_what_is_read_slowly_is_not_read_whole():
    quick, slow = body(*[JOB] * 50), body(*['{"data":1,"delay":null}'] * 50)
    assert facts(decode(c.PushBatch, quick, False, 100, queue="q")) == facts(read_push(quick))
    with pytest.raises(NeedsParts):
        decode(c.PushBatch, slow, False, 100, queue="q")
    assert facts(decode(c.PushBatch, slow, False, len(slow), queue="q")) == facts(in_parts(slow)[0])
    for message, most in ((quick, 100), (slow, len(slow) + 40)):
        decode_message(b'{"cmd":"PUSHB","queue":"q",' + message[1:], most)
    with pytest.raises(NeedsParts):
        decode_message(b'{"cmd":"PUSHB","queue":"q",' + slow[1:], 100)


def test_dependencies_of_all_jobs_are_counted_while_they_are_read(small_pieces: None):
    """Who names millions learns so at the first too many."""
    names = ",".join(['"a"'] * 1000)
    text = body(*[f'{{"data":1,"dependsOn":[{names}]}}'] * 40)
    steps = read_in_parts(c.PushBatch, text, read_push, errors.INVALID_JSON_BODY)
    with pytest.raises(Refused, match="dependsOn must name at most 10000 jobs in one command"):
        run(steps)
    assert outcome(lambda: in_parts(text)) == outcome(lambda: read_push(text))


@pytest.mark.parametrize("kind", [c.ActOnJobs, c.RerunDlq])
def test_a_large_filter_is_said_to_be_wrong_in_the_same_words(kind: type[c.Command], small_pieces: None):
    rest = ',"action":"retry"' if kind is c.ActOnJobs else ""
    queues = b"[%s]" % b",".join([b'"q"'] * 30_000)
    for field, wrong in ((b"text", b'"%s"' % (b"x" * 70_000)), (b"queue", queues)):
        text = b'{"filter":{"queue":"q","%s":%s}%s}' % (field, wrong, rest.encode())

        def read(text: bytes, kind: type[c.Command] = kind) -> c.Command:
            return decode(kind, text)

        assert outcome(lambda text=text, read=read: in_parts(text, kind, read)) == outcome(
            lambda text=text: decode(kind, text)
        )
