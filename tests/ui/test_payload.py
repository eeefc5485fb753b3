"""Payloads on a page: indented, cut, masked, and never a reason not to show the page."""

import json

import pytest
from msgspec import Raw

from bunqueue_trio.ui.payload import MASK, PARSED_BYTES, WHOLE_BYTES, common, show

KEYS = frozenset({"password", "token", "api_key"})


def shown(value: str, chars: int | None = 4000) -> str:
    return show(Raw(value.encode("utf-8", "surrogatepass")), KEYS, chars).text


def test_numbers_stay_as_they_were_sent():
    assert shown('{"a":1.0,"b":1e400,"c":123456789012345678901234567890}').split() == [
        "{", '"a":', "1.0,", '"b":', "1e400,", '"c":', "123456789012345678901234567890", "}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        '{"password":"hunter2"}', '{"PassWord":"hunter2"}', '{"a":{"b":[{"token":"hunter2"}]}}', '{"p\\u0061ssword":"hunter2"}',
        '{"password":{"old":"hunter2","new":["hunter2"]},"x":1}', '{"token":[["hunter2"],{"a":"hunter2"}],"x":1}',
        '{"token" : "hunter2"}', '{"api_key":"\\"hunter2"}', '{"password":"hunter2","password":"hunter2"}', '{"token":"hunter2,"}',
        '{"a\\"":1,"token":"hunter2"}', '{"\\u0074\\u006f\\u006b\\u0065\\u006e":"hunter2"}', '{"x":[{"y":1},{"token":"hunter2"}]}',
    ],
)  # fmt: skip
def test_what_is_to_be_hidden_is_hidden(value: str):
    assert "hunter2" not in shown(value)
    assert MASK in shown(value)
    assert "hunter2" not in shown(value, None)


def test_what_is_hidden_leaves_a_payload_that_can_be_read():
    value = '{"password":{"a":[1,{"b":2}]},"token":"x","list":[1,2],"api_key":null,"last":{"token":[1]}}'
    assert json.loads(shown(value)) == {
        "password": MASK, "token": MASK, "list": [1, 2], "api_key": MASK, "last": {"token": MASK}
    }  # fmt: skip


def test_a_word_in_a_value_is_no_key():
    assert "token" in shown('{"a":"token","b":["password"]}')
    assert shown('["x\\", \\"token\\": 1"]').count(MASK) == 0


@pytest.mark.parametrize("cut", range(0, 260, 7))
def test_a_cut_hides_no_less(cut: int):
    value = '{"a":"' + "x" * 40 + '","password":{"deep":["hunter2","hunter2"]},"token":"hunter2 hunter2 hunter2"}'
    assert "hunter" not in show(Raw(value.encode()), KEYS, cut).text


def test_long_ones_are_cut_and_longer_ones_are_not_shown():
    some = show(Raw(json.dumps("x" * 10_000).encode()), KEYS)
    assert (len(some.text), some.is_cut, some.is_too_large) == (4000, True, False)
    large = Raw(json.dumps("x" * (WHOLE_BYTES + 1)).encode())
    assert show(large, KEYS, None).is_too_large
    assert not show(large, KEYS).is_too_large
    assert show(Raw(json.dumps("x" * PARSED_BYTES).encode()), KEYS).is_too_large


@pytest.mark.parametrize("value", ["[" * 480 + "]" * 480, '"\\ud800"', "null", '"\ud800"', "{}", "[]", '""'])
def test_odd_ones_do_not_break_the_page(value: str):
    assert isinstance(shown(value).encode("utf-8", "replace"), bytes)


def test_what_payloads_have_in_common():
    payloads = [Raw(b'{"tenant":"acme","n":%d,"list":[1],"token":"same"}' % n) for n in range(5)]
    found = dict(common(payloads, KEYS))
    assert found == {"tenant": '"acme"', "token": MASK}
    assert common([Raw(b'{"a":1}'), Raw(b"[1]")], KEYS) == []
    assert common([Raw(b'{"a":1}'), Raw(b'{"a":2}')], KEYS) == []
    assert common([], KEYS) == []
