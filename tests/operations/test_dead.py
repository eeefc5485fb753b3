"""The commands for dead letters: what they print, and what is so afterwards."""

import json
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import dead, main, remote
from tests.operations.processes import Done, Running, bunqueue, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("dead")) as running:
        yield running


def ask(server: Running, *arguments: str) -> Done:
    return bunqueue(*arguments, env={"BUNQUEUE_URL": server.url})


@pytest.mark.slow
def test_dead_letters_are_shown_and_retried(server: Running):
    ids = []
    with server.client() as client:
        for _ in range(3):
            ids.append(client.post("/queues/q/jobs", json={"data": 1, "maxAttempts": 1}).json()["id"])
            client.get("/queues/q/jobs")
            assert client.post(f"/jobs/{ids[-1]}/fail", json={"error": "no luck\x1b"}).status_code == 200
    done = ask(server, "dead", "q", "--limit", "2")
    lines = done.out.splitlines()
    assert done.err == "2 of 3 dead letters; --limit shows more\n"
    assert [line.split()[2] for line in lines] == ids[:0:-1]
    assert all("max_attempts_exceeded  no luck" in line and "\x1b" not in line for line in lines)
    done = ask(server, "dead", "q", "--json")
    assert [json.loads(line)["job"]["id"] for line in done.out.splitlines()] == ids[::-1]
    assert done.err == ""
    assert ask(server, "retry", "q", "--id", ids[1]).out == "q: 1 retried, 2 still dead\n"
    assert ask(server, "retry", "q").out == "q: 2 retried, 0 still dead\n"
    assert ask(server, "dead", "q")[1:] == ("", "q: no dead letters\n")
    assert ask(server, "dead", "q", "--json")[1:] == ("", "")
    done = ask(server, "retry", "q", "--id", "nobody")
    assert (done.code, done.out) == (1, "")
    assert "No dead letter of this id in this queue" in done.err


@pytest.mark.slow
def test_a_retry_says_why_some_stay_dead(server: Running):
    with server.client() as client:
        held, dead_id = (
            client.post("/queues/held/jobs", json={"data": 1, "maxAttempts": 1} | key).json()["id"]
            for key in ({"uniqueKey": "k"}, {})
        )
        for job_id in (held, dead_id):
            client.get("/queues/held/jobs")
            assert client.post(f"/jobs/{job_id}/fail", json={"error": "no luck"}).status_code == 200
        client.post("/queues/held/jobs", json={"data": 2, "uniqueKey": "k"})
    out = ask(server, "retry", "held").out
    assert out.startswith("held: 1 retried, 1 still dead (")
    assert "an unfinished job has their unique key" in out
    assert "a job that they depend on is dead" in out


@pytest.mark.parametrize(("limit", "shown", "told"), [(3, 3, "3 of 5 dead letters"), (5, 5, ""), (9, 5, "")])
def test_dead_letters_come_page_by_page(monkeypatch: pytest.MonkeyPatch, limit: int, shown: int, told: str):
    entries = [{"job": {"id": str(n)}, "enteredAt": n, "reason": "stalled", "error": None} for n in range(5)]

    def answer(*call: Any) -> Any:
        after = int(call[-1].partition("after=")[2] or 0)
        return {"entries": entries[after : after + 2], "total": 5, "next": str(after + 2) if after < 4 else None}

    monkeypatch.setattr(remote, "answer", answer)
    done = CliRunner().invoke(main, ["dead", "q", "--limit", str(limit)])
    assert len(done.stdout.splitlines()) == shown
    assert done.stderr.startswith(told)
    assert bool(done.stderr) == bool(told)


def test_a_retry_that_breaks_off_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch):
    pages = [{"count": 1000, "left": 2000, "next": "a"}, {"count": 500, "left": 1500, "next": "b"}]

    def answer(*_: object) -> Any:
        if not pages:
            raise click.ClickException("the disk is full (503)")
        return pages.pop(0)

    monkeypatch.setattr(dead, "answer", answer)
    for told in ("the disk is full (503); 1,500 were retried before", "the disk is full (503)"):
        done = CliRunner().invoke(main, ["retry", "q"])
        assert (done.exit_code, done.output) == (1, f"bunqueue-trio: {told}\n")


def test_a_time_later_than_any_calendar_is_shown(monkeypatch: pytest.MonkeyPatch):
    entry = {"job": {"id": "x"}, "enteredAt": 2**53, "reason": "stalled", "error": None}
    monkeypatch.setattr(remote, "answer", lambda *_: {"entries": [entry], "total": 1, "next": None})
    assert CliRunner().invoke(main, ["dead", "q"]).output == f"{2**53} ms  x  stalled  \n"
