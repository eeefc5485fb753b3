"""Where paths lead."""

import json
import re

import pytest

from bunqueue_trio.api import gateway
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.routes import ROUTES, Route, Router
from tests.fuzz import harness

LITERALS = ["ack-batch", "heartbeat-batch", "ack%2Dbatch"]


@pytest.mark.parametrize("job_id", LITERALS)
@pytest.mark.parametrize(
    ("method", "rest", "target"),
    [("GET", "", c.GetJob), ("DELETE", "", c.Cancel), ("GET", "/state", c.GetState), ("POST", "/ack", c.Ack)],
)
def test_a_literal_hides_no_job(job_id: str, method: str, rest: str, target: object) -> None:
    """Any text may be the id of a job."""
    match = Router(ROUTES).match(f"/jobs/{job_id}{rest}", method)
    assert match is not None
    assert match.methods[method].target is target
    assert match.values == {"id": job_id.replace("%2D", "-")}


def test_a_literal_beats_a_name() -> None:
    """It has fields of its own, and none from the path; a wrong method is answered with all that are right."""
    match = Router(ROUTES).match("/jobs/ack-batch", "POST")
    assert match is not None
    assert match.methods["POST"].target is c.AckBatch
    assert match.values == {}
    match = Router(ROUTES).match("/jobs/ack-batch", "PUT")
    assert match is not None
    assert set(match.methods) == {"GET", "DELETE", "POST"}
    assert Router(ROUTES).match("/jobs/ack-batch/nothing") is None


@pytest.mark.parametrize("row", [Route("PUT", "/jobs/:name/x", c.GetJob), Route("GET", "/jobs/:id", c.GetJob)])
def test_a_table_with_two_readings_is_refused(row: Route) -> None:
    """The second would win in silence."""
    with pytest.raises(ValueError, match=r"stands where|is there twice"):
        Router((*ROUTES, row))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_body_counts_whatever_the_method(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(gateway, "ROUTES", (*ROUTES, Route(method, "/jobs/:id/report", c.Progress)))
    head = f"{method} /jobs/x/report HTTP/1.1\r\nHost: x\r\nContent-Length: "
    good, bad = (f"{head}{len(body)}\r\n\r\n{body}".encode() for body in ('{"progress":50}', '{"progress":"x"}'))
    errors = [json.loads(body)["error"] for _, body in harness.http([good, bad])]
    assert errors == ["Job not found or not active", "progress must be a number"]


def test_every_route_is_found_by_a_path_of_its_own() -> None:
    """None is hidden by another one."""
    router = Router(ROUTES)
    for route in ROUTES:
        match = router.match(re.sub(r":\w+", "x", route.path), route.method)
        assert match is not None
        assert match.methods[route.method] is route
