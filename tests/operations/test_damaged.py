"""A real server whose file is damaged: whoever reads a bad page gets an answer that says so, and the operator hears of it although nobody does."""

import json
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import main
from tests.operations.processes import until
from tests.patience import PATIENCE_S
from tests.storage.damaged import overwrite
from tests.storage.test_looking import LATER, make
from tests.wire.server import Server

pytestmark = pytest.mark.slow


def damage_of(server: Server) -> Any:
    return httpx.get(f"{server.url}/storage", timeout=PATIENCE_S).json()["data"]["damage"]


def test_who_reads_a_page_that_goes_bad_under_a_running_server_hears_of_it_and_so_does_the_operator(tmp_path: Path):
    path = tmp_path / "queue.db"
    make(path)
    with Server(path, {"AUDIT_JOBS_PER_SECOND": "0"}) as server:
        overwrite(path, "finished")
        read = httpx.get(f"{server.url}/queues/q/dlq", timeout=PATIENCE_S)
        assert (read.status_code, read.json()["code"]) == (503, "storage-damaged")
        assert "refused" not in read.json()["error"], "it was a read, and changes are not refused"
        pushed = httpx.post(f"{server.url}/queues/q/jobs", json={"data": 1}, timeout=PATIENCE_S)
        assert pushed.status_code == 200
        (found,) = [
            each
            for each in httpx.get(f"{server.url}/findings", timeout=PATIENCE_S).json()["findings"]
            if each["code"] == "storage-damaged"
        ]
        assert (found["severity"], found["commands"]) == ("critical", [f"bunqueue-trio doctor {path}"])
        assert "malformed" in found["cause"]
        assert "bunqueue_storage_damaged 1\n" in httpx.get(f"{server.url}/prometheus", timeout=PATIENCE_S).text
        assert httpx.get(f"{server.url}/ready", timeout=PATIENCE_S).status_code == 200
        assert "storage-damaged" in CliRunner().invoke(main, ["findings", "--json", "--url", server.url]).output
        health = CliRunner().invoke(main, ["health", "--url", server.url])
        assert (health.exit_code, "the file is damaged" in health.output) == (0, True)
        until(lambda: "the file is damaged" in server.log_path.read_text(), PATIENCE_S, server.log_path.read_text)
    assert server.log_path.read_text().count("the file is damaged") == 1


def test_who_watches_events_of_a_damaged_page_hears_that_they_are_missing_and_then_the_others(tmp_path: Path):
    path = tmp_path / "queue.db"
    make(path)
    with Server(path, {"AUDIT_JOBS_PER_SECOND": "0"}) as server:
        overwrite(path, "event_batch")
        with httpx.stream("GET", f"{server.url}/events", headers={"Last-Event-ID": "0"}, timeout=PATIENCE_S) as stream:
            messages = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
            assert next(messages)["connected"]
            gap = next(messages)
            assert (gap["gap"], gap["damaged"], gap["after"]) == (True, True, 0)
            pushed = httpx.post(f"{server.url}/queues/q/jobs", json={"data": 1}, timeout=PATIENCE_S).json()["id"]
            assert next(messages)["jobId"] == pushed
        watch = [sys.executable, "-m", "bunqueue_trio", "watch", "--since", "1h", "--url", server.url]
        with Popen(watch, stderr=PIPE, text=True) as watching:
            assert watching.stderr is not None
            try:
                assert watching.stderr.readline().endswith("cannot be read: the file is damaged\n")
            finally:
                watching.kill()


@pytest.mark.parametrize("table", LATER)
def test_a_page_that_went_bad_before_the_start_is_found_although_nobody_reads_it(tmp_path: Path, table: str):
    path = tmp_path / "queue.db"
    make(path)
    overwrite(path, table, 0)
    with Server(path, {"AUDIT_JOBS_PER_SECOND": "0"}) as server:
        until(lambda: damage_of(server) is not None, PATIENCE_S, server.log_path.read_text)
        told = json.loads(CliRunner().invoke(main, ["storage", "--json", "--url", server.url]).output)
        assert told["since"] is not None
        assert "; the file is damaged since " in CliRunner().invoke(main, ["storage", "--url", server.url]).output
        server.process.terminate()
        assert server.process.wait(60) in (0, 1)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def titles(server: Server) -> dict[str, str]:
    return {
        each["code"]: each["title"]
        for each in httpx.get(f"{server.url}/findings", timeout=PATIENCE_S).json()["findings"]
    }


STOPPED = (503, "storage-damaged")


def test_a_commit_that_meets_damage_refuses_changes_says_so_and_lets_reads_and_a_stop_go_on(tmp_path: Path):
    """And no start takes the file, which is as it was but for the damage."""
    path = tmp_path / "queue.db"
    make(path)
    with Server(path, {"AUDIT_JOBS_PER_SECOND": "0", "SHUTDOWN_GRACE_MS": "120000"}) as server:
        overwrite(path, "job")
        for queue in ("q", "other"):
            pushed = httpx.post(f"{server.url}/queues/{queue}/jobs", json={"data": 1}, timeout=PATIENCE_S)
            assert refusal(pushed) == STOPPED
        assert httpx.get(f"{server.url}/ready", timeout=PATIENCE_S).status_code == 503
        listed = httpx.get(f"{server.url}/queues/q/jobs/list?state=waiting&limit=100", timeout=PATIENCE_S).json()[
            "jobs"
        ]
        assert len(listed) >= 59
        exported = CliRunner().invoke(main, ["export", "--state", "waiting", "--url", server.url])
        assert (exported.exit_code, exported.output.count("\n") >= 59) == (0, True)
        told = titles(server)
        assert told["storage-damaged"] == "The file is damaged, and changes are refused"
        assert "storage-failing" not in told
        storage = CliRunner().invoke(main, ["storage", "--url", server.url]).output
        assert "refuses changes since " in storage
        # Long before the grace is over.
        assert server.stop(within_s=PATIENCE_S) == 1
    assert server.log.count("a commit has met damage: changes are refused until the next start") == 1
    assert "unanswered changes could not be written" in server.log
    with pytest.raises(RuntimeError, match="is damaged"):
        server.start()
    assert server.process.returncode == 2


def test_a_start_after_a_commit_that_met_damage_of_ended_jobs_goes_on_from_what_was_answered(tmp_path: Path):
    path = tmp_path / "queue.db"
    make(path)
    with Server(path, {"AUDIT_JOBS_PER_SECOND": "0"}) as server:
        overwrite(path, "sqlite_autoindex_finished_1")
        job = httpx.get(f"{server.url}/queues/q/jobs", timeout=PATIENCE_S).json()["job"]["id"]
        assert refusal(httpx.post(f"{server.url}/jobs/{job}/ack", json={}, timeout=PATIENCE_S)) == STOPPED
        assert refusal(httpx.post(f"{server.url}/queues/other/jobs", json={"data": 1}, timeout=PATIENCE_S)) == STOPPED
        assert server.stop(within_s=PATIENCE_S) == 1
        server.start()
        assert httpx.get(f"{server.url}/jobs/{job}/state", timeout=PATIENCE_S).json()["state"] in ("waiting", "active")
        assert httpx.post(f"{server.url}/queues/other/jobs", json={"data": 1}, timeout=PATIENCE_S).status_code == 200
