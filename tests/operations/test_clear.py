"""The commands that remove much: what they ask, what they print, and what is so afterwards."""

import itertools
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import clear, main, many, slips
from tests.engine.make import T0
from tests.operations.asked import answer_with
from tests.operations.processes import Done, Running, bunqueue, serving


@pytest.fixture(autouse=True)
def every_queue_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is answered here is of a queue that somebody uses."""
    answer_with(monkeypatch, slips, lambda *_: {"queue": {"counts": {"waiting": 1}}})
    clock = itertools.count(T0)
    monkeypatch.setattr(clear, "now_ms", lambda *_: next(clock))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("clear")) as running:
        yield running


def ask(server: Running, *arguments: str) -> Done:
    return bunqueue(*arguments, env={"BUNQUEUE_URL": server.url})


@pytest.mark.slow
def test_much_is_removed_for_good(server: Running):
    with server.client() as client:

        def push(**options: Any) -> str:
            return str(client.post("/queues/q/jobs", json={"data": 1, **options}).json()["id"])

        for _ in range(3):
            job_id = push(maxAttempts=1)
            client.get("/queues/q/jobs")
            client.post(f"/jobs/{job_id}/fail")
        assert ask(server, "purge", "q", "--id", job_id, "--yes").out == "q: 1 deleted, 2 left\n"
        assert ask(server, "purge", "q", "--yes").out == "q: 2 deleted, 0 left\n"
        done = client.post("/queues/q/jobs/bulk", json={"jobs": [{"data": 1}] * 1500})
        assert done.status_code == 200
        later = push(delay=3_600_000)
        assert ask(server, "drain", "q", "--yes").out == "q: 1,500 removed\n"
        assert client.get(f"/jobs/{later}/state").json()["state"] == "delayed"
        assert ask(server, "clean", "q", "delayed", "--older", "1h", "--yes").out == "q: 0 removed\n"
        assert (
            ask(server, "clean", "q", "delayed", "--dry-run").out == "q: 1 delayed job, about 201 B would be removed\n"
        )
        assert ask(server, "drain", "q", "--delayed", "--yes").out == "q: 1 removed\n"
        push()
        client.get("/queues/q/jobs")
        assert "force" in ask(server, "obliterate", "q", "--yes").err
        assert ask(server, "obliterate", "q", "--force", "--yes").out == "q: 1 removed\n"


@pytest.mark.parametrize("arguments", [
    ("drain", "q"), ("obliterate", "q"),
])  # fmt: skip
def test_nothing_is_removed_when_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]):
    asked: list[str] = []
    counts = {"queue": {"counts": {"waiting": 5, "delayed": 1}}, "total": 3}
    answer_with(monkeypatch, clear, lambda *call: (asked.append(call[2]), counts)[1])
    done = CliRunner().invoke(main, [*arguments])
    assert (done.exit_code, "say --yes" in done.output) == (2, True)
    assert "POST" not in asked


@pytest.mark.parametrize(("said", "code", "posts"), [("y", 0, 1), ("n", 130, 0)])
def test_it_is_done_when_somebody_says_so(monkeypatch: pytest.MonkeyPatch, said: str, code: int, posts: int):
    counts = {"queue": {"counts": {"waiting": 5, "delayed": 1}}, "count": 6, "left": 0}
    asked: list[str] = []
    answer_with(monkeypatch, clear, lambda *call: (asked.append(call[2]), counts)[1])
    monkeypatch.setattr(many, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    done = CliRunner().invoke(main, ["drain", "q", "--delayed"], input=said)
    assert "q: remove 5 waiting and 1 delayed jobs for good?" in done.output
    assert (done.exit_code, asked.count("POST")) == (code, posts)


@pytest.mark.parametrize(("arguments", "code", "out"), [
    ((), 2, "q: remove 1,003 failed jobs, about 3.0 MiB, for good: there is nobody to ask; say --yes"),
    (("--dry-run",), 0, "q: 1,003 failed jobs, about 3.0 MiB would be removed"),
])  # fmt: skip
def test_a_cleaning_says_what_it_would_free(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, out: str
):
    pages = {None: {"count": 1000, "bytes": 2**21, "next": "a"}, "a": {"count": 3, "bytes": 2**20, "next": None}}

    def answer(*call: Any) -> dict[str, Any]:
        said = json.loads(call[4])
        assert said["dryRun"]
        return pages[said.get("after")]

    answer_with(monkeypatch, clear, answer)
    done = CliRunner().invoke(main, ["clean", "q", "failed", *arguments])
    assert (done.exit_code, out in done.output) == (code, True)


def test_what_breaks_off_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch):
    pages = [{"count": 1000, "left": 2000, "next": "a"}, {"count": 500, "left": 1500, "next": "b"}]

    def answer(*_: object) -> Any:
        if not pages:
            raise click.ClickException("the disk is full (503)")
        return pages.pop(0)

    answer_with(monkeypatch, clear, answer)
    for told in ("the disk is full (503); 1,500 were deleted before", "the disk is full (503)"):
        done = CliRunner().invoke(main, ["purge", "q", "--yes"])
        assert (done.exit_code, done.output) == (1, f"bunqueue-trio: {told}\n")


@pytest.mark.parametrize("said", [("drain", "q"), ("purge", "q"), ("clean", "q", "waiting", "--older", "1h")])
def test_what_comes_meanwhile_stays(monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...]):
    """Somebody was asked about 1,200; 500 more come while the first are removed."""
    asked: list[dict[str, Any]] = []

    def answer(_url: str, _token: str | None, method: str, target: str, body: bytes) -> dict[str, Any]:
        asked.append(json.loads(body))
        count = min(1000, asked[-1]["limit"]) if "limit" in asked[-1] else 1000 if len(asked) == 1 else 200
        there = 1200 if len(asked) == 1 else 700
        return {"count": count, "left": there - count, "next": "a" if len(asked) == 1 else None}

    answer_with(monkeypatch, clear, answer)
    done = CliRunner().invoke(main, [*said, "--yes"])
    assert "q: 1,200 " in done.output
    assert len(asked) == 2
    if said[0] == "clean":
        assert [(each["grace"], each["asOf"]) for each in asked] == [(3_600_000, T0)] * 2
    else:
        assert [each["limit"] for each in asked] == [1000, 200]
