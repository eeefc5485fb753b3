"""The commands about single jobs: what they print, and what is so afterwards."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import jobs as told
from bunqueue_trio.cli import main, remote, words
from tests.operations.asked import answer_with
from tests.operations.processes import Done, Running, bunqueue, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def ask(server: Running, *arguments: str) -> Done:
    return bunqueue(*arguments, env={"BUNQUEUE_URL": server.url})


@pytest.mark.slow
def test_jobs_are_listed_shown_and_changed(server: Running, tmp_path: Path):
    with server.client() as client:
        ids = [
            client.post("/queues/q/jobs", json={"data": {"n": n}, "delay": 3_600_000 + n}).json()["id"]
            for n in range(3)
        ]
        done = ask(server, "jobs", "q", "delayed", "--limit", "2")
        assert [line.split()[2] for line in done.out.splitlines()[1:]] == ids[:2]
        assert done.err == "the first 2; --limit shows more\n"
        done = ask(server, "jobs", "q", "delayed", "--json")
        assert [json.loads(line)["data"] for line in done.out.splitlines()] == [{"n": n} for n in range(3)]
        assert ask(server, "jobs", "q", "failed")[1:] == ("", "q: no failed jobs\n")
        assert ask(server, "promote", *ids[:2]).out == f"{ids[0]}: ready\n{ids[1]}: ready\n"
        (tmp_path / "payload").write_text('{"n": "new"}')
        done = ask(server, "change", ids[1], "--priority", "7", "--data", f"@{tmp_path / 'payload'}")
        assert done.out == f"{ids[1]}: data changed\n{ids[1]}: priority changed\n"
        taken = client.get("/queues/q/jobs").json()
        assert (taken["job"]["id"], taken["job"]["data"]) == (ids[1], {"n": "new"})
        assert re.search(r"^why: Worker @?127\.0\.0\.1 has had it for ", ask(server, "job", ids[1]).out, re.MULTILINE)
        done = ask(server, "change", ids[1], "--delay", "1h")
        assert (done.code, "Job is active (409)" in done.err) == (1, True)
        assert f"{ids[1]}: " in done.err
        assert f"`bunqueue-trio cancel {ids[1]}` ends it" in done.err
        client.post(f"/jobs/{ids[1]}/ack", json={"token": taken["token"], "result": {"ok": "\x9b"}})
        done = ask(server, "cancel", ids[0], ids[1], ids[2])
        assert (done.code, done.out) == (1, f"{ids[0]}: cancelled\n{ids[2]}: cancelled\n")
        assert done.err.count(ids[1]) == 1
        lines = ask(server, "job", ids[1], "--data").out.splitlines()
        assert {f"id: {ids[1]}", "state: completed", "priority: 7", 'data: {"n": "new"}'} <= set(lines)
        assert not any("\x9b" in line for line in lines)
        assert "result: " in lines[-1]
        assert not any(line.startswith(("data", "result")) for line in ask(server, "job", ids[1]).out.splitlines())
        assert json.loads(ask(server, "job", ids[1], "--json").out)["data"] == {"n": "new"}
        last = client.post("/queues/q/jobs", json={"data": 1}).json()["id"]
        assert ask(server, "discard", last).out == f"{last}: dead\n"
        for words in (("change", last, "--priority", "3"), ("promote", last), ("discard", last), ("cancel", last)):
            told = f"{last}: it is a dead letter; `bunqueue-trio retry q --id {last}` lets it wait again"
            assert told in ask(server, *words).err, "it is there, and Job not found would say that it is not"
        assert ask(server, "dead", "q").out.splitlines()[1].split()[2:4] == [last, "discarded"]


@pytest.mark.parametrize(("limit", "shown", "said"), [(3, 3, "the first 3"), (5, 5, ""), (9, 5, "")])
def test_jobs_come_page_by_page(monkeypatch: pytest.MonkeyPatch, limit: int, shown: int, said: str):
    listed = [
        {
            "id": str(n),
            "state": "active",
            "startedAt": n,
            "createdAt": n,
            "attempts": 0,
            "maxAttempts": 3,
            "error": "\x1b",
        }
        | ({"name": "welcome"} if n == 1 else {})
        for n in range(5)
    ]

    def answer(*call: Any) -> Any:
        after = int(call[-1].partition("after=")[2] or 0)
        return {"jobs": listed[after : after + 2], "next": str(after + 2) if after < 4 else None}

    answer_with(monkeypatch, remote, answer)
    done = CliRunner().invoke(main, ["jobs", "q", "active", "--limit", str(limit)])
    heads, *lines = done.stdout.splitlines()
    assert (heads.split("  ")[0], len(lines)) == ("began", shown)
    assert ["  welcome  " in line for line in lines][:3] == [False, True, False]
    assert "\x1b" not in done.stdout
    assert done.stderr.startswith(said)
    assert bool(done.stderr) == bool(said)


@pytest.mark.parametrize("verb", ["cancel", "promote", "discard"])
def test_what_one_job_refuses_is_done_to_the_others(monkeypatch: pytest.MonkeyPatch, verb: str):
    asked: list[str] = []

    def answer(*call: Any) -> Any:
        asked.append(call[3])
        if call[3].startswith("/jobs/b"):
            raise click.ClickException("Job not found\x1b (404)")
        return {"ok": True}

    answer_with(monkeypatch, told, answer)
    done = CliRunner().invoke(main, [verb, "a/1", "b", "c"])
    assert [path.split("/")[2] for path in asked] == ["a%2F1", "b", "c"]
    assert done.exit_code == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["a/1", "c"]
    assert done.stderr.startswith("bunqueue-trio: b: Job not found\\x1b (404)")


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ([], None),
        (["--reason", "wrong"], {"reason": "wrong", "by": "ann@web-1"}),
        (["--grace", "2m"], {"grace": 120_000, "by": "ann@web-1"}),
    ],
)
def test_a_cancellation_says_why_by_whom_and_how_long_only_if_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, options: list[str], sent: object
):
    bodies: list[bytes | None] = []
    answer_with(monkeypatch, told, lambda *call: [bodies.append(call[4] if call[4:] else None), {"ok": True}][1])
    monkeypatch.setattr(told, "getuser", lambda: "ann")
    monkeypatch.setattr(told, "node", lambda: "web-1")
    done = CliRunner().invoke(main, ["cancel", "x", *options])
    assert (done.exit_code, done.output) == (0, "x: cancelled\n")
    assert [body and json.loads(body) for body in bodies] == [sent]


def test_a_user_without_a_name_may_cancel(monkeypatch: pytest.MonkeyPatch):
    bodies: list[bytes] = []

    def nobody() -> str:
        raise KeyError("uid 1234")

    answer_with(monkeypatch, told, lambda *call: [bodies.append(call[4] if call[4:] else None), {"ok": True}][1])
    monkeypatch.setattr(told, "getuser", nobody)
    assert CliRunner().invoke(main, ["cancel", "x", "--reason", "wrong"]).exit_code == 0
    assert json.loads(bodies[0])["by"].startswith("unknown@")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "say what to change"), (["--data", "hello"], "a string needs quotes"), (["--delay", "soon"], "'soon'")],
)
def test_a_change_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str):
    answer_with(monkeypatch, told, lambda *_: pytest.fail("it was asked for"))
    done = CliRunner().invoke(main, ["change", "x", *arguments])
    assert (done.exit_code, said in done.output) == (2, True)


@pytest.mark.slow
def test_a_server_says_why(tmp_path):
    with serving(tmp_path) as server, server.client() as client:
        job_id = client.post("/queues/q/jobs", json={"data": 1, "delay": 3_600_000}).json()["id"]
        env = {"BUNQUEUE_URL": server.url}
        lines = bunqueue("why", job_id, env=env).out.splitlines()
        assert lines[0].startswith("q: delayed. It is delayed, and ready in ")
        assert lines[1].startswith("until ")
        assert json.loads(bunqueue("why", job_id, "--json", env=env).out)["code"] == "delayed"
        done = bunqueue("why", "nobody", env=env)
        assert (done.code, "Job not found (404)" in done.err) == (1, True)


@pytest.mark.slow
def test_a_schedule_says_what_it_waits_for(tmp_path):
    """Whoever asks that of its name is not told that there is no such job."""
    with serving(tmp_path) as server:
        env = {"BUNQUEUE_URL": server.url}

        def ask(*words: str) -> list[str]:
            done = bunqueue(*words, env=env)
            assert done.code == 0, done.err
            return done.out.splitlines()

        ask("schedules", "put", "nightly", "reports", "1", "--every", "1h", "--overlap", "queue")
        lines = ask("why", "nightly")
        assert lines[0].startswith("reports: the schedule nightly is active. Its next slot brings a job in ")
        assert lines[1].startswith("until ")
        assert lines[2] == "what became of its past slots: bunqueue-trio schedules show nightly"
        assert json.loads(ask("why", "nightly", "--json")[0])["name"] == "nightly"
        ask("schedules", "pause", "nightly")
        resume = "bunqueue-trio schedules resume nightly"
        assert ask("why", "nightly")[0] == (
            f"reports: the schedule nightly is paused. No slot brings a job until it goes on: {resume}."
        )
        ask("schedules", "put", "skips", "reports", "1", "--every", "1h")
        ask("schedules", "run", "skips")
        assert (
            "A slot is left out while jobs of it have not ended, the last of which is skips@" in ask("why", "skips")[0]
        )


def test_what_a_queue_is_paused_for_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch):
    said: dict[str, Any] = {
        "queue": "q",
        "state": "waiting",
        "code": "paused",
        "why": "\x1b[2J.",
        "since": 5,
        "until": None,
    }
    answer_with(monkeypatch, told, lambda *_: said)
    done = CliRunner().invoke(main, ["why", "x"])
    assert (done.exit_code, "\x1b" in done.output, len(done.output.splitlines())) == (0, False, 2)


@pytest.mark.slow
def test_a_job_is_shown_with_its_failed_attempts_and_its_log(server: Running):
    with server.client() as client:
        job_id = client.post("/queues/falls/jobs", json={"data": 1, "backoff": 0}).json()["id"]
        assert ask(server, "logs", job_id)[1:] == ("", f"{job_id}: its workers wrote nothing down\n")
        client.post(f"/jobs/{job_id}/logs", json={"message": "half\x1b[2J way", "level": "warn"})
        for stack in ("Traceback:\n  in fall\x9b", None):
            token = client.get("/queues/falls/jobs").json()["token"]
            client.post(f"/jobs/{job_id}/fail", json={"token": token, "error": "boom", "stack": stack})
    shown = ask(server, "job", job_id).out
    lines = shown.splitlines()
    assert [line.split(":")[0] for line in lines[-4:]] == [
        "attempt 1",
        "    Traceback",
        "      in fall\\x9b",
        "attempt 2",
    ]
    # Why is said where it is not the usual: nobody knows what `explicit_fail` is.
    assert re.fullmatch(r"attempt 2: .*s  by @127\.0\.0\.1  boom", lines[-1])
    assert "explicit" not in shown
    found = json.loads(ask(server, "job", job_id, "--json").out)
    assert [each["attempt"] for each in found["failedAttempts"]] == [1, 2]
    (line,) = ask(server, "logs", job_id).out.splitlines()
    assert "  warn  half" in line
    assert "\x1b" not in shown + line
    assert json.loads(ask(server, "logs", job_id, "--json").out)["message"] == "half\x1b[2J way"
    assert "Job not found (404)" in ask(server, "logs", "nobody").err


def test_a_job_whose_worker_has_time_is_not_cancelled_yet(monkeypatch: pytest.MonkeyPatch):
    answer_with(monkeypatch, told, lambda *_: {"ok": True, "data": {"until": 1_893_456_000_000}})
    done = CliRunner().invoke(main, ["cancel", "x", "--grace", "30s"])
    assert done.output.startswith("x: its worker gets the word, and has until 20")


def test_a_field_is_shown_in_words():
    assert [words.told(name, value) for name, value in (("timeout", 90_000), ("ttl", 0), ("priority", 5), ("tags", ["ü"]))] == [
        "90 s", "0 ms", "5", '["ü"]',
    ]  # fmt: skip
    assert words.told("until", 0).startswith("19")
    assert words.told("backoff", {"type": "fixed", "delay": 60_000, "maxDelay": None}) == 'type "fixed", delay 1 min'
