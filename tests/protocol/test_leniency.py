"""What the contract is loose about is taken in every spelling that clients have for it."""

import json

import pytest
from msgspec import structs

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.codec import decode, decode_message

TIMES = [
    (c.Push, "delay", {"data": 1}), (c.Push, "ttl", {"data": 1}), (c.Push, "timeout", {"data": 1}),
    (c.Push, "backoff", {"data": 1}), (c.Pull, "timeout", {}), (c.Pull, "lockTtl", {}),
    (c.Heartbeat, "duration", {}), (c.ExtendLock, "duration", {"token": "t"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "others"), TIMES)
def test_a_fraction_of_a_ms_is_rounded_up(kind: type[c.Command], name: str, others: dict[str, object]) -> None:
    """Clients subtract and divide the times that they send."""
    field = next(f.name for f in structs.fields(kind) if f.encode_name == name)
    assert getattr(decode(kind, json.dumps(others | {name: 4999.87}).encode()), field) == 5000


def test_a_time_that_is_negative_by_a_hair_is_zero() -> None:
    """The due time has passed while the client was counting."""
    assert decode(c.Push, b'{"data":1,"delay":-0.99}').delay == 0
    with pytest.raises(Refused, match="delay must be at least 0"):
        decode(c.Push, b'{"data":1,"delay":-1}')


@pytest.mark.parametrize("value", ['"2026-01-01"', "{}", "true"])
def test_a_time_on_the_clock_says_what_it_counts(value: str) -> None:
    with pytest.raises(Refused, match=r"^until must be a number: ms since 1970$"):
        decode(c.Pause, b'{"until":%s}' % value.encode(), queue="q")
    assert decode(c.Pause, b'{"until":4.5}', queue="q").until == 5


@pytest.mark.parametrize("body", [b'{"data":1,"priority":1.5}', b'{"data":1,"maxAttempts":1.5}'])
def test_what_is_counted_must_be_whole(body: bytes) -> None:
    """A priority between two is a mistake."""
    with pytest.raises(Refused, match="must be an integer"):
        decode(c.Push, body)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_time_without_an_end_is_refused(number: str) -> None:
    """It cannot be rounded."""
    with pytest.raises(Refused, match="delay must be at"):
        decode(c.Push, b'{"data":1,"delay":%s}' % number.encode())


def test_a_byte_order_mark_is_skipped() -> None:
    """Shells and editors on Windows begin a file with it."""
    assert bytes(decode(c.Push, b'\xef\xbb\xbf{"data":1}').data) == b"1"
    assert isinstance(decode_message(b'\xef\xbb\xbf{"cmd":"Ping"}'), c.Ping)


@pytest.mark.parametrize("nothing", [b"", b" ", b"\r\n\t", b"null", b" null\n", b"\xef\xbb\xbf", b"\xef\xbb\xbfnull"])
def test_an_optional_body_has_many_spellings_of_nothing(nothing: bytes) -> None:
    """A push has none: what it needs is in its body."""
    assert decode(c.Ack, nothing, True, id="j").id == "j"
    with pytest.raises(Refused, match="Invalid JSON body"):
        decode(c.Push, nothing)


FAILURES = [
    ('{"message": "x"}', '{"message": "x"}'), ("500", "500"), ("true", "true"), ('["a"]', '["a"]'),
    (r'"a\ud83d!"', r"a\ud83d!"), (r'"\ud83d\ude00\n"', "\U0001f600\n"), (r'{"a":"\udc00"}', r'{"a":"\udc00"}'),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "text"), FAILURES)
def test_a_failure_may_be_reported_as_anything(sent: str, text: str) -> None:
    """A worker has no other way to say it."""
    assert decode(c.Fail, b'{"error":%s}' % sent.encode()).error == text
    message = decode_message(b'{"cmd":"FAIL","id":"j","error":%s}' % sent.encode())
    assert isinstance(message, c.Fail)
    assert message.error == text
    assert decode(c.Progress, b'{"progress":1,"message":%s}' % sent.encode()).message == text
    (one, other) = decode(c.FailBatch, b'{"failures":[{"id":"a","stack":%s},{"id":"b"}]}' % sent.encode()).failures
    assert (one.stack, one.error, other.id, other.stack) == (text, None, "b", None)


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ("5", "failures must be an array"), ("[5]", "failures[0] must be an object"),
        ('[{"id":"a"},{}]', "failures[1]: id is required"), ('[{"id":""}]', "failures[0]: id must be at least 1 character"),
        ('[{"id":"a","retryIn":-5}]', "failures[0]: retryIn must be at least 0"),
        ('[{"id":"a","token":5}]', "failures[0]: token must be a string"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_of_several_failures_is_said(failures: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        decode(c.FailBatch, f'{{"failures":{failures}}}'.encode())
    assert str(refused.value) == said
    assert (
        decode(c.FailBatch, b'{"failures":[{"id":"a","retryIn":4.5,"unrecoverable":null}]}').failures[0].retry_in == 5
    )


@pytest.mark.parametrize("size", [c.TEXT_MAX + 1, 1_000_000])
def test_a_long_error_loses_its_middle(size: int) -> None:
    """What matters of a traceback stands at its ends."""
    error = decode(c.Fail, json.dumps({"error": "begin" + "x" * (size - 8) + "end"}).encode()).error
    assert error is not None
    assert len(error) <= c.TEXT_MAX
    assert error.startswith("begin")
    assert error.endswith("end")
    assert decode(c.Fail, json.dumps({"error": "x" * c.TEXT_MAX}).encode()).error == "x" * c.TEXT_MAX
