"""Where a refusal has a code, and where it is the reference's to the letter."""

import json
import re
from typing import Any

import pytest
from websockets.sync.client import connect

from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.commands.spec import Spec
from bunqueue_trio.protocol.faults import FAULTS
from tests.protocol.inputs import complete
from tests.wire import raw
from tests.wire.server import Server

OF_A_JOB = [spec for spec in CATALOG if "id" in spec.command.__struct_fields__]
LITERAL = {"PUSH", "PULL", "ACK", "FAIL", "GetJob", "Cancel", "Stats", "Auth"}
"""What the reference shows."""


def judge(spec: Spec, said: dict[str, Any]) -> None:
    assert said.pop("ok") is False
    fault = FAULTS[said.pop("code")] if spec.tag not in LITERAL else None
    assert fault is None or fault in spec.refuses or fault.code == "invalid-field"
    assert set(said) == {"error"}


def test_the_literal_ones_are_those_of_the_reference():
    assert {spec.tag for spec in CATALOG if spec.contract} == LITERAL


@pytest.mark.parametrize("spec", OF_A_JOB, ids=lambda spec: spec.tag)
def test_a_job_that_is_not_there(server: Server, spec: Spec):
    fields = complete(spec.command)
    assert spec.http is not None
    path = re.sub(r":\w+", "nobody", spec.http.path)
    body = b"" if spec.http.method == "GET" else json.dumps(fields).encode()
    judge(spec, raw.request(server.address, spec.http.method, path, body).json())
    with connect(f"ws{server.url.removeprefix('http')}/ws") as socket:
        socket.send(json.dumps({"cmd": "Subscribe", "events": []}))
        socket.recv(30)
        socket.send(json.dumps({"cmd": spec.tag, "id": "nobody"} | fields))
        judge(spec, json.loads(socket.recv(30)))


@pytest.mark.parametrize(
    "spec", [spec for spec in CATALOG if spec.http and spec.http.method == "POST"], ids=lambda s: s.tag
)
def test_a_body_that_is_none(server: Server, spec: Spec):
    assert spec.http is not None
    answer = raw.request(server.address, "POST", re.sub(r":\w+", "x", spec.http.path), b"{").json()
    expected = {"ok": False, "error": "Invalid JSON body"}
    assert answer == (expected if spec.tag in LITERAL else expected | {"code": "invalid-json-body"})
