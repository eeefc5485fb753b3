"""What is no JSON object by RFC 8259 in UTF-8 is refused, wherever in the body the fault is."""

import pytest

from tests.wire import raw
from tests.wire.client import INVALID_BODY, Client, done, ok, refused
from tests.wire.server import Server

MIB = 1024 * 1024

NOT_JSON = {
    "text": b"hello",
    "unclosed object": b'{"data":1',
    "unclosed text": b'{"data":"abc}',
    "unclosed list": b'{"data":[1,2}',
    "trailing comma": b'{"data":1,}',
    "trailing comma in data": b'{"data":[1,]}',
    "leading comma": b'{,"data":1}',
    "no colon": b'{"data" 1}',
    "no value": b'{"data":}',
    "no key": b"{1}",
    "bare key": b"{data:1}",
    "single quotes": b"{'data':1}",
    "two objects": b'{"data":1}{"data":2}',
    "trailing garbage": b'{"data":1} x',
    "trailing null byte": b'{"data":1}\x00',
    "comment": b'{"data":1/* no */}',
    "line comment": b'{"data":1 // no\n}',
    "NaN": b'{"data":NaN}',
    "Infinity": b'{"data":Infinity}',
    "minus Infinity": b'{"data":-Infinity}',
    "nested NaN": b'{"data":{"n":[NaN]}}',
    "leading zero": b'{"data":01}',
    "minus leading zero": b'{"data":-01}',
    "plus": b'{"data":+1}',
    "bare minus": b'{"data":-}',
    "no digit before the point": b'{"data":.5}',
    "no digit after the point": b'{"data":1.}',
    "no exponent": b'{"data":1e}',
    "bare exponent sign": b'{"data":1e+}',
    "hexadecimal": b'{"data":0x10}',
    "underscore": b'{"data":1_000}',
    "half a word": b'{"data":tru}',
    "a word too long": b'{"data":nullx}',
    "capital word": b'{"data":True}',
    "line break in text": b'{"data":"a\nb"}',
    "tab in text": b'{"data":"a\tb"}',
    "null byte in text": b'{"data":"a\x00b"}',
    "unknown escape": b'{"data":"\\x41"}',
    "short escape": b'{"data":"\\u12"}',
    "wrong escape": b'{"data":"\\u12g4"}',
    "capital escape": b'{"data":"\\U00e9"}',
    "escape at the end": b'{"data":"\\"}',
    "form feed between tokens": b'{"data":\x0c1}',
    "no-break space between tokens": '{"data":\u00a01}'.encode(),
    "control character in a key": b'{"data":{"a\x01":1}}',
    "bad number in an unknown field": b'{"data":1,"x":01}',
    "bad escape in an unknown field": b'{"data":1,"x":["\\q"]}',
}

NOT_UTF8 = {
    "stray byte": b'{"data":"\xff"}',
    "latin-1": '{"data":"ä"}'.encode("latin-1"),
    "continuation alone": b'{"data":"\x80"}',
    "cut sequence": b'{"data":"\xe6\x97"}',
    "overlong": b'{"data":"\xc0\xaf"}',
    "surrogate": b'{"data":"\xed\xa0\x80"}',
    "beyond unicode": b'{"data":"\xf4\x90\x80\x80"}',
    "in a key": b'{"data":{"\xff":1}}',
    "in an unknown field": b'{"data":1,"x":"\xff"}',
    "in an unknown key": b'{"data":1,"\xff":1}',
    "in a tag": b'{"data":1,"tags":["\xff"]}',
    "in a key of uniqueness": b'{"data":1,"uniqueKey":"\xff"}',
    "utf-16": '{"data":1}'.encode("utf-16"),
    "utf-16-le": '{"data":1}'.encode("utf-16-le"),
    "utf-32": '{"data":1}'.encode("utf-32"),
}

NOT_AN_OBJECT = [b"[]", b'[{"data":1}]', b"1", b'"data"', b"null", b"true"]


def parametrized(cases: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("body", cases.values(), ids=cases.keys())


def nested(depth: int) -> str:
    """Write a push whose body is this many objects and arrays deep, the outermost counted."""
    return '{"data":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


@pytest.mark.thorough
@parametrized(NOT_JSON)
def test_a_push_that_is_no_json_is_refused(client: Client, queue: str, body: bytes) -> None:
    refused(client.post_bytes(f"/queues/{queue}/jobs", body), 400, INVALID_BODY)
    assert client.pull(queue) is None


@parametrized(NOT_UTF8)
def test_a_push_that_is_no_utf8_is_refused(client: Client, queue: str, body: bytes) -> None:
    refused(client.post_bytes(f"/queues/{queue}/jobs", body))
    assert client.pull(queue) is None


@pytest.mark.parametrize("body", NOT_AN_OBJECT)
def test_a_push_that_is_no_object_is_refused(client: Client, queue: str, body: bytes) -> None:
    refused(client.post_bytes(f"/queues/{queue}/jobs", body))
    assert client.pull(queue) is None


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t "])
def test_an_empty_push_is_refused(client: Client, queue: str, body: bytes) -> None:
    refused(client.post_bytes(f"/queues/{queue}/jobs", body), 400, INVALID_BODY)


@pytest.mark.thorough
@parametrized(NOT_JSON | NOT_UTF8)
def test_a_bulk_push_that_is_no_json_is_refused(client: Client, queue: str, body: bytes) -> None:
    whole = b'{"jobs":[{"data":0},' + body + b"]}"
    refused(client.post_bytes(f"/queues/{queue}/jobs/bulk", whole))
    assert client.pull(queue) is None


@pytest.mark.parametrize("command", ["ack", "fail"])
def test_an_ack_or_fail_that_is_no_json_leaves_the_job_active(client: Client, queue: str, command: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    bad = [*NOT_JSON.values(), *NOT_UTF8.values(), *NOT_AN_OBJECT]
    for body in (body for body in bad if body.strip() != b"null"):  # a spelling of no body
        field = b'"result"' if command == "ack" else b'"error"'
        refused(client.post_bytes(f"/jobs/{job_id}/{command}", body.replace(b'"data"', field)))
    assert client.state(job_id) == "active"
    done(client.post_empty(f"/jobs/{job_id}/{command}"))


@pytest.mark.parametrize("depth", [2, 100, 499, 500])
def test_nesting_of_500_is_taken_and_given_back(client: Client, queue: str, depth: int) -> None:
    body = nested(depth)
    ok(client.push_text(queue, body))
    assert body.removeprefix('{"data":').removesuffix("}") in client.try_pull(queue).text


@pytest.mark.parametrize("depth", [502, 1000, 1001, 5000, 100_000, 1_000_000])
def test_deeper_nesting_is_refused(client: Client, queue: str, depth: int) -> None:
    refused(client.push_text(queue, nested(depth)))
    assert client.pull(queue) is None


@pytest.mark.parametrize(
    "body",
    [
        '{"data":' + '{"a":' * 600 + "1" + "}" * 600 + "}",
        '{"data":' + '[{"a":' * 300 + "1" + "}]" * 300 + "}",
        '{"data":1,"x":' + "[" * 600 + "]" * 600 + "}",
        '{"data":1,"tags":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"data":' + "[" * 100_000,
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=["objects", "mixed", "unknown field", "known field", "unclosed", "only arrays", "only objects"],
)
def test_deep_nesting_is_refused_in_every_form(client: Client, queue: str, body: str) -> None:
    refused(client.push_text(queue, body))
    assert client.pull(queue) is None


def test_a_deep_result_is_refused_and_the_job_stays_active(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    for depth in (502, 100_000):
        body = nested(depth).replace("data", "result")
        refused(client.post_bytes(f"/jobs/{job_id}/ack", body.encode()))
    assert client.state(job_id) == "active"


@pytest.mark.parametrize(
    "data",
    [
        '"' + "[{" * 5000 + '"',
        r'"\"' + "[" * 5000 + '"',
        r'["\\","' + "[" * 5000 + r'\\"]',
        "[" + ",".join(["[]", "{}"] * 5000) + "]",
        '{"' + "[" * 5000 + '":1}',
    ],
    ids=["in a text", "behind an escaped quote", "behind an escaped backslash", "side by side", "in a key"],
)
def test_brackets_that_do_not_nest_do_not_count(client: Client, queue: str, data: str) -> None:
    ok(client.push_text(queue, f'{{"data":{data}}}'))
    assert f":{data}" in client.try_pull(queue).text.replace('"data": ', '"data":')


def body_of(size: int) -> bytes:
    """Write a push of exactly this many bytes."""
    return b'{"data":"' + b"x" * (size - 11) + b'"}'


@pytest.mark.slow
def test_a_body_of_ten_mebibytes_is_taken(client: Client, queue: str) -> None:
    body = body_of(10 * MIB)
    assert len(body) == 10 * MIB
    ok(client.post_bytes(f"/queues/{queue}/jobs", body))
    assert len(client.take(queue).job["data"]) == 10 * MIB - 11


@pytest.mark.slow
@pytest.mark.parametrize("excess", [1, 5 * MIB])
def test_a_larger_body_is_refused_and_others_are_served(
    server: Server, client: Client, queue: str, excess: int
) -> None:
    body = body_of(10 * MIB + excess)
    request = raw.request_bytes("POST", f"/queues/{queue}/jobs", body)
    refused(raw.send_while_reading(server.address, lambda sock: sock.sendall(request)), 413)
    assert client.pull(queue) is None
    assert client.is_known(client.push(queue))


@pytest.mark.slow
def test_a_larger_body_in_chunks_is_refused_and_others_are_served(server: Server, client: Client, queue: str) -> None:
    head = f"POST /queues/{queue}/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    request = head.encode() + chunk * 200 + b"0\r\n\r\n"
    refused(raw.send_while_reading(server.address, lambda sock: sock.sendall(request)), 413)
    assert client.is_known(client.push(queue))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/queues/{queue}/jobs/bulk", "/jobs/{job_id}/ack", "/jobs/{job_id}/fail"])
def test_the_limit_of_a_body_holds_for_every_command(server: Server, client: Client, queue: str, path: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    target = path.format(queue=queue, job_id=job_id)
    request = raw.request_bytes("POST", target, body_of(11 * MIB))
    refused(raw.send_while_reading(server.address, lambda sock: sock.sendall(request)), 413)
    assert client.state(job_id) == "active"


@pytest.mark.parametrize("length", [10 * MIB + 1, 2**31, 2**32 + 5, 10**15, 2**63 - 1])
def test_an_announced_length_beyond_the_limit_is_refused_before_it_is_sent(server: Server, length: int) -> None:
    head = raw.request_bytes("POST", "/queues/q/jobs", length=length)
    refused(raw.send(server.address, head), 413)
