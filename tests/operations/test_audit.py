"""The self-audit of a real server: what it finds is on its pages, and in what `doctor --live` says."""

import json
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.operations.processes import Running, bunqueue, serving
from tests.wire.server import SOURCE

pytestmark = pytest.mark.slow  # a server of its own, and the pause between two passes

SECRET = {"AUTH_TOKENS": "secret"}
FAULTS = {
    "disk_missing": "DELETE FROM job WHERE id = 'one'",
    "disk_extra": "INSERT INTO job SELECT 3, 'ghost', queue, data, NULL, 0, 1, 1, 'waiting', 3, 0, 0, 0, NULL, NULL, NULL FROM job LIMIT 1",
    "disk_different": "UPDATE job SET attempts = 7 WHERE id = 'four'",
    "disk_unreadable": "UPDATE job SET state = 'nowhere' WHERE id = 'two'",
    "facts": "DELETE FROM fact WHERE kind = 'paused'",
    "records": "DELETE FROM finished WHERE id = 'dead'",
}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path, env=SECRET) as server:
        with server.client(headers={"Authorization": "Bearer secret"}) as client:
            for job_id in ("one", "two", "gone", "four"):
                body = {"data": job_id, "jobId": job_id}
                assert client.post("/queues/q/jobs", json=body).status_code == 200
            assert client.delete("/jobs/gone").status_code == 200
            assert client.post("/queues/still/pause", json={"reason": "why"}).status_code == 200
            assert client.post("/queues/dead/jobs", json={"data": 1, "jobId": "dead"}).status_code == 200
            assert client.post("/jobs/dead/discard").status_code == 200
        yield server


def doctor(running: Running, *flags: str) -> tuple[int, str]:
    env = {"BUNQUEUE_URL": running.url, "BUNQUEUE_TOKEN": "secret"}
    done = bunqueue("doctor", "--live", *flags, env=env)
    return done.code, done.out + done.err


def test_a_sound_server_says_so(running: Running):
    code, said = doctor(running)
    assert code == 0, said
    assert "no problem found" in said
    assert "looked at in" in said


def test_what_is_planted_in_the_file_is_found_by_the_running_server(running: Running):
    with apsw.Connection(str(running.data_path)) as connection:
        for plant in FAULTS.values():
            connection.execute(plant)
    code, said = doctor(running, "--wait")
    assert code == 1, said
    assert "PROBLEM: disk_missing: job one is in memory and has no row (1) on the disk" in said
    assert "PROBLEM: disk_extra: job ghost is stored (row 3) and is not in memory" in said
    assert "PROBLEM: disk_unreadable: row 2 cannot be read" in said
    assert "PROBLEM: facts: the paused of still is in memory, and is not stored" in said
    assert "PROBLEM: records: queue dead counts 0 completed and 1 failed jobs, and keeps 0 and 0" in said
    assert "PROBLEM: disk_different: job four: attempts on the disk differ" in said
    with running.client(headers={"Authorization": "Bearer secret"}) as client:
        page = client.get("/prometheus").text
        assert 'bunqueue_audit_faults_total{kind="disk_missing"} 1' in page
        assert 'bunqueue_audit_faults_total{kind="counts"} 0' in page
        assert client.get("/ready").status_code == 200
        assert client.post("/queues/q/jobs", json={"data": 1}).status_code == 200
        findings = client.get("/audit").json()["audit"]["findings"]
    assert {finding["kind"] for finding in findings} == set(FAULTS)
    running.wait_logged("the self-audit found a fault")


SPOILER = """
from bunqueue_trio.engine.engine import Engine

add = Engine.add

def spoiling(self, job_id, queue, *args, **others):
    job = add(self, job_id, queue, *args, **others)
    if queue.name == "spoilt":
        queue.ready._size += 1
        queue.ready.line(job.priority).remove(job)
    return job

Engine.add = spoiling
"""


def test_a_fault_in_the_memory_of_a_running_server_is_found(tmp_path: Path):
    """The process has a fault of its own: jobs of one queue are counted twice and stand in no line."""
    (tmp_path / "sitecustomize.py").write_text(SPOILER)
    with serving(tmp_path, env={"PYTHONPATH": f"{tmp_path}:{SOURCE}"}) as server:
        with server.client() as client:
            assert client.post("/queues/spoilt/jobs", json={"data": 1, "jobId": "lost"}).status_code == 200
            assert client.post("/queues/sound/jobs", json={"data": 1}).status_code == 200
            done = bunqueue("doctor", "--live", "--wait", "--url", server.url)
            assert done.code == 1, done
            assert "PROBLEM: counts: queue spoilt counts 2 waiting jobs and has 1" in done.out
            assert "PROBLEM: ready: job lost is waiting and stands in no line" in done.out
            assert "queue sound" not in done.out
            assert 'bunqueue_audit_faults_total{kind="counts"} 1' in client.get("/prometheus").text
        assert server.stop() == 0


def test_the_page_needs_a_token_and_the_command_says_what_is_wrong(running: Running, tmp_path: Path):
    with running.client() as client:
        assert client.get("/audit").status_code == 401
    done = bunqueue("doctor", "--live", "--url", running.url)
    assert (done.code, done.err) == (
        1,
        f"bunqueue-trio: {running.url}: Unauthorized (401): the token in BUNQUEUE_TOKEN or --token is missing or wrong\n",
    )
    assert bunqueue("doctor").code == 2
    assert bunqueue("doctor", "--live", str(running.data_path)).code == 2
    assert bunqueue("doctor", "--wait", str(running.data_path)).code == 2


def test_it_can_be_turned_off(tmp_path: Path):
    with serving(tmp_path, env={"AUDIT_JOBS_PER_SECOND": "0"}) as server:
        done = bunqueue("doctor", "--live", "--url", server.url)
        assert (done.code, "AUDIT_JOBS_PER_SECOND is 0" in done.err) == (1, True)
        with server.client() as client:
            assert "self-audit" not in {task["name"] for task in json.loads(client.get("/tasks").text)["tasks"]}
            assert "bunqueue_audit_age_seconds 0\n" in client.get("/prometheus").text
