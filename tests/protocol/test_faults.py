"""Every kind of refusal has a code of its own, and clients tell the kinds apart by it; by the text only where that is the reference's."""

import json
import re

import msgspec
import pytest

from bunqueue_trio import errors
from bunqueue_trio.errors import ConnectionLost, Fault, Refused, ServerUnavailable
from bunqueue_trio.protocol import codec
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.codec import BadMessage
from bunqueue_trio.protocol.commands import Promote, Push
from bunqueue_trio.protocol.commands.base import MS
from bunqueue_trio.protocol.faults import _TIMES, FAULTS, PASSING, error_of, error_reply, fault_of

LITERAL = {
    "invalid-json-body": (400, "Invalid JSON body"),
    "unauthorized": (401, "Unauthorized"),
    "invalid-token": (401, "Invalid token"),
    "not-found": (404, "Not found"),
    "job-not-found": (404, "Job not found"),
    "rate-limited": (429, "Rate limit exceeded"),
    "not-active": (400, "Job not found or not active"),
}
"""What the reference of the HTTP API says, to the letter: these answers to its commands have nothing beside ``ok`` and ``error``."""


def test_codes_are_words_and_each_is_of_one_kind():
    declared = [fault for fault in vars(errors).values() if isinstance(fault, Fault)]
    declared += {fault: None for spec in CATALOG for fault in spec.refuses if fault not in declared}
    assert {fault.code: fault for fault in declared} == FAULTS
    assert len(FAULTS) == len(declared)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in FAULTS)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_an_exception_and_an_answer_say_the_code(fault: Fault):
    refused = fault.refuse("x", "must be a number") if "{}" in fault.message else fault.refuse()
    assert (refused.status, refused.code) == (fault.status, fault.code)
    said = {"ok": False, "error": str(refused)}
    coded = said | {"code": fault.code}
    for command in (None, Push, "stats"):
        answer = json.loads(codec.encode(error_reply(refused, command)))
        assert answer == (said if fault.code in LITERAL else coded)
    # The reference has no such command; who has no right token, or asks too often, has asked for none.
    answer = json.loads(codec.encode(error_reply(refused, Promote)))
    assert answer == (said if fault.code in LITERAL and fault.status in (401, 429) else coded)


def test_a_text_is_the_reference_s_or_comes_with_its_code():
    assert {fault.code: (fault.status, fault.message) for fault in FAULTS.values() if fault.literal} == LITERAL
    assert {errors.LITERAL[text].code: (errors.LITERAL[text].status, text) for text in errors.LITERAL} == LITERAL


def test_a_literal_text_among_others_comes_with_its_code():
    refused = Refused(400, f"jobs[3]: {errors.NOT_ACTIVE.message}", errors.NOT_ACTIVE.code)
    assert codec.encode(error_reply(refused)).endswith(b'"code":"not-active"}')


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_client_decides_by_the_code_and_by_no_text_but_the_reference_s(fault: Fault):
    text = str(fault.refuse("a\nb", "c") if "{}" in fault.message else fault.refuse())
    assert fault_of("worded anew", fault.code) is fault
    assert fault_of(text, None) is (fault if fault.code in LITERAL else None)
    for error in [error_of("worded anew", fault.code)] + [error_of(text, None)] * (fault.code in LITERAL):
        if fault is errors.NOT_COMMITTED:
            assert isinstance(error, ConnectionLost)
        elif fault.status in PASSING:
            assert isinstance(error, ServerUnavailable)
            assert error.code == fault.code
        else:
            assert isinstance(error, Refused)
            assert (error.status, error.code) == (fault.status, fault.code)


def test_what_is_not_known_is_refused_with_what_is_known():
    later = error_of("in a later version", "of-a-later-version", status=409)
    assert isinstance(later, Refused)
    assert (later.status, later.code, str(later)) == (409, "of-a-later-version", "in a later version")
    busy = error_of("busy", None, status=503, retry_after=2)
    assert isinstance(busy, ServerUnavailable)
    assert (busy.retry_after, busy.code) == (2, "")
    unknown = error_of("no", None)
    assert isinstance(unknown, Refused)
    assert (unknown.status, unknown.code) == (400, "")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"{", "invalid-json"),
        (b'{"cmd":"Nope"}', "unknown-command"),
        (b'{"cmd":"ACK"}', "invalid-field"),
        (b'{"cmd":"Progress","id":"x","progress":"x"}', "invalid-field"),
    ],
)
def test_a_bad_message_knows_its_code(message: bytes, code: str):
    with pytest.raises(BadMessage) as caught:
        codec.decode_message(message)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("delay must be at most 31536000000", "delay must be at most 31536000000 ms, which is 365 d"),
        ("jobs[3]: maxAttempts must be at most 1000", "jobs[3]: max_attempts must be at most 1000"),
        ("backoff.maxDelay must be at most 86400000", "backoff.max_delay must be at most 86400000 ms, which is 1 d"),
        ("failures[2]: retryIn must be at least 0", "failures[2]: retry_in must be at least 0 ms"),
        ("timeout must be at most 60000", "timeout must be at most 60000 ms, which is 1 min"),
        ("lockTtl must be at least 1", "lease (lock_ttl) must be at least 1 ms"),
        ("timeout must be a number", "timeout must be a number"),
        ("limit must be at most 1000", "limit must be at most 1000"),
    ],
)
def test_a_bound_of_a_time_has_its_unit(text: str, told: str):
    """Whoever said it in seconds is not to take the ms of the server for them."""
    assert str(error_of(text, errors.INVALID_FIELD.code)) == told


def test_all_times_of_commands_are_known_as_such():
    """But for a jitter, which is a share in a backoff."""
    times = set()
    for spec in CATALOG:
        for field in msgspec.inspect.type_info(spec.command).fields:  # type: ignore[attr-defined]
            kinds = [field.type, *getattr(field.type, "types", ())]
            times |= {field.name for kind in kinds if isinstance(kind, msgspec.inspect.Metadata) and kind.extra == MS}
    assert times - {"jitter"} <= _TIMES
    assert len(times) > 10
