"""The tables of the vocabulary are complete: a command that nobody answers, or a row for nothing, is found here."""

import msgspec
import pytest

from bunqueue_trio.engine.handlers import HANDLERS, READS
from bunqueue_trio.protocol import codec, events
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r

SESSION = {c.Ping, c.Stats, c.StopPull, c.Auth, c.Subscribe, c.Unsubscribe}
CONTRACT_EVENTS = """pushed pulled completed failed progress stalled removed delayed duplicated retried
    waiting-children drained"""


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_every_command_has_one_handler_or_is_a_session_command():
    assert set(c.COMMANDS.values()) == set(HANDLERS) | SESSION
    assert not set(HANDLERS) & SESSION
    assert set(c.EngineCommand.__args__) == set(HANDLERS)
    assert set(c.SessionCommand.__args__) == SESSION


def test_every_command_struct_is_in_the_table_by_its_tag():
    assert subclasses(c.Command) - {c.Command, c.JobSpec} == set(c.COMMANDS.values())
    assert {name: kind.__struct_config__.tag for name, kind in c.COMMANDS.items()} == {
        name: name for name in c.COMMANDS
    }


def test_commands_have_their_documented_names():
    names = """PUSH PUSHB PULL PULLB ACK ACKB FAIL JobHeartbeat JobHeartbeatB ExtendLock Release Progress GetJob
        GetState GetResult Cancel StopPull Subscribe Unsubscribe Ping Auth Stats"""
    assert set(c.COMMANDS) == set(names.split())


def test_reads_are_engine_commands_that_change_nothing():
    assert {c.GetJob, c.GetState, c.GetResult} == READS
    assert set(HANDLERS) >= READS


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


def test_a_job_has_the_fields_of_the_contract_in_its_order():
    sixteen = """id queue data priority createdAt runAt startedAt completedAt attempts maxAttempts backoff progress
        tags lifo removeOnComplete removeOnFail"""
    eight = "id queue data priority createdAt attempts maxAttempts progress"
    assert r.JobView.__struct_encode_fields__ == tuple(sixteen.split())
    assert r.DeliveredJob.__struct_encode_fields__ == tuple(eight.split())
