"""Each command with any JSON value in any field: a reply or a refusal that names the field, and nothing changed by it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bunqueue_trio.protocol.catalog import COMMANDS
from tests.fuzz import harness

FIELDS = sorted(
    {field.encode_name for kind in COMMANDS.values() for field in msgspec.structs.fields(kind)} | {"nobody"}
)
few = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
fewer = settings(few, max_examples=4)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=8),
    st.sampled_from([2**53, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, "a" * 300, "q", "job", "*", "\x00", "\ud800", "\udfff\ud800"]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4), max_leaves=8
)  # fmt: skip
ODD = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"1.0",
    b"[" * 600 + b"]" * 600,
    b'{"a":' * 501 + b"1" + b"}" * 501,
    b'"\\ud800"',
    b'"\\u0000"',
    b"01",
]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def texts(draw: st.DrawFn, name: str) -> bytes:
    """One message with the command ``name``; its fields may be doubled, odd or deep."""
    fields = [(b'"cmd"', as_json(name))]
    for key in draw(st.lists(st.sampled_from(FIELDS), max_size=6)):
        raw = draw(st.one_of(values.map(as_json), st.sampled_from(ODD)))
        fields.append((as_json(key), raw))
    plain: dict[str, Any] = {"queue": "q", "data": 1, "id": "job", "ids": ["job"], "token": "t", "reqId": 1, "count": 2}
    plain |= {"jobs": [{"data": 1}], "progress": 5, "duration": 100, "events": "*"}
    for key in draw(st.lists(st.sampled_from(sorted(plain)), unique=True)):
        fields.insert(1, (as_json(key), as_json(plain[key])))
    return b"{" + b",".join(key + b":" + raw for key, raw in fields) + b"}"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.untraced
@fewer
@given(data=st.data())
def test_any_values_in_any_field(name: str, data: st.DataObject):
    harness.messages(data.draw(st.lists(texts(name), min_size=1, max_size=3)))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.untraced
@settings(few, max_examples=100)
@given(data=st.data())
def test_more_values_in_any_field(name: str, data: st.DataObject):
    harness.messages(data.draw(st.lists(texts(name), min_size=1, max_size=3)))


@few
@given(st.lists(st.one_of(st.binary(max_size=60), values.map(as_json)), min_size=1, max_size=4))
def test_any_message_at_all(sent: list[bytes]):
    harness.messages(sent)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_field_with_each_odd_value(name: str):
    kind = COMMANDS[name]
    for field in msgspec.structs.fields(kind):
        for raw in ODD:
            text = b'{"cmd":%s,"queue":"q","id":"x",%s:%s}' % (as_json(name), as_json(field.encode_name), raw)
            harness.codec(text, [kind])
