"""`data` and `result` come back as they were sent, to the byte; nothing interprets them."""

import json
import re

import pytest

from tests.wire.client import Client, done, ok

DIGITS = "7" * 5000

PAYLOADS = {
    "integer": "1",
    "minus zero": "-0",
    "trailing zero": "1.0",
    "trailing zeros": "100.000",
    "exponent": "1E+2",
    "small exponent": "1e-7",
    "beyond double": "1e999",
    "below double": "-1e-999",
    "beyond 2**53": "9007199254740993",
    "beyond 2**64": "18446744073709551617",
    "precise": "0.1000000000000000055511151231257827021181583404541015625",
    "5000 digits": DIGITS,
    "5000 decimals": "0." + DIGITS,
    "number in a tree": f'{{"n":[1.0,1e999,-0.0,{DIGITS}]}}',
    "key order": '{"z":1,"a":2,"m":{"y":1,"b":2}}',
    "twice the same key": '{"a":1,"a":2}',
    "empty key": '{"":{"":[]}}',
    "escapes": r'"\"\\\/\b\f\n\r\t\u0041\u00e9"',
    "null character": r'"a\u0000b"',
    "lone high surrogate": r'"\ud800"',
    "lone low surrogate": r'{"\udc00":"\uDBFF"}',
    "surrogate pair": r'"\ud83d\ude00"',
    "plain unicode": '"日本語 ä 😀"',
    "line separators": '"\u2028\u2029\ufeff"',
    "delete character": '"\x7f\x80"',
    "html": '"<script>&amp;</script>"',
    "brackets in text": '"]}{[\\"]}"',
    "an answer": '{"ok":false,"error":"no","job":null,"token":null}',
    "a push": '{"data":{"data":1},"priority":5,"jobId":"x"}',
    "empty text": '""',
    "null": "null",
    "lists": "[[],[[]],{},[{}]]",
}

any_payload = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())


def values(text: str, field: str) -> list[str]:
    """Return what stands directly behind each `"field":` of an answer, to the end."""
    return [text[match.end() :] for match in re.finditer(rf'"{field}"\s*:\s*', text)]


def carries(text: str, field: str, payload: str) -> bool:
    """Say whether a field of an answer has this payload, and then ends."""
    return any(rest.startswith(payload) and rest[len(payload) :].lstrip()[0] in ",}]" for rest in values(text, field))


@any_payload
def test_data_comes_back_to_the_byte(client: Client, queue: str, payload: str) -> None:
    job_id = ok(client.push_text(queue, f'{{"data":{payload}}}'))["id"]
    assert carries(client.get(f"/jobs/{job_id}").text, "data", payload)
    assert carries(client.try_pull(queue).text, "data", payload)


@any_payload
def test_data_comes_back_to_the_byte_from_a_batch(client: Client, queue: str, payload: str) -> None:
    body = f'{{"jobs":[{{"data":{payload}}},{{"priority":-1,"data":{payload},"lifo":true}}]}}'
    ok(client.post_bytes(f"/queues/{queue}/jobs/bulk", body.encode()))
    answer = client.post(f"/queues/{queue}/jobs/pull-batch", {"count": 5})
    matching = [rest for rest in values(answer.text, "data") if rest.startswith(payload)]
    assert len(matching) >= 2


@any_payload
def test_a_result_comes_back_to_the_byte(client: Client, queue: str, payload: str) -> None:
    job_id = client.push(queue)
    client.take(queue)
    done(client.post_bytes(f"/jobs/{job_id}/ack", f'{{"result":{payload}}}'.encode()))
    assert carries(client.get(f"/jobs/{job_id}/result").text, "result", payload)


def test_results_of_a_batch_come_back_to_the_byte(client: Client, queue: str) -> None:
    payloads = ["1.0", DIGITS, r'"\ud800"', '{"z":1e999,"a":-0}']
    ids = client.push_bulk(queue, [{"data": n} for n in range(4)])
    client.pull_batch(queue, count=4)
    body = f'{{"ids":{json.dumps(ids)},"results":[{",".join(payloads)}]}}'
    done(client.post_bytes("/jobs/ack-batch", body.encode()))
    for job_id, payload in zip(ids, payloads, strict=True):
        assert carries(client.get(f"/jobs/{job_id}/result").text, "result", payload)


def test_data_is_the_same_in_every_attempt(client: Client, queue: str) -> None:
    payload = PAYLOADS["number in a tree"]
    job_id = ok(client.push_text(queue, f'{{"backoff":0,"data":{payload}}}'))["id"]
    for _ in range(2):
        assert carries(client.try_pull(queue, 5000).text, "data", payload)
        done(client.fail(job_id))
    assert carries(client.get(f"/jobs/{job_id}").text, "data", payload)


@pytest.mark.parametrize("field", ["priority", "delay", "maxAttempts", "backoff", "ttl", "timeout"])
@pytest.mark.parametrize("number", ["1e999", "-1e999", DIGITS])
def test_numbers_beyond_reason_are_refused_outside_of_data(client: Client, queue: str, field: str, number: str) -> None:
    response = client.push_text(queue, f'{{"data":1,"{field}":{number}}}')
    assert response.status_code == 400
    assert set(response.json()) == {"ok", "error", "code"}


@pytest.mark.parametrize(
    "field", ['"jobId":"\\ud800"', '"uniqueKey":"a\\udc00"', '"groupId":"\\udfff"', '"tags":["x","\\ud800"]']
)
def test_lone_surrogates_are_refused_outside_of_data(client: Client, queue: str, field: str) -> None:
    response = client.push_text(queue, f'{{"data":1,{field}}}')
    assert response.status_code == 400
    assert set(response.json()) == {"ok", "error", "code"}
    assert client.pull(queue) is None


def test_escaped_fields_mean_what_their_plain_form_means(client: Client, queue: str) -> None:
    body = r'{"d\u0061ta":1,"t\u0061gs":["\ud83d\ude00\u00e4"],"pri\u006frity":3}'
    job = client.job(ok(client.push_text(queue, body))["id"])
    assert (job["data"], job["tags"], job["priority"]) == (1, ["😀ä"], 3)


def test_white_space_around_tokens_changes_nothing(client: Client, queue: str) -> None:
    body = ' \t\r\n{ "data" :\t[ 1 , 2 ] ,\r\n "priority" : 4 } \n'
    job = client.job(ok(client.push_text(queue, body))["id"])
    assert (job["data"], job["priority"]) == ([1, 2], 4)


def test_an_ack_without_a_result_has_none(client: Client, queue: str) -> None:
    job_id = client.push(queue)
    client.complete(queue, job_id)
    answer = ok(client.get(f"/jobs/{job_id}/result"))
    assert answer.get("result") is None


@pytest.mark.slow
def test_a_payload_of_megabytes_comes_back_to_the_byte(client: Client, queue: str) -> None:
    payload = json.dumps(["äöü😀" * 500, *range(20_000)] * 20)
    assert len(payload) > 2_000_000
    ok(client.push_text(queue, f'{{"data":{payload}}}'))
    assert carries(client.try_pull(queue).text, "data", payload)
