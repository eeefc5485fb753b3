"""Where a refusal has a code, and where it is the reference's to the letter."""

import json
import re
from typing import Any

import pytest
from websockets.sync.client import connect

from bunqueue_trio.errors import LITERAL
from bunqueue_trio.protocol.catalog import CATALOG
from bunqueue_trio.protocol.commands import GetTimeline
from bunqueue_trio.protocol.commands.spec import Spec
from bunqueue_trio.protocol.faults import FAULTS
from tests.patience import PATIENCE_S
from tests.protocol.inputs import complete
from tests.wire import raw
from tests.wire.server import Server

# What happened to a job that is gone may be known still.
OF_A_JOB = [spec for spec in CATALOG if "id" in spec.command.__struct_fields__ and spec.command is not GetTimeline]


def judge(spec: Spec, said: dict[str, Any]) -> None:
    assert said.pop("ok") is False
    is_shown = spec.contract and said["error"] in LITERAL
    fault = LITERAL[said["error"]] if is_shown else FAULTS[said.pop("code")]
    assert fault in spec.refuses or fault.code == "invalid-field"
    assert set(said) == {"error"}


@pytest.mark.parametrize("spec", OF_A_JOB, ids=lambda spec: spec.tag)
def test_a_job_that_is_not_there(server: Server, spec: Spec):
    fields = complete(spec.command)
    assert spec.http is not None
    path = re.sub(r":\w+", "nobody", spec.http.path)
    body = b"" if spec.http.method == "GET" else json.dumps(fields).encode()
    judge(spec, raw.request(server.address, spec.http.method, path, body).json())
    with connect(f"ws{server.url.removeprefix('http')}/ws", open_timeout=PATIENCE_S) as socket:
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
    assert answer == {"ok": False, "error": "Invalid JSON body"} | (
        {} if spec.contract else {"code": "invalid-json-body"}
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/queues/q/jobs", b'{"data":1,"delay":-1}', 400, ("delay must be at least 0", "invalid-field")),
        ("POST", "/queues/a%20b/jobs", b'{"data":1}', 400, ("Queue name contains invalid characters", "invalid-queue")),
        ("GET", "/queues/q/jobs?timeout=x", b"", 400, ("timeout must be a number", "invalid-field")),
        ("GET", "/jobs/nobody", b"", 404, ("Job not found", None)),
        ("DELETE", "/jobs/nobody", b"", 404, ("Job not found", None)),
        ("POST", "/jobs/nobody/ack", b"", 400, ("Job not found or not active", None)),
        ("POST", "/jobs/nobody/fail", b'{"retryIn":"x"}', 400, ("retryIn must be a number", "invalid-field")),
        ("POST", "/stats", b"", 405, ("Method not allowed", "method-not-allowed")),
        ("GET", "/nowhere", b"", 404, ("Not found", None)),
    ],
)
def test_what_the_reference_does_not_say_has_a_code(
    server: Server, method: str, path: str, body: bytes, status: int, said: tuple[str, str | None]
):
    answer = raw.request(server.address, method, path, body)
    text, code = said
    assert (answer.status_code, answer.json()) == (
        status,
        {"ok": False, "error": text} | ({"code": code} if code else {}),
    )


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ('{"cmd":"PUSH","queue":"q"}', ("data is required", "invalid-field")),
        ('{"cmd":"PULL","queue":"q","timeout":-1}', ("timeout must be at least 0", "invalid-field")),
        ('{"cmd":"ACK","id":"nobody"}', ("Job not found or not active", None)),
        ("{", ("Invalid JSON", "invalid-json")),
        ('{"cmd":"Nope"}', ("Unknown command: Nope", "unknown-command")),
    ],
)
def test_messages_are_refused_with_a_code_too(server: Server, message: str, said: tuple[str, str | None]):
    with connect(f"ws{server.url.removeprefix('http')}/ws", open_timeout=PATIENCE_S) as socket:
        socket.send(message)
        text, code = said
        assert json.loads(socket.recv(30)) == {"ok": False, "error": text} | ({"code": code} if code else {})
