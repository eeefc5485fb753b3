"""Lists that are too long are refused in the same words as ever, and before anything is made of their items."""

import json
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect as types

from bunqueue_trio.config import DEPENDENCIES_MAX
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import bounds, codec
from bunqueue_trio.protocol import depth as depths
from bunqueue_trio.protocol.bounds import LARGE_BYTES
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.commands import FAILURES_BYTES, AckBatch, Command, FailBatch, Push, PushBatch

PAD = "x" * LARGE_BYTES
LISTS = [
    (spec.command, name, most) for spec in CATALOG for name, most in bounds._outline(spec.command)[1].items()
]  # fmt: skip


IN_PARTS = [
    (spec.command, part, name, most)
    for spec in CATALOG
    for part, kind in bounds._outline(spec.command)[2].items()
    for name, most in bounds._outline(kind)[1].items()
]


def item_of(kind: type[Command], name: str) -> Any:
    return {"data": 1} if (kind, name) == (PushBatch, "jobs") else "a"


def body_of(kind: type[Command], fields: dict[str, Any]) -> bytes:
    needed: dict[str, Any] = {"queue": "q", "id": "a", "data": PAD, "ids": ["a"], "pad": PAD, "failures": []}
    return json.dumps(needed | fields).encode()


def refusal(kind: type[Command], body: bytes) -> tuple[int, str, str | None]:
    with pytest.raises(Refused) as refused:
        codec.decode(kind, body)
    return refused.value.status, str(refused.value), refused.value.code


def never(*_: object) -> None:
    raise AssertionError("it was read")


def lists_without_end(kind: type[msgspec.Struct]) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        shape = types.type_info(field.type)
        for option in shape.types if isinstance(shape, types.UnionType) else (shape,):
            if isinstance(option, types.StructType):
                yield from lists_without_end(option.cls)
            if isinstance(option, types.ListType):
                if option.max_length is None:
                    yield f"{kind.__name__}.{field.name}"
                if isinstance(option.item_type, types.StructType):
                    yield from lists_without_end(option.item_type.cls)


def test_each_list_that_a_client_may_send_has_an_end():
    assert [name for spec in CATALOG for name in lists_without_end(spec.command)] == []


@pytest.mark.parametrize(("kind", "part", "name", "most"), IN_PARTS)
def test_a_list_in_a_part_is_held_against_its_limit_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, kind: type[Command], part: str, name: str, most: int
):
    fits, over = (body_of(kind, {part: {name: ["a"] * n}}) for n in (most, most + 1))
    bounds.check_lists(kind, fits)
    monkeypatch.setattr(codec, "decoder_of", never)
    monkeypatch.setattr(codec, "_DECODERS", {kind: None})
    assert refusal(kind, over)[:2] == (400, f"{part}.{name} must be at most {most} items")


def test_of_a_million_fields_that_a_command_has_not_nothing_is_made():
    fields = b",".join(b'"x%d":1' % i for i in range(100_000))
    tracemalloc.start()
    command = codec.decode(Push, b'{"queue":"q","data":1,"priority":2.0,%b}' % fields)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert command.priority == 2
    assert peak < 3 * len(fields)


def test_there_are_lists():
    assert len(IN_PARTS) > 3
    assert {(PushBatch, "jobs"), (AckBatch, "ids"), (AckBatch, "results"), (Push, "dependsOn")} <= {
        x[:2] for x in LISTS
    }


@pytest.mark.parametrize(("kind", "name", "most"), LISTS)
@pytest.mark.thorough
def test_a_list_is_held_against_its_limit_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, kind: type[Command], name: str, most: int
):
    fits, over = (body_of(kind, {name: [item_of(kind, name)] * n}) for n in (most, most + 1))
    bounds.check_lists(kind, fits)
    with monkeypatch.context() as patched:
        patched.setattr(codec, "LARGE_BYTES", len(over))
        as_ever = refusal(kind, over)
        as_ever_over_websocket = message_refusal(kind, over)
    monkeypatch.setattr(codec, "_DECODERS", {kind: None})
    monkeypatch.setattr(codec, "decoder_of", never)
    monkeypatch.setattr(codec, "_read_object", never)
    monkeypatch.setattr(codec, "_read_message", never)
    monkeypatch.setattr(codec, "_ANY_COMMAND", None)
    assert refusal(kind, over) == as_ever == (400, f"{name} must be at most {most} items", "invalid-field")
    assert message_refusal(kind, over) == as_ever_over_websocket


def message_refusal(kind: type[Command], body: bytes) -> tuple[str, bytes]:
    tag = kind.__struct_config__.tag
    message = body.replace(b"{", b'{"cmd": "%b", "reqId": [7], ' % str(tag).encode(), 1)
    with pytest.raises(codec.BadMessage) as refused:
        codec.decode_message(message)
    return str(refused.value), bytes(refused.value.req_id)


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([{"data": 1, "tags": ["a"] * 101, "pad": PAD}], "jobs[0]: tags must be at most 100 items"),
        ([{"data": 1}, {"data": PAD, "dependsOn": ["a"] * 1001}], "jobs[1]: dependsOn must be at most 1000 items"),
        ([{"data": 1, "dependsOn": ["a"] * 1000}] * 11, f"dependsOn must name at most {DEPENDENCIES_MAX} jobs in one command"),
    ],
)  # fmt: skip
def test_lists_of_the_jobs_of_a_bulk(monkeypatch: pytest.MonkeyPatch, jobs: list[Any], said: str):
    monkeypatch.setattr(codec, "decoder_of", never)
    monkeypatch.setattr(codec, "_DECODERS", {PushBatch: None})
    assert refusal(PushBatch, body_of(PushBatch, {"jobs": jobs}))[1] == said


def test_failures_that_are_too_large_together_are_not_read(monkeypatch: pytest.MonkeyPatch):
    each = {"id": "a", "error": "x" * 60_000}
    n = FAILURES_BYTES // 60_000
    assert len(codec.decode(FailBatch, json.dumps({"failures": [each] * (n - 1)}).encode()).failures) == n - 1
    too_large = json.dumps({"failures": [each] * n, "pad": PAD}).encode()
    monkeypatch.setattr(codec, "decoder_of", never)
    monkeypatch.setattr(codec, "_DECODERS", {FailBatch: None})
    said = f"failures must be at most {FAILURES_BYTES} bytes"
    assert refusal(FailBatch, too_large)[:2] == (400, said)
    assert message_refusal(FailBatch, too_large)[0] == said


def test_commas_in_names_are_no_items():
    jobs = [{"data": 1, "dependsOn": [",,,"] * 1000}] * 10 + [{"data": 1, "dependsOn": []}, {"data": "a,b" * 99}]
    command = codec.decode(PushBatch, body_of(PushBatch, {"jobs": jobs}))
    assert len(command.jobs) == 12
    tags = codec.decode(Push, body_of(Push, {"tags": [",,,,"] * 100})).tags
    assert len(tags) == 100


@pytest.mark.parametrize(
    "text",
    [
        b'{"jobs":' + b"[" * 100_000, b'{"jobs":[' + b"1," * 50_000 + b"]}", b'{"jobs":"' + b"," * 70_000 + b'"}',
        b"[" + b"1," * 70_000 + b"1]", b'{"jobs":[' + b'{"dependsOn":7},' * 9000 + b"{]}",
        b'{"jobs":[{"data":"' + b"," * 70_000 + b'","dependsOn":{"a":[' + b"1," * 9_999 + b"1]}}]}",
    ],
)  # fmt: skip
def test_what_else_is_wrong_is_for_others_to_say(text: bytes):
    bounds.check_lists(PushBatch, text)
    with pytest.raises(Refused):
        codec.decode(PushBatch, text, queue="q")


def test_a_message_without_an_address_is_for_others_to_judge():
    for message in (
        b"[" + b"1," * 70_000 + b"1]",
        b'{"cmd":7,"x":"' + PAD.encode() + b'"}',
        b'{"cmd":"No","x":"' + PAD.encode() + b'"}',
    ):
        with pytest.raises(codec.BadMessage, match=r"Invalid command|Unknown command"):
            codec.decode_message(message)


# --- depth ----------------------------------------------------------------------------------------


def nested(rng: random.Random, depth: int) -> Any:
    texts = ["", "[", "]]", '"', "\\", '\\"[', "{}", "a,b", '"]"']
    kind = rng.randrange(4) if depth else 0
    if kind == 0:
        return rng.choice([*texts, 1, None])
    parts = [nested(rng, rng.randrange(depth)) for _ in range(rng.randrange(4))]
    return parts if kind < 3 else {f"{rng.choice(texts)}{i}": part for i, part in enumerate(parts)}


def depth_of(value: Any) -> int:
    if isinstance(value, list | dict):
        parts = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth_of, parts), default=0)
    return 0


@pytest.mark.parametrize("seed", range(20))
def test_depth_is_counted_right_whatever_is_in_strings(monkeypatch: pytest.MonkeyPatch, seed: int):
    rng = random.Random(seed)
    for _ in range(50):
        value = [nested(rng, 14)]
        for _ in range(rng.choice([0, 0, 5, 12])):
            value = [value]
        body = msgspec.json.encode({"data": value})
        depth = depth_of(value) + 1
        for module in (codec, depths):
            monkeypatch.setattr(module, "DEPTH_MAX", depth)
        codec.decode(Push, body, queue="q")
        for module in (codec, depths):
            monkeypatch.setattr(module, "DEPTH_MAX", depth - 1)
        # Few brackets are not looked at: there are not enough to be too deep.
        with pytest.raises(Refused, match="Invalid JSON body"):
            codec.decode(Push, body, queue="q")
