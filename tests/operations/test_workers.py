"""`bunqueue-trio workers`: who works, and what may be done to them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import main
from bunqueue_trio.cli import workers as told
from tests.operations.asked import answer_with
from tests.operations.processes import Done, Running, bunqueue, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path) as running:
        yield running


@pytest.mark.slow
def test_workers_are_shown_quieted_released_and_forgotten(server: Running):
    def ask(*arguments: str) -> Done:
        return bunqueue("workers", *arguments, env={"BUNQUEUE_URL": server.url})

    with server.client() as client:
        client.post("/workers", json={"workerId": "w-1", "name": "mailer", "queues": ["q"], "concurrency": 4})
        job_id = client.post("/queues/q/jobs", json={"data": 1}).json()["id"]
        assert client.get("/queues/q/jobs", params={"owner": "w-1"}).json()["job"]["id"] == job_id
        head, row = ask().out.splitlines()
        assert head.split()[:3] == ["name", "id", "status"]
        assert row.split()[:7] == ["mailer", "w-1", "active", "1", "4", "0", "0"]
        [listed] = map(json.loads, ask("--json").out.splitlines())
        assert [job["id"] for job in listed["jobs"]] == [job_id]
        assert ask("quiet", "mailer").out == "mailer: quiet, and has 1 job\n"
        done = ask("forget", "mailer")
        assert (done.code, "release them first" in done.err) == (1, True)
        assert ask("release", "w-1", "--yes").out == "w-1: 1 job returned\n"
        assert client.get("/queues/q/jobs", params={"owner": "w-1"}).json()["job"] is None
        assert ask("unquiet", "mailer").out == "mailer: gets jobs\n"
        assert client.get("/queues/q/jobs", params={"owner": "w-1"}).json()["job"]["id"] == job_id
        client.post(f"/jobs/{job_id}/ack")
        assert ask("forget", "mailer").out == "mailer: forgotten\n"
        assert ask("--json").out == ""


@pytest.mark.thorough
def test_all_workers_are_shown_whatever_they_are_called(server: Running):
    names = ["0a", "@b", "Mc", "None", "d", "\u00e9"]
    with server.client() as client:
        for name in names:
            client.post("/workers", json={"workerId": name, "name": name, "queues": ["q"]})
    shown = bunqueue("workers", "--json", env={"BUNQUEUE_URL": server.url}).out
    assert sorted(json.loads(line)["id"] for line in shown.splitlines()) == sorted(names)


@pytest.mark.parametrize(("usual", "said"), [(None, "1 min"), (40_000, "1 min"), (10_000, "1 min, 6 x usual")])
def test_the_job_that_is_held_for_longest_is_compared(monkeypatch: pytest.MonkeyPatch, usual: int | None, said: str):
    now = 1_700_000_060_000
    job = {"queue": "q", "progress": 0, "message": None, "progressedAt": None, "leaseUntil": None, "usual": usual}
    worker = {
        "id": "w", "name": "w", "queues": ["q"], "concurrency": 2, "hostname": "h", "pid": 1, "version": "1", "transport": "http", "address": None,
        "status": "active", "quietSince": None, "registeredAt": 0, "lastSeen": now, "uptime": 1, "activeJobs": 2, "processedJobs": 0, "failedJobs": 0,
        "currentJob": "a", "jobs": [job | {"id": "b", "since": now - 1000}, job | {"id": "a", "since": now - 60_000}],
    }  # fmt: skip
    monkeypatch.setattr(told, "now_ms", lambda *_: now)
    stats = dict.fromkeys(
        ("total", "active", "quiet", "totalProcessed", "totalFailed", "activeJobs", "concurrencySlots"), 1
    )
    answer_with(monkeypatch, told, lambda *_: {"ok": True, "data": {"workers": [worker], "stats": stats, "next": None}})
    row = " ".join(CliRunner().invoke(main, ["workers"]).output.splitlines()[1].split())
    assert row == f"w w active 2 2 0 0 0 ms {said} q"


def test_where_nobody_works_that_is_said(monkeypatch: pytest.MonkeyPatch):
    answer_with(monkeypatch, told, lambda *_: {"ok": True, "data": {"workers": [], "next": None}})
    monkeypatch.setattr("bunqueue_trio.cli.workers.now_ms", lambda *_: 0)
    done = CliRunner().invoke(main, ["workers"])
    assert (done.output, CliRunner().invoke(main, ["workers", "--json"]).output) == ("nobody works\n", "")


def known(*workers: tuple[str, str]) -> dict[str, Any]:
    return {
        "data": {
            "workers": [{"id": i, "name": n, "queues": [f"q-{i}"], "activeJobs": 3} for i, n in workers],
            "next": None,
        }
    }


def test_what_is_done_to_a_name_is_done_to_all_of_it(monkeypatch: pytest.MonkeyPatch):
    """A program has a worker for each of its queues, all of one name."""
    asked: list[str] = []

    def answer(*call: str) -> Any:
        asked.append(call[3])
        found = known(("a", "same\x1b"), ("b", "same\x1b"), ("c", "other"))
        return found if call[2] == "GET" else {"data": {"activeJobs": 2}}

    answer_with(monkeypatch, told, answer)
    done = CliRunner().invoke(main, ["workers", "quiet", "same\x1b"])
    assert done.output == "same\\x1b (q-a): quiet, and has 2 jobs\nsame\\x1b (q-b): quiet, and has 2 jobs\n"
    assert asked[1:] == ["/workers/a/quiet", "/workers/b/quiet"]
    done = CliRunner().invoke(main, ["workers", "quiet", "nobody"])
    assert (done.exit_code, done.stderr) == (1, "bunqueue-trio: there is no worker nobody\n")


def test_an_id_goes_before_a_name(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def answer(*call: str) -> Any:
        asked.append(call[3])
        return known(("a/1", "b"), ("b", "a/1")) if call[2] == "GET" else {"data": {"count": 3}}

    answer_with(monkeypatch, told, answer)
    done = CliRunner().invoke(main, ["workers", "release", "a/1", "--yes"])
    assert (done.output, asked[-1]) == ("a/1: 3 jobs returned\n", "/workers/a%2F1/release")
