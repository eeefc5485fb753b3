"""The command that says why a job is not running."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import main
from bunqueue_trio.cli import why as told
from tests.operations.processes import bunqueue, serving


@pytest.mark.slow
def test_a_server_says_why(tmp_path):
    with serving(tmp_path) as server, server.client() as client:
        job_id = client.post("/queues/q/jobs", json={"data": 1, "delay": 3_600_000}).json()["id"]
        env = {"BUNQUEUE_URL": server.url}
        lines = bunqueue("why", job_id, env=env).out.splitlines()
        assert lines[0].startswith("q: delayed (delayed). It is delayed, and ready in ")
        assert lines[1].startswith("until ")
        assert json.loads(bunqueue("why", job_id, "--json", env=env).out)["code"] == "delayed"
        done = bunqueue("why", "nobody", env=env)
        assert (done.code, "Job not found (404)" in done.err) == (1, True)


def test_what_a_queue_is_paused_for_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch):
    said: dict[str, Any] = {
        "queue": "q",
        "state": "waiting",
        "code": "paused",
        "why": "\x1b[2J.",
        "since": 5,
        "until": None,
    }
    monkeypatch.setattr(told, "answer", lambda *_: said)
    done = CliRunner().invoke(main, ["why", "x"])
    assert (done.exit_code, "\x1b" in done.output, len(done.output.splitlines())) == (0, False, 2)
