"""A query is read by the types of the fields that it names."""

import json
from typing import Any

import pytest

from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.openapi import _operation
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.request import request_of
from bunqueue_trio.protocol.routes import Route, query_object

NUMBERS = [
    ("timeout=5", 5),
    ("timeout=5.50", 5.5),
    ("timeout=1e3", 1000.0),
    ("timeout=-1", -1),
    ("timeout=x", "x"),
    ("timeout=", ""),
]


@pytest.mark.parametrize(
    ("query", "value"), [*NUMBERS, ("timeout=05", "05"), ("timeout=1&timeout=2", 2), ("timeout=null", "null")]
)
def test_a_number_is_one_if_it_looks_like_one(query: str, value: object):
    assert json.loads(query_object(query, c.Pull)) == {"timeout": value}


@pytest.mark.parametrize(
    ("query", "kind", "said"),
    [
        ("token=7", c.Heartbeat, {"token": "7"}),
        ("token=true&duration=7", c.Heartbeat, {"token": "true", "duration": 7}),
        ("lifo=true&durable=false&lifo=1", c.Push, {"lifo": 1, "durable": False}),
        ("tags=a&tags=7&tags=c+d%26", c.Push, {"tags": ["a", "7", "c d&"]}),
        ("tags=", c.Push, {"tags": [""]}),
        ("events=completed", c.Subscribe, {"events": ["completed"]}),
        ("nobody=1&&x&dura%74ion=5", c.Heartbeat, {"duration": 5}),
        ("", c.Heartbeat, {}),
    ],
)
def test_a_value_is_what_its_field_wants(query: str, kind: type[c.Command], said: dict[str, Any]):
    assert json.loads(query_object(query, kind)) == said


@pytest.mark.parametrize("query", ["timeout=%zz", "%ff=1", "nobody=%4"])
def test_a_broken_escape_is_refused_wherever_it_is(query: str):
    with pytest.raises(Refused, match="percent-encoding"):
        query_object(query, c.Pull)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_body_is_described_whatever_the_method_if_there_is_something_to_say(method: str):
    described = _operation(Route(method, "/jobs/:id/ack", c.Ack))
    assert described["requestBody"]["required"] is True
    assert "requestBody" not in _operation(Route(method, "/jobs/:id/discard", c.Discard, optional_body=True))


def test_a_slip_in_the_query_of_a_command_that_knows_its_fields_is_refused():
    """Over WebSocket it is, and a preview in another zone than was meant would be worse than none."""
    with pytest.raises(Refused, match="unknown field: timezon"):
        query_object("cron=0+3+*+*+*&timezon=Europe/Berlin", c.PreviewSchedule)
    assert json.loads(query_object("timeout=5&nobody=1", c.Pull)) == {"timeout": 5}


def test_what_is_null_is_not_in_a_query():
    """Before the first page there is no place to go on from."""
    assert request_of(c.ListWorkers, {"limit": 2, "after": None}).target == "/workers?limit=2"


def test_a_request_that_lacks_what_stands_in_its_path_says_which_field():
    with pytest.raises(Refused, match="queue is required"):
        request_of(c.Push, {"data": 1})
