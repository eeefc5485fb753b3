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
    assert (bytes(bad.value.req_id), bad.value.kind) == (b"7", kind)


@strict
@both_looks
def test_what_every_message_has_is_known(kind: type[c.Command], limit: float):
    sent = message(kind, complete(kind) | {"limit": limit})
    for command in (decode_message(sent), decode(kind, sent, queue="q")):
        assert (type(command), command.queue, command.limit) == (kind, "q", 2)  # type: ignore[attr-defined]


def test_the_path_counts_whatever_queue_the_body_names():
    assert decode(c.Drain, b'{"queue":"b"}', queue="a").queue == "a"


def test_all_other_commands_ignore_it():
    assert {spec.command for spec in CATALOG if spec.command.__struct_config__.forbid_unknown_fields} == set(STRICT)
    assert decode(c.Cancel, b'{"reason":1}', id="j").id == "j"


@strict
def test_a_parameter_is_a_field_that_nobody_reads(kind: type[c.Command]):
    for query in ("jobId=s1", "&job%49d=s1", "limit"):
        with pytest.raises(Refused, match=r"^unknown field: (jobId|limit) .in the query") as caught:
            refuse_query(query, kind)
        assert caught.value.code == errors.UNKNOWN_FIELD.code
    refuse_query("&", kind)
    refuse_query("jobId=s1", c.Cancel)
