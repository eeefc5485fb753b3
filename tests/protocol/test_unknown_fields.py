"""A field that is not known is refused where it would make one job many, and ignored everywhere else."""

import json
from typing import Any

import pytest

from bunqueue_trio import errors
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.codec import BadMessage, decode, decode_message
from bunqueue_trio.protocol.routes import refuse_query
from tests.protocol.inputs import complete

STRICT: list[type[c.Command]] = [c.RetryDlq, c.PurgeDlq, c.Drain, c.Clean, c.Obliterate]
strict = pytest.mark.parametrize("kind", STRICT, ids=lambda kind: kind.__name__)
both_looks = pytest.mark.parametrize("limit", [2, 2.0], ids=["quick", "careful"])


def message(kind: type[c.Command], fields: dict[str, Any]) -> bytes:
    return json.dumps({"cmd": kind.__struct_config__.tag, "reqId": 7, "queue": "q"} | fields).encode()


@strict
@both_looks
def test_it_is_refused_by_its_name(kind: type[c.Command], limit: float):
    fields = complete(kind) | {"limit": limit, "jobID": "s1"}
    with pytest.raises(Refused, match=r"^unknown field: jobID$") as caught:
        decode(kind, json.dumps(fields).encode(), queue="q")
    assert (caught.value.status, caught.value.code) == (400, "unknown-field")
    with pytest.raises(BadMessage, match=r"^unknown field: jobID$") as bad:
        decode_message(message(kind, fields))
    assert bytes(bad.value.req_id) == b"7"


@strict
@both_looks
def test_what_every_message_has_is_known(kind: type[c.Command], limit: float):
    sent = message(kind, complete(kind) | {"limit": limit})
    for command in (decode_message(sent), decode(kind, sent, queue="q")):
        assert (type(command), command.queue, command.limit) == (kind, "q", 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [c.PutSchedule, c.PreviewSchedule])
def test_a_schedule_is_never_put_for_another_time_than_was_meant(kind: type[c.Command]):
    fields = {"name": "s", "queue": "q", "every": 5}
    if kind is c.PreviewSchedule:
        fields = {"every": 5}
    assert type(decode(kind, json.dumps(fields).encode())) is kind
    with pytest.raises(Refused, match=r"^unknown field: timeZone$"):
        decode(kind, json.dumps(fields | {"timeZone": "Europe/Berlin"}).encode())


def test_the_path_counts_whatever_queue_the_body_names():
    assert decode(c.Drain, b'{"queue":"b"}', queue="a").queue == "a"


@both_looks
@pytest.mark.parametrize("slip", [{"dryrun": True}, {"filter": {"queue": "q", "tags": ["a"]}}])
def test_a_slip_in_what_is_done_to_many_is_refused(limit: float, slip: dict[str, Any]):
    name = "dryrun" if "dryrun" in slip else "tags"
    said = {"filter": {"queue": "q"}, "action": "cancel", "limit": limit} | slip
    with pytest.raises(Refused, match=rf"^unknown field: {name}$"):
        decode(c.ActOnJobs, json.dumps(said).encode())
    said |= {"filter": {"queue": "q"}}
    if name == "tags":
        assert decode(c.ActOnJobs, json.dumps(said).encode()).filter == c.Filter(queue="q")


def test_all_other_commands_ignore_it():
    refusing = {spec.command for spec in CATALOG if spec.command.__struct_config__.forbid_unknown_fields}
    assert refusing == {
        *STRICT,
        c.ActOnJobs,
        c.PromoteJobs,
        c.PutSchedule,
        c.ChangeSchedule,
        c.PreviewSchedule,
        c.RerunDlq,
        c.SetDefaults,
        c.SetDlqConfig,
        c.SetStallConfig,
        c.BackupStorage,
        c.CheckStorage,
        c.ShrinkStorage,
    }
    assert decode(c.Discard, b'{"reason":1}', id="j").id == "j"


@strict
def test_a_parameter_is_a_field_that_nobody_reads(kind: type[c.Command]):
    for query in ("jobId=s1", "&job%49d=s1", "limit"):
        with pytest.raises(Refused, match=r"^unknown field: (jobId|limit) .in the query") as caught:
            refuse_query(query, kind)
        assert caught.value.code == errors.UNKNOWN_FIELD.code
    refuse_query("&", kind)
    refuse_query("jobId=s1", c.Cancel)
