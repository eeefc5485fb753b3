"""The description of the HTTP interface: whole, true, and attacked with what it says."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bunqueue_trio.pages.openapi import EXAMPLES, REPLIES, document
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.codec import decode, encode
from bunqueue_trio.protocol.faults import FAULTS
from bunqueue_trio.protocol.routes import ROUTES
from tests.operations.processes import environment, serving
from tests.programs import run_to_its_end

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads(encode(document()))  # type: ignore[no-any-return]


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_is_described_and_nothing_else(described: dict[str, Any]):
    routes = {(re.sub(r":(\w+)", r"{\1}", route.path), route.method.lower()) for route in ROUTES}
    assert {(path, method) for path, method, _ in operations(described)} == routes


def test_operations_have_names_of_their_own(described: dict[str, Any]):
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(described: dict[str, Any]):
    references = set(re.findall(r'"\$ref":"#/([^"]+)"', encode(described).decode().replace(": ", ":")))
    assert references
    for reference in references:
        place: Any = described
        for part in reference.split("/"):
            place = place[part]


def test_every_field_of_a_command_is_described_with_its_bounds(described: dict[str, Any]):
    push = described["components"]["schemas"]["Push"]
    names = {f.encode_name for f in msgspec.structs.fields(c.Push)} - {"reqId", "queue"}
    assert set(push["properties"]) == names
    assert push["required"] == ["data"]
    priority = push["properties"]["priority"]
    assert priority["default"] == 0
    assert {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000} in priority["anyOf"]
    pull = {p["name"]: p["schema"] for p in described["paths"]["/queues/{queue}/jobs"]["get"]["parameters"]}
    assert pull["timeout"] == {"type": "number", "exclusiveMinimum": -1, "maximum": 60_000, "default": 0}
    assert "type" not in described["components"]["schemas"]["Fail"]["properties"]["error"]


def test_what_refuses_unknown_fields_says_so(described: dict[str, Any]):
    closed = {
        name
        for name, schema in described["components"]["schemas"].items()
        if schema.get("additionalProperties") is False
    }
    bodies = {kind.__name__ for kind in SPECS}
    assert closed & bodies == {
        "RetryDlq", "PurgeDlq", "Drain", "PromoteJobs", "Clean", "Obliterate", "ActOnJobs", "PutSchedule", "ChangeSchedule", "RerunDlq", "SetDefaults", "SetDlqConfig", "SetStallConfig",
        "BackupStorage", "CheckStorage", "ShrinkStorage",
    }  # fmt: skip


def test_answers_say_every_field_and_no_other(described: dict[str, Any]):
    schemas = described["components"]["schemas"]
    for kind in set(REPLIES.values()):
        assert schemas[kind.__name__]["additionalProperties"] is False
        assert "ok" in schemas[kind.__name__]["required"]
    assert schemas["ErrorReply"]["properties"]["ok"] == {"const": False}
    assert set(schemas["ErrorReply"]["properties"]["code"]["examples"]) == FAULTS.keys()
    assert len(schemas["JobView"]["required"]) == 16
    assert len(schemas["DeliveredJob"]["required"]) == 8


def test_what_needs_a_token_says_so(described: dict[str, Any]):
    security = {path: op.get("security", described["security"]) for path, _, op in operations(described)}
    assert security["/stats"] == [{"token": ["read"]}]
    assert security["/queues/{queue}/drain"] == [{"token": ["admin"]}]
    assert security["/prometheus"] == [{}, {"token": ["read"]}]
    assert [path for path, needs in security.items() if needs == []] == [
        "/health", "/healthz", "/live", "/ready", "/gc", "/heapstats", "/openapi.json", "/docs",
        "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_an_example_is_what_the_server_takes(kind: type[c.Command]):
    request = EXAMPLES[kind].request
    if request is not None:
        decode(kind, encode(request))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phases", "examples"),
    [
        ("examples,fuzzing,stateful", 3),
        # Each field at each of its bounds, which `tests/wire/test_bad_fields.py` and `tests/fuzz` have in each full check.
        pytest.param("examples,coverage,fuzzing,stateful", 2, marks=pytest.mark.long),
    ],
)
def test_no_request_made_from_the_description_breaks_a_rule(tmp_path: Path, phases: str, examples: int):
    """Every check of schemathesis, valid and invalid data, single requests and sequences.

    Left out: the streams, which do not end; and its own idea of which valid data may be refused, in the
    place of which stands a stricter one (see the hooks).
    """
    schemathesis = shutil.which("schemathesis", path=os.fspath(Path(sys.executable).parent))
    assert schemathesis is not None, "it is among the development requirements"
    with serving(tmp_path, env={"AUTH_TOKENS": "secret"}) as running:
        # A limit that is taken away is there as none: DELETE and then GET of it answer 200, not 404 (use_after_free).
        command = [
            schemathesis, "run", f"{running.url}/openapi.json", "--header", "Authorization: Bearer secret",
            "--checks", "all", "--exclude-checks", "positive_data_acceptance,use_after_free",
            "--exclude-path-regex", "^/(events|ws)", "--phases", phases,
            "--max-examples", str(examples), "--seed", "1", "--request-timeout", "60", "--generation-database", "none",
            "--continue-on-failure", "--no-color",
        ]  # fmt: skip
        env = environment({"PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"})
        done = run_to_its_end(command, within_s=590, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        generated = re.search(r"(\d+) generated", done.stdout)
        assert generated is not None
        assert int(generated[1]) > 500
        assert running.stop() == 0
        assert "Traceback" not in running.log
