"""Where paths lead."""

import pytest

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.routes import ROUTES, Route, Router

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
    """It has fields of its own, and none from the path; a wrong method is told all that are right."""
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
