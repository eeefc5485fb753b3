"""Every kind of refusal has a code of its own, and clients tell the kinds apart by it; by the text only without one."""

import re

import pytest

from bunqueue_trio import errors
from bunqueue_trio.errors import ConnectionLost, Fault, Refused, ServerUnavailable
from bunqueue_trio.protocol import codec
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.codec import BadMessage
from bunqueue_trio.protocol.faults import FAULTS, PASSING, error_of, fault_of
from bunqueue_trio.protocol.replies import error_reply


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
    assert codec.encode(error_reply(refused, coded=True)).endswith(b'"code":"%s"}' % fault.code.encode())
    assert b"code" not in codec.encode(error_reply(refused, coded=False))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_client_knows_a_refusal_by_its_code_and_by_its_text(fault: Fault):
    text = str(fault.refuse("a\nb", "c") if "{}" in fault.message else fault.refuse())
    assert fault_of("worded anew", fault.code) is fault
    for error in (error_of("worded anew", fault.code), error_of(text, None)):
        if fault is errors.NOT_COMMITTED:
            assert isinstance(error, ConnectionLost)
        elif fault.status in PASSING:
            assert isinstance(error, ServerUnavailable)
            assert error.code == fault.code
        else:
            assert isinstance(error, Refused)
            assert (error.status, error.code) == (
                fault.status,
                fault.code if fault is not errors.INVALID_FIELD or str(error) == "worded anew" else "",
            )


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
    ("message", "kind", "code"),
    [
        (b"{", None, "invalid-json"),
        (b'{"cmd":"Nope"}', None, "unknown-command"),
        (b'{"cmd":"ACK"}', "ACK", "invalid-field"),
        (b'{"cmd":"Progress","id":"x","progress":"x"}', "Progress", "invalid-field"),
    ],
)
def test_a_bad_message_knows_its_command_and_its_code(message: bytes, kind: str | None, code: str):
    with pytest.raises(BadMessage) as caught:
        codec.decode_message(message)
    assert caught.value.code == code
    assert (caught.value.kind and caught.value.kind.__struct_config__.tag) == kind
