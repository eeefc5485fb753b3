"""The page `docs/night.md`, typed as it stands against a server in that state."""

import re
import shlex
from pathlib import Path

import pytest

from tests.operations.processes import Running, bunqueue, serving, until

PAGE = Path(__file__).parents[2] / "docs" / "night.md"
ERRORS = (
    ["ConnectionError: 10.0.0.7:25 refused"] * 3 + ["TimeoutError: no answer within 30 s"] * 2 + ["no such address 'x'"]
)


def commands() -> list[str]:
    return re.findall(r"^\$ bunqueue-trio (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def prepare(server: Running) -> tuple[str, str, str]:
    """Make what the page tells of; return the two reports."""
    with server.client() as client:
        for error in ERRORS:
            job_id = client.post("/queues/emails/jobs", json={"data": 1, "maxAttempts": 1}).json()["id"]
            client.get("/queues/emails/jobs")
            gives_up = error.startswith("no such")
            assert (
                client.post(f"/jobs/{job_id}/fail", json={"error": error, "unrecoverable": gives_up}).status_code == 200
            )
        client.post("/workers", json={"workerId": "mail-1", "queues": ["emails"]})
        client.post("/queues/reports/jobs", json={"data": 1})
        client.post(f"/jobs/{client.get('/queues/reports/jobs').json()['job']['id']}/ack", json={})
        wanted, unwanted = (
            client.post("/queues/reports/jobs", json={"data": {"month": n}, "delay": 3_600_000}).json()["id"]
            for n in (5, 0)
        )
        hanging = client.post("/queues/reports/jobs", json={"data": 1}).json()["id"]
        client.get("/queues/reports/jobs?owner=report-1")
        return wanted, unwanted, hanging


@pytest.mark.slow
def test_the_night(tmp_path: Path):
    with serving(tmp_path) as server:
        wanted, unwanted, hanging = prepare(server)
        # One picture is shown for a second, whoever has asked for it.
        until(
            lambda: "6 dead letters" in bunqueue("findings", env={"BUNQUEUE_URL": server.url}).out, 60, lambda: "none"
        )
        said: dict[str, str] = {}
        for line in commands():
            if line.startswith("watch"):
                continue  # it has no end
            words = [{"ID": wanted, "ID2": unwanted, "ID3": hanging}.get(word, word) for word in shlex.split(line)]
            done = bunqueue(*words, env={"BUNQUEUE_URL": server.url})
            # What is wrong is said by the code, too.
            assert done.code in ((0, 1) if line == "findings" else (0,)), (line, done)
            said[line] = done.out
            if line.startswith("clean"):
                assert "reports" in done.out
        assert "6 dead letters in emails wait for a decision" in said["findings"]
        assert [row.split()[0] for row in said["dead emails --groups"].splitlines()] == ["jobs", "3", "2", "1"]
        assert wanted in said["jobs reports delayed"]
        assert "It is delayed" in said["why ID"]
        assert hanging in said["jobs reports active"]
        assert "Worker report-1 has had it" in said["why ID3"]
        assert '{"month": 5}' in said["job ID --data"]
        rerun = next(line for line in said if line.startswith("rerun"))
        assert ": emails: 3 dead letters with this error, 3 first" in said[rerun]
        assert "queue emails, group 2a253bca139c" in said["reruns"]
        assert said['retry emails --error "TimeoutError" --yes'].startswith("emails: 2 of 2")
        assert "unrecoverable" in said["dead emails"]
        assert said['purge emails --error "no such address" --yes'].startswith("emails: 1 of 1")
        with server.client() as client:
            counts = lambda: client.get("/queues/emails/counts").json()["counts"]  # noqa: E731
            until(lambda: counts()["waiting"] == 5, 60, lambda: str(counts()))
            assert client.get("/queues/emails/paused").json()["paused"] is False
            taken = client.get("/queues/reports/jobs").json()["job"]
            assert (taken["id"], taken["data"], taken["priority"]) == (wanted, {"month": 6}, 10)
            assert client.get(f"/jobs/{unwanted}/state").json()["state"] == "failed"


def test_the_night_is_reported():
    assert len(commands()) > 12
    assert "(night.md)" in (PAGE.parent / "operations.md").read_text(encoding="utf-8")


FAULTS = {
    "ConnectionError: 10.0.0.{}:25 refused": 3000,
    "TimeoutError: no answer within {} s": 1500,
    "no such address '{}'": 500,
}
# More than any disk of a test has free.
NO_ROOM = {"DISK_RESERVE_BYTES": str(2**40)}


def die(server: Running, queue: str, texts: list[str]) -> None:
    """Let a job die of each text, many in each request."""
    with server.client() as client:
        for start in range(0, len(texts), 500):
            part = texts[start : start + 500]
            jobs = [{"data": {"n": n}, "maxAttempts": 1} for n in range(len(part))]
            assert client.post(f"/queues/{queue}/jobs/bulk", json={"jobs": jobs}).status_code == 200
            taken = client.post(f"/queues/{queue}/jobs/pull-batch", json={"count": len(part)}).json()["jobs"]
            failures = [{"id": job["id"], "error": text} for job, text in zip(taken, part, strict=True)]
            assert client.post("/jobs/fail-batch", json={"failures": failures}).status_code == 200


@pytest.mark.slow
def test_a_night_of_five_thousand_dead_letters_of_three_errors_and_a_disk_that_is_full(tmp_path: Path):
    """What they died of is three lines; without room the queue can still be looked at and emptied, and nothing comes in."""
    texts = [text.format(n) for text, count in FAULTS.items() for n in range(count)]

    def ask(*words: str) -> str:
        done = bunqueue(*words, env={"BUNQUEUE_URL": server.url})
        assert done.code in (0, 1), (words, done)
        return done.out + done.err

    with serving(tmp_path) as server:
        die(server, "emails", texts)
        rows = [re.split(r" {2,}", line) for line in ask("errors", "emails").splitlines()[1:]]
        assert [row[0] for row in rows] == ["3,000", "1,500", "500"]
        assert [row[-2].split("  ")[0] for row in rows] == [
            "ConnectionError: … refused", "TimeoutError: no answer within … s", "no such address …",
        ]  # fmt: skip
        group = rows[2][2]
        assert ask("retry", "emails", "--group", rows[1][2], "--limit", "100", "--yes").startswith("emails: 100 of ")
    with serving(tmp_path, env=NO_ROOM) as server:
        until(lambda: "disk" in ask("findings"), 60, lambda: ask("findings"))
        with server.client() as client:
            refused = client.post("/queues/emails/jobs", json={"data": 1})
            assert (refused.status_code, refused.json()["ok"]) == (503, False)
            job = client.get("/queues/emails/jobs").json()["job"]
            assert client.post(f"/jobs/{job['id']}/ack", json={}).status_code == 200
        assert [row.split()[0] for row in ask("errors", "emails").splitlines()[1:]] == ["3,000", "1,400", "500"]
        assert "room" in ask("retry", "emails", "--group", group, "--yes")
        assert ask("purge", "emails", "--group", group, "--yes").startswith("emails: 500 of 500")
        assert len(ask("errors", "emails").splitlines()) == 3
