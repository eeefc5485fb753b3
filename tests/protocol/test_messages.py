"""What only a WebSocket message has (``cmd``, ``reqId``, targets), and what only a request has (its path)."""

import pytest
from msgspec import Raw
from msgspec.structs import fields

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import codec
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import COMMANDS
from bunqueue_trio.protocol.codec import BadMessage


def bad(message: bytes) -> tuple[str, bytes]:
    """The text of the refusal, and the ``reqId`` that its answer echoes."""
    with pytest.raises(BadMessage) as caught:
        codec.decode_message(message)
    assert caught.value.status == 400
    return str(caught.value), bytes(caught.value.req_id)


@pytest.mark.parametrize("message", [b"[]", b"1", b'"x"', b"null", b"{}", b'{"cmd":null}', b'{"cmd":5}', b'{"cmd":["PULL"]}',
                                     b'{"cmd":{}}', b'{"CMD":"PULL"}', b'{"cmd":"\\ud800"}'])  # fmt: skip
def test_what_names_no_command_is_invalid(message: bytes):
    assert bad(message) == ("Invalid command", b"")


@pytest.mark.parametrize("name", ["pull", "X", "", "{}", "Command", "JobSpec", "PULL "])
def test_an_unknown_command_is_named(name: str):
    assert bad(b'{"cmd":"%s","reqId":7}' % name.encode()) == (f"Unknown command: {name}", b"7")


def test_the_name_of_an_unknown_command_is_cut():
    assert bad(b'{"cmd":"%s"}' % (b"x" * 5000)) == ("Unknown command: " + "x" * 100, b"")


@pytest.mark.parametrize(
    "req_id", [b'"req-1"', b"5", b"5.50", b"9" * 400, b'"\\ud800"', '"é"'.encode(), b"null", b'{"a":1}']
)
def test_a_request_id_is_echoed_as_it_came(req_id: bytes):
    assert bytes(codec.decode_message(b'{"cmd":"Ping","reqId":%s}' % req_id).req_id) == req_id
    command = codec.decode_message(b'{"reqId":%s,"cmd":"PUSH","queue":"q","data":1,"priority":2.0}' % req_id)
    assert bytes(command.req_id) == req_id
    assert bad(b'{"cmd":"PUSH","queue":"q","data":1,"priority":"x","reqId":%s}' % req_id)[1] == req_id
    assert bad(b'{"cmd":"X","reqId":%s}' % req_id)[1] == req_id
    assert bad(b'{"reqId":%s}' % req_id) == ("Invalid command", req_id)
    assert bad(b'{"cmd":"ACK","reqId":%s}' % req_id) == ("id is required", req_id)


def test_a_message_without_request_id_has_none():
    assert bytes(codec.decode_message(b'{"cmd":"Ping"}').req_id) == b""


def test_a_message_that_is_too_deep_has_its_request_id_where_it_can_be_read():
    deep = b'{"cmd":"Ping","reqId":1,"x":%s}' % (b"[" * 600 + b"]" * 600)
    assert bad(deep) == ("Invalid JSON", b"1")
    assert bad(deep.replace(b'"reqId":1', b'"y":"\\ud800"'))[0] == "Invalid JSON"


def about(field: str) -> list[str]:
    """The commands that cannot do without ``field``, which HTTP takes from the path."""
    return [name for name, kind in COMMANDS.items() for f in fields(kind) if (f.name, f.default) == (field, "")]


@pytest.mark.parametrize("name", about("id"))
@pytest.mark.parametrize("value", [b"", b',"id":""', b',"id":null'])
def test_a_command_about_a_job_needs_its_id(name: str, value: bytes):
    body = b'{"cmd":"%s","token":"t","duration":1,"progress":1,"priority":1,"delay":1,"message":"m"%s}' % (
        name.encode(),
        value,
    )
    assert bad(body) == ("id is required", b"")


@pytest.mark.parametrize("name", about("queue"))
@pytest.mark.parametrize("value", [b"", b',"queue":""', b',"queue":null'])
def test_a_command_about_a_queue_needs_its_name(name: str, value: bytes):
    needs = {
        "PUSHB": b',"jobs":[]',
        "PULLB": b',"count":1',
        "SetConcurrency": b',"concurrency":1',
        "RateLimit": b',"limit":1',
    }
    more = needs.get(name, b',"state":"failed"' if name in ("GetJobs", "Clean") else b"")
    body = b'{"cmd":"%s"%s%s}' % (name.encode(), more, value)
    assert bad(body) == ("queue is required", b"")


@pytest.mark.parametrize(("field", "cmd"), [("queue", "PULL"), ("id", "ACK")])
@pytest.mark.parametrize("value", [b"5", b"[]", b"true", b'"\\ud800"'])
def test_a_target_is_a_text(field: str, cmd: str, value: bytes):
    assert bad(b'{"cmd":"%s","%s":%s}' % (cmd.encode(), field.encode(), value))[0] == f"{field} must be a string"


def test_the_last_of_two_commands_wins():
    assert type(codec.decode_message(b'{"cmd":"PUSH","queue":"q","cmd":"PULL"}')) is c.Pull


def test_the_path_wins_over_the_body():
    for body in (b'{"data":1,"queue":"other"}', b'{"data":1,"queue":5}', b'{"data":1,"queue":5,"priority":2.0}'):
        assert codec.decode(c.Push, body, queue="mine").queue == "mine"
    assert codec.decode(c.Ack, b'{"id":"other"}', id="mine").id == "mine"


def test_a_request_id_and_a_command_name_in_a_body_mean_nothing():
    assert type(codec.decode(c.Push, b'{"cmd":"PULL","reqId":[5],"data":1}', queue="q")) is c.Push
    assert type(codec.decode(c.Push, b'{"cmd":7,"data":1}', queue="q")) is c.Push


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"', b'[{"data":1}]', b"[1,"])
def test_a_body_is_an_object(body: bytes):
    with pytest.raises(Refused, match=r"^Invalid JSON body$"):
        codec.decode(c.Push, body, queue="q")


def test_a_field_that_is_text_or_list_complains_of_a_list():
    for value in (b"5", b"[5]", b"{}"):
        assert bad(b'{"cmd":"Subscribe","events":%s}' % value)[0] == "events must be an array of strings"
    assert codec.decode_message(b'{"cmd":"Subscribe","events":"*","x":"\\ud800"}') == c.Subscribe(events="*")


def test_white_space_around_values_is_nothing():
    command = codec.decode_message(b' {\t"cmd" : "PUSH",\r\n "queue":"q" , "data" : [ 1 ] , "priority" : 2.0 } \n')
    assert isinstance(command, c.Push)
    assert (command.priority, bytes(command.data)) == (2, b"[ 1 ]")


def test_a_refused_message_has_the_status_of_its_cause():
    cause = Refused(400, "no")
    assert (BadMessage(cause, Raw(b"1")).status, str(BadMessage(cause, Raw(b"1")))) == (400, "no")
