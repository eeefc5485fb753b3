"""The tables of the vocabulary are complete: a command that nobody answers, or a row for nothing, is found here."""

import json
import re

import msgspec
import pytest

from bunqueue_trio.engine.commands import HANDLERS
from bunqueue_trio.protocol import codec, events
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import CATALOG, COMMANDS, SESSION
from bunqueue_trio.protocol.commands.spec import Again, Does, Spec
from bunqueue_trio.protocol.request import fields_of, has_tokens

CONTRACT_EVENTS = """pushed pulled completed failed progress stalled removed delayed duplicated retried
    waiting-children drained"""


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_every_command_struct_is_in_the_catalogue_by_its_tag():
    assert (
        subclasses(c.Command) - {c.Command, c.PushSpec, c.JobSpec}
        == set(COMMANDS.values())
        == {s.command for s in CATALOG}
    )
    assert all(kind.__struct_config__.tag == name for name, kind in COMMANDS.items())


def test_the_catalogue_is_divided_into_those_with_a_handler_and_those_of_a_session():
    assert set(HANDLERS) | SESSION == set(COMMANDS.values())
    assert not set(HANDLERS) & SESSION
    assert set(c.SessionCommand.__args__) == SESSION


@pytest.mark.parametrize("spec", CATALOG, ids=lambda spec: spec.tag)
def test_a_row_is_whole(spec: Spec):
    """What is said of a command fits its struct: the names in its path, its example, its reply."""
    assert (spec.command.__doc__ or "").split("\n")[0].endswith(".")
    assert issubclass(spec.reply, r.Reply)
    assert spec.http is not None or spec.does is Does.SESSION
    names = re.findall(r":(\w+)", spec.http.path if spec.http else "")
    assert set(names) <= set(spec.command.__struct_fields__)
    if spec.example is not None:
        codec.decode(spec.command, codec.encode(spec.example.request), True, **dict.fromkeys(names, "x"))
        reply = msgspec.json.decode(codec.encode(spec.example.answer), type=spec.reply)
        assert set(spec.example.answer) == set(json.loads(codec.encode(reply)))


def test_what_may_be_repeated():
    """Nothing that would take effect twice; with the lock token of its delivery a report cannot."""
    sure = {spec.tag for spec in CATALOG if spec.again is not Again.NEVER}
    assert not sure & {"PUSH", "PUSHB", "ACK", "ACKB", "FAIL", "FAILB"}
    for spec in CATALOG:
        assert spec.does is not Does.READS or spec.again is Again.FREELY
        assert spec.again_with_token is None or {"token", "tokens", "failures"} & set(spec.command.__struct_fields__)


def test_failures_may_be_repeated_when_each_has_its_token():
    both = [c.Failure(id="a", token="s"), c.Failure(id="b", token="t")]
    for failures, has in ((both, True), ([], True), ([*both, c.Failure(id="c")], False)):
        assert has_tokens(fields_of(c.FailBatch(failures=failures))) is has
    assert has_tokens({"failures": [{"id": "a", "token": "t"}]})
    assert not has_tokens({"failures": [{"id": "a", "token": None}]})


def test_events_are_the_twelve_of_the_contract():
    assert set(CONTRACT_EVENTS.split()) == events.EVENT_TYPES
    assert len(events.EVENT_TYPES) == 12


def test_an_event_has_only_the_fields_of_its_type():
    event = events.Event("pulled", "q", "id", 5)
    assert codec.encode(event) == b'{"eventType":"pulled","queue":"q","jobId":"id","timestamp":5}'
    event.prev, event.data = "active", msgspec.Raw(b'{"b":1.0}')
    assert codec.encode(event).endswith(b'"timestamp":5,"data":{"b":1.0},"prev":"active"}')


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (r.OK, b'{"ok":true}'),
        (r.EMPTY_PULL, b'{"ok":true,"job":null,"token":null}'),
        (r.PushReply(id="x"), b'{"ok":true,"id":"x"}'),
        (r.ErrorReply(error="no"), b'{"ok":false,"error":"no"}'),
        (r.ResultReply(id="x", result=msgspec.Raw(b"1.50")), b'{"ok":true,"id":"x","result":1.50}'),
    ],
)
def test_a_reply_is_the_body_of_the_contract(reply: msgspec.Struct, text: bytes):
    assert codec.encode(reply) == text


@pytest.mark.parametrize(
    ("reply", "size"),
    [
        (r.PushReply(id="x"), 0),
        (r.PushBatchReply(ids=["abc", "de"]), 5),
        (r.OK, 0),
        (r.PullReply(job=r.DeliveredJob("i", "q", msgspec.Raw(b"12345"), 0, 0, 0, 0, 0), token="t"), 5),
        (r.ResultReply(id="x", result=msgspec.Raw(b"123"), state="completed"), 3),
        (r.DataReply(data={"lostIds": ["abc", "de"]}), 12),
        (r.ErrorReply(error="no"), 2),
    ],
)
def test_the_size_of_any_reply_is_known_before_it_is_encoded(reply: r.Reply, size: int):
    assert r.payload_size(reply) == size


def test_a_job_has_the_fields_of_the_contract_in_its_order():
    sixteen = """id queue data priority createdAt runAt startedAt completedAt attempts maxAttempts backoff progress
        tags lifo removeOnComplete removeOnFail"""
    eight = "id queue data priority createdAt attempts maxAttempts progress"
    # The name, which the contract does not know, is left out where there is none.
    assert r.JobView.__struct_encode_fields__ == (*sixteen.split(), "name")
    assert r.DeliveredJob.__struct_encode_fields__ == (*eight.split(), "name")


def test_what_can_be_found_can_be_acted_on():
    """The fields of a filter stand twice, since a command is a kind of struct that cannot have a second one below it."""
    found = {field.name: (field.type, field.default) for field in msgspec.structs.fields(c.FindJobs)}
    acted_on = {field.name: (field.type, field.default) for field in msgspec.structs.fields(c.Filter)}
    assert {name: found[name] for name in acted_on} == acted_on
    assert found.keys() - acted_on.keys() == {"req_id", "count", "limit", "after"}
