"""JSON → command: what is taken, what is refused, and in which words."""

import json
from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import codec
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import COMMANDS
from tests.protocol.inputs import COMPLETE, FIELDS, LIMITS, NOT_JSON, Field, nested

TARGETS = {"queue": "q", "id": "a"}
NEEDED = {"repeat": {"every": "5"}, "backoff": {"type": '"fixed"', "delay": "5"}}
"""What an object needs beside the field that is looked at."""


def over_http(name: str, body: bytes) -> c.Command:
    """Decode as a request: queue and id come from the path."""
    kind = COMMANDS[name]
    given = {key: value for key, value in TARGETS.items() if key in kind.__struct_fields__}
    return codec.decode(kind, body, **given)


def over_socket(name: str, body: bytes) -> c.Command:
    """Decode as a message: everything is in it."""
    kind = COMMANDS[name]
    given = {"cmd": name} | {key: value for key, value in TARGETS.items() if key in kind.__struct_fields__}
    head = json.dumps(given).encode()[:-1]
    rest = body.strip()[1:]
    return codec.decode_message(head + (b"," if rest.strip() != b"}" else b"") + rest)


both_ways = pytest.mark.parametrize("decode", [over_http, over_socket])


def fields(command: c.Command) -> dict[str, Any]:
    """The values of a command, raw ones as bytes, to be compared."""

    def plain(value: Any) -> Any:
        if isinstance(value, Raw):
            return bytes(value)
        if isinstance(value, list):
            return [plain(item) for item in value]
        return fields(value) if isinstance(value, c.PushSpec | c.Repeat) else value

    return {name: plain(getattr(command, name)) for name in command.__struct_fields__}


def refusal(decode: Any, name: str, body: bytes | str) -> str:
    with pytest.raises(Refused) as caught:
        decode(name, body.encode() if isinstance(body, str) else body)
    assert caught.value.status == 400
    return str(caught.value)


def with_field(name: str, field: str, value: str) -> str:
    """A complete body of command ``name``, with ``field`` (a dot leads into an object) replaced by a JSON text."""
    body = {key: json.dumps(given) for key, given in COMPLETE[name].items()}
    outer, _, inner = field.partition(".")
    if inner:
        value = "{" + ",".join(f'"{k}":{v}' for k, v in {**NEEDED[outer], inner: value}.items()) + "}"
    body[outer] = value
    return "{" + ",".join(f'"{key}":{text}' for key, text in body.items()) + "}"


@pytest.mark.thorough
@both_ways
@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_command_is_taken_field_by_field(decode: Any, name: str):
    command = decode(name, json.dumps(COMPLETE[name]).encode())
    assert type(command) is COMMANDS[name]
    for key, value in TARGETS.items():
        assert getattr(command, key, value) == value
    found = fields(command)
    by_wire_name = dict(zip(command.__struct_encode_fields__, command.__struct_fields__, strict=True))
    for key, value in COMPLETE[name].items():
        if key in ("jobs", "repeat", "backoff", "filter", "options", "jobOptions", "failures", "config"):
            continue
        got = found[by_wire_name[key]]
        if isinstance(got, bytes):
            got = json.loads(got)
        assert got == ([b"1", b"null"] if key == "results" else value), key


def slow(body: bytes) -> bytes:
    """The same command in a body that the fast path cannot read: a lone surrogate, in a field that is only echoed."""
    return body[:-1] + (b"," if len(body) > 2 else b"") + b'"reqId":"\\ud800"}'


@both_ways
@pytest.mark.parametrize("name", COMPLETE)
def test_the_slow_path_reads_the_same_as_the_fast(decode: Any, name: str):
    body = json.dumps(COMPLETE[name]).encode()
    assert fields(decode(name, slow(body))) | {"req_id": b""} == fields(decode(name, body))


@both_ways
@pytest.mark.parametrize("name", ["\\ud83d\\ude00", "a\\uD83D\\uDE00", "\\\\ud83d"])
def test_a_name_that_nobody_knows_may_have_characters_of_two_escapes(decode: Any, name: str):
    """Also where the body needs a second look: a number in it is no whole one."""
    body = f'{{"{name}":{{"{name}":1}},"data":{{"{name}":"\\ud800"}},"priority":5.0}}'.encode()
    command = decode("PUSH", body)
    assert (command.priority, bytes(command.data)) == (5, f'{{"{name}":"\\ud800"}}'.encode())


@pytest.mark.thorough
@both_ways
@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_a_field_takes_only_its_type(decode: Any, field: Field):
    for value in ("5", "5.5", "true", '"x"', "[1]", "{}", "[[]]", "null", "-1", "1e3", '[{"a":1}]', '["x",null]'):
        if field.takes(value):
            continue
        text = refusal(decode, field.command, with_field(field.command, field.name, value))
        assert text in [f"{field.name} {complaint}" for complaint in field.complaints(value)], value


@both_ways
@pytest.mark.parametrize("field", [field for field in FIELDS if field.required], ids=str)
def test_a_required_field_is_required(decode: Any, field: Field):
    body = {key: value for key, value in COMPLETE[field.command].items() if key != field.name}
    assert refusal(decode, field.command, json.dumps(body)) == f"{field.name} is required"


@both_ways
@pytest.mark.parametrize("field", [field for field in FIELDS if not field.required], ids=str)
def test_null_and_nothing_mean_the_default(decode: Any, field: Field):
    outer = field.name.partition(".")[0]
    body = {key: value for key, value in COMPLETE[field.command].items() if key != outer}
    nothing = fields(decode(field.command, json.dumps(body).encode()))
    assert fields(decode(field.command, json.dumps(body | {outer: None}).encode())) == nothing


@both_ways
@pytest.mark.parametrize("field", [field for field in FIELDS if field.low is not None], ids=str)
def test_a_number_is_taken_to_the_ends_of_its_range_and_no_further(decode: Any, field: Field):
    low, high = field.low, field.high
    assert low is not None
    for value in (low, high, float(low), float(high)):
        decode(field.command, with_field(field.command, field.name, json.dumps(value)).encode())
    for value in (str(low - 1), "-" + "9" * 5000, "-1e999", f"{low - 1}.0", str(-(2**64))):
        text = refusal(decode, field.command, with_field(field.command, field.name, value))
        assert text == f"{field.name} must be at least {low}"
    for value in (str(high + 1), "9" * 5000, "1e999", "1" + "0" * 400 + ".5", str(2**64)):
        text = refusal(decode, field.command, with_field(field.command, field.name, value))
        assert text == f"{field.name} must be at most {high}"


@both_ways
@pytest.mark.parametrize("field", [f for f in FIELDS if f.kind.startswith(("integer", "time"))], ids=str)
def test_an_integer_may_have_a_point_but_no_fraction(decode: Any, field: Field):
    whole = str(max(field.low or 0, 2))
    for text in (f"{whole}.0", f"{whole}e0", f"{whole}0e-1"):
        plain = decode(field.command, with_field(field.command, field.name, whole).encode())
        pointed = decode(field.command, with_field(field.command, field.name, text).encode())
        assert fields(pointed) == fields(plain)
        assert ".0" not in repr(fields(pointed)) or field.command == "Progress"
    fraction = with_field(field.command, field.name, f"{whole}.5")
    if field.kind.startswith("time"):  # rounded up
        up = with_field(field.command, field.name, str(int(whole) + 1))
        assert fields(decode(field.command, fraction.encode())) == fields(decode(field.command, up.encode()))
    else:
        assert refusal(decode, field.command, fraction) == f"{field.name} must be an integer"


@both_ways
def test_a_backoff_is_a_number_or_an_object(decode: Any):
    given = {"type": "exponential", "delay": 4.5, "maxDelay": 2.0, "jitter": 1.0, "unknown": 1}
    for batch in (False, True):
        job = {"data": 1, "backoff": given}
        body = json.dumps({"jobs": [job]} if batch else job).encode()
        command = decode("PUSHB", body).jobs[0] if batch else decode("PUSH", body)
        assert command.backoff == c.Backoff(type="exponential", delay=5, max_delay=2, jitter=1)
    assert decode("PUSH", b'{"data":1,"backoff":{"type":"fixed","delay":1,"jitter":null}}').backoff == c.Backoff(
        type="fixed", delay=1
    )
    for wrong, complaint in {
        '"fast"': "backoff must be a number or an object",
        "{}": "backoff.type is required",
        '{"type":null}': "backoff.type must be 'exponential' or 'fixed'",
        '{"type":"linear"}': "backoff.type must be 'exponential' or 'fixed'",
        '{"type":["fixed"]}': "backoff.type must be 'exponential' or 'fixed'",
        '{"type":"fixed"}': "backoff.delay is required",
        '{"type":"fixed","delay":-1}': "backoff.delay must be at least 0",
        '{"type":"fixed","delay":1,"maxDelay":"1"}': "backoff.maxDelay must be a number",
        '{"type":"fixed","delay":1,"jitter":1.5}': "backoff.jitter must be at most 1",
    }.items():
        assert refusal(decode, "PUSH", f'{{"data":1,"backoff":{wrong}}}') == complaint
        assert refusal(decode, "PUSHB", f'{{"jobs":[{{"data":1,"backoff":{wrong}}}]}}') == f"jobs[0]: {complaint}"


@both_ways
def test_a_number_of_percent_may_have_a_fraction(decode: Any):
    for text, value in (("50", 50), ("50.5", 50.5), ("0", 0), ("100.0", 100), ("5e1", 50)):
        assert decode("Progress", b'{"progress":%s}' % text.encode()).progress == value
    assert type(decode("Progress", b'{"progress":50}').progress) is int


@both_ways
@pytest.mark.parametrize(("command", "field", "low", "high"), LIMITS)
def test_texts_and_lists_have_limits_of_length(decode: Any, command: str, field: str, low: int, high: int):
    is_list = isinstance(COMPLETE[command][field], list)
    unit = "items" if is_list else "characters"
    base: Any = {"tokens": None, "results": None} if field == "ids" else {}

    def body(length: int) -> bytes:
        value: Any = ["é"] * length if is_list else "é" * length
        return json.dumps({**COMPLETE[command], **base, field: value}).encode()

    for length in (low, high):
        decode(command, body(length))
        decode(command, slow(body(length)))
    assert refusal(decode, command, body(high + 1)) == f"{field} must be at most {high} {unit}"
    if low:
        assert (
            refusal(decode, command, body(low - 1))
            == f"{field} must be at least {low} {unit if low > 1 else unit[:-1]}"
        )


@both_ways
def test_the_last_of_duplicate_keys_wins(decode: Any):
    command = decode("PUSH", b'{"data":1,"priority":"x","pri\\u006frity":2.0,"data":{"b":1,"b":2}}')
    assert (command.priority, bytes(command.data)) == (2, b'{"b":1,"b":2}')
    assert refusal(decode, "PUSH", b'{"data":1,"priority":2,"priority":"x"}') == "priority must be a number"


@both_ways
def test_a_payload_comes_through_to_the_byte(decode: Any):
    for data in (b"1e999", b"-0.0", b"9" * 5000, b'"\\ud800"', b'{"b": 1.50,\n"a":[ ]}', '"é😀"'.encode(),
                 b'"\\\\ud800"', b'"\\ud83d\\ude00"', b'"\\ud800\\ud83d\\ude00\\udc00"', b'["\\udfff",1]',
                 b'"\\\\\\udC00"', b'"\\n\\u0041\\""', b"null", b'""'):  # fmt: skip
        assert bytes(decode("PUSH", b'{ "data" : %s , "priority":2.0}' % data).data) == data
        assert bytes(decode("ACK", b'{"result":\t%s\r\n}' % data).result) == data
        assert bytes(decode("PUSHB", b'{"jobs":[{"data":%s}]}' % data).jobs[0].data) == data
        assert bytes(decode("ACKB", b'{"ids":["a"],"results":[%s]}' % data).results[0]) == data


@both_ways
@pytest.mark.parametrize("field", ["jobId", "uniqueKey", "groupId"])
def test_a_lone_surrogate_is_no_text_outside_a_payload(decode: Any, field: str):
    assert refusal(decode, "PUSH", f'{{"data":1,"{field}":"\\ud800"}}') == f"{field} must be a string"
    assert refusal(decode, "PUSH", r'{"data":1,"tags":["a","\udc00"]}') == "tags[1] must be a string"
    assert decode("PUSH", f'{{"data":1,"{field}":"\\ud83d\\ude00"}}'.encode()) is not None


@both_ways
def test_a_field_that_a_command_has_not_is_ignored_whatever_its_name(decode: Any):
    assert bytes(decode("PUSH", rb'{"data":1,"\udc00":1}').data) == b"1"


@both_ways
def test_a_job_of_a_batch_is_named_by_its_place(decode: Any):
    assert refusal(decode, "PUSHB", '{"jobs":[{"data":1},{"data":1,"priority":"x"}]}') == (
        "jobs[1]: priority must be a number"
    )
    assert refusal(decode, "PUSHB", '{"jobs":[{"data":1,"repeat":{}}]}') == "jobs[0]: repeat.every is required"
    assert refusal(decode, "PUSHB", '{"jobs":[5]}') == "jobs[0] must be an object"
    assert refusal(decode, "PUSHB", '{"jobs":{}}') == "jobs must be an array"


@both_ways
@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_no_json_is_refused(decode: Any, body: bytes):
    """Wherever the fault is: in a known field, an unknown one, or behind the end."""
    assert refusal(codec_only(decode), "PUSH", body) in ("Invalid JSON body", "Invalid JSON")


def codec_only(decode: Any) -> Any:
    """The entry point of ``decode`` with the very bytes given."""
    if decode is over_http:
        return over_http
    return lambda name, body: codec.decode_message(body)


@pytest.mark.thorough
@both_ways
@pytest.mark.parametrize(
    ("depth", "fits"), [(2, True), (499, True), (500, True), (501, False), (5000, False), (10**6, False)]
)
@pytest.mark.parametrize("shape", ["[]", "{}", "mixed"])
@pytest.mark.parametrize("field", ["data", "unknown"])
def test_a_body_may_be_500_deep(decode: Any, depth: int, fits: bool, shape: str, field: str):
    body = nested(depth, shape, field)
    more = body[:-1] + b',"beside":[[],{},[]]}'  # more brackets than may be deep
    if fits:
        decode("PUSH", body)
        decode("PUSH", more)
    else:
        assert refusal(decode, "PUSH", more) in ("Invalid JSON body", "Invalid JSON")
        assert refusal(decode, "PUSH", body) in ("Invalid JSON body", "Invalid JSON")


@both_ways
def test_brackets_that_do_not_nest_do_not_count(decode: Any):
    side_by_side = b"[" + b"[],{}," * 5000 + b"1]"
    in_texts = b'["' + b"[{" * 5000 + b'","\\"[[[[\\\\","' + b"[" * 5000 + b'"]'
    for data in (side_by_side, in_texts, b'{"' + b"[" * 5000 + b'":1}'):
        assert bytes(decode("PUSH", b'{"data":%s}' % data).data) == data
    deep = b'{"data":["' + b"]" * 600 + b'",' + b"[" * 499 + b"]" * 499 + b"]}"
    assert "JSON" in refusal(decode, "PUSH", deep)
