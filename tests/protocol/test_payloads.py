"""What a program gives as payload, and what of it JSON cannot say."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest

from bunqueue_trio.commands import payload
from bunqueue_trio.protocol.options import push_fields
from bunqueue_trio.protocol.payloads import payload_of


class Struct(msgspec.Struct):
    """A struct with something in it."""

    value: Any


@dataclass
class Data:
    """A dataclass with something in it."""

    value: Any
    unset: Any = field(init=False)


@attrs.define
class Attrs:
    """An object of attrs with something in it."""

    value: Any


KINDS = [lambda each: each, lambda each: {"a": [1, each]}, lambda each: (None, each), Struct, Data, Attrs]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_json_does_not_know_is_refused(kind: Any, number: float):
    for encode in (payload_of, payload, lambda value: push_fields(value, {}, lambda: "id")):
        with pytest.raises(ValueError, match=f"JSON has no number {number}"):
            encode(kind(number))
    with pytest.raises(ValueError, match="JSON has no number"):
        payload_of([kind({number})])


@pytest.mark.parametrize("some", [{"b", "a"}, frozenset({1})])
@pytest.mark.parametrize("kind", KINDS)
def test_a_set_is_refused_where_its_order_matters(kind: Any, some: Any):
    with pytest.raises(TypeError, match="a set has another order in each process"):
        payload_of(kind(some), stable=True)
    assert bytes(payload_of(kind(some))) == msgspec.json.encode(kind(some))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [None, 1.5, "nan", True, b"x"],
        {"null": [Decimal("NaN")]},
        (Struct(None), Data([])),
        msgspec.Raw(b"[null]"),
    ],
)
def test_anything_else_is_as_it_was(value: Any):
    assert bytes(payload_of(value, stable=True)) == msgspec.json.encode(value)


def test_what_leads_to_itself_is_refused_as_before():
    ring: list[Any] = [None]
    ring.append(ring)
    with pytest.raises(RecursionError):
        payload_of(ring, stable=True)
