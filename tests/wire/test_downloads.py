"""Downloads over HTTP: what is refused before the first byte, in whole, and cut off in the middle."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.wire.client import Client, now_ms
from tests.wire.server import NO_TLS, Server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60, verify=NO_TLS) as client:
        yield client


def test_jobs_and_events_come_a_line_each(client: Client, http: httpx.Client, queue: str) -> None:
    before = now_ms() - 60_000
    ids = client.push_bulk(queue, [{"data": {"n": n, "text": "x" * 2000}} for n in range(700)])
    answer = http.get("/export/jobs", params={"queue": queue})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["id"] for line in answer.text.splitlines()] == ids
    answer = http.get("/events/log", params={"queue": queue, "from": before})
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert [each["jobId"] for each in found] == ids
    assert found[3]["data"]["n"] == 3
    answer = http.get("/events/log", params={"jobId": ids[5]})
    assert [json.loads(line)["eventType"] for line in answer.text.splitlines()] == ["pushed"]
    assert http.get("/events/log", params={"queue": queue, "to": 1000}).text == ""
    # The connection goes on.
    assert http.get("/live").text == "OK"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/export/jobs?queue=no%20queue", "invalid-queue"), ("/export/jobs?state=nothing", "unknown-state"), ("/export/jobs?limit=5", "invalid-field"),
        ("/export/jobs?attempts=many", "invalid-field"), ("/events/log?from=yesterday", "invalid-field"), ("/events/log?since=5", "unknown-field"), ("/export/jobs?stat=failed", "unknown-field"), ("/events/log?types=pusht", "invalid-field"),
        ("/events/log?queue=no%20queue", "invalid-queue"), ("/events/log?" + "from=1&" * 1100, "invalid-field"), ("/export/jobs?" + "tag=a&" * 1100, "invalid-field"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_first_byte(http: httpx.Client, path: str, code: str) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize("path", ["/export/jobs", "/events/log"])
def test_nobody_asks_for_the_head_of_a_download(http: httpx.Client, path: str) -> None:
    assert http.head(path).status_code == 405
