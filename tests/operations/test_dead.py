"""The commands for dead letters: what they print, and what is so afterwards."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from bunqueue_trio.cli import dead, main, many, remote, reruns, slips
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.groups import InCommon
from tests.operations.asked import answer_with, reply_to
from tests.operations.processes import Done, Running, bunqueue, serving


@pytest.fixture(autouse=True)
def every_queue_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is answered here is of a queue that somebody uses."""
    answer_with(monkeypatch, slips, lambda *_: {"queue": {"counts": {"waiting": 1}}})


OPERATIONS = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")


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
    lines = done.out.splitlines()[1:]
    assert done.err == "2 of 3 dead letters; --limit shows more\n"
    assert [line.split()[2] for line in lines] == ids[:0:-1]
    assert all("max_attempts_exceeded  no luck" in line and "\x1b" not in line for line in lines)
    done = ask(server, "dead", "q", "--json")
    assert [json.loads(line)["job"]["id"] for line in done.out.splitlines()] == ids[::-1]
    assert done.err == ""
    assert ask(server, "retry", "q", "--id", ids[1]).out == "q: 1 retried, 2 still dead\n"
    assert ask(server, "retry", "q", "--yes", "--data", "1").code == 2
    assert ask(server, "retry", "q", "--yes").out == "q: 2 retried, 0 still dead\n"
    assert ask(server, "dead", "q")[1:] == ("", "q: no dead letters\n")
    assert ask(server, "dead", "q", "--json")[1:] == ("", "")
    unknown = "q: no dead letters with an error of this group; `dead --groups` lists the groups\n"
    assert ask(server, "dead", "q", "--group", "nothing")[1:] == ("", unknown)
    assert ask(server, "dead", "q", "--error", "nothing")[1:] == (
        "",
        "q: no dead letters with this text in their error\n",
    )
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
        off = client.post("/queues/off/jobs", json={"data": 1}).json()["id"]
    assert ask(server, "cancel", off, "--reason", "wrong").code == 0
    assert (
        ask(server, "retry", "off", "--yes").out
        == "off: 0 retried, 1 still dead (1: cancelled on purpose, `retry --id` retries one)\n"
    )
    out = ask(server, "retry", "held", "--yes").out
    assert out == "held: 1 retried, 1 still dead (1: an unfinished job has their unique key)\n"


@pytest.mark.slow
def test_dead_letters_are_seen_retried_and_deleted_by_their_error(server: Running):
    errors = {
        "timeout after 30 s": "timeout after 31 s", "no such user 'ann'": "no such user 'bob'", "disk full": "disk full",
    }  # fmt: skip
    with server.client() as client:
        for first, second in errors.items():
            for said in (first, second):
                job_id = client.post("/queues/e/jobs", json={"data": 1, "maxAttempts": 1}).json()["id"]
                client.get("/queues/e/jobs")
                assert client.post(f"/jobs/{job_id}/fail", json={"error": said}).status_code == 200
        lines = ask(server, "dead", "e", "--groups").out.splitlines()
        group = lines[1].split()[1]
        assert ask(server, "mark", group, "muted").out == f"{group}: muted\n"
        assert "[muted]" in ask(server, "dead", "e", "--groups").out
        assert ask(server, "mark", group, "none").out == f"{group}: nothing is said of it any more\n"
        cells = [re.split(r" {2,}", line) for line in lines[1:]]
        assert sorted([each[0], each[3], each[2]] for each in cells) == [
            ["2", text, "max_attempts_exceeded"] for text in ("disk full", "no such user …", "timeout after … s")
        ]
        assert "  e: 2  (" in ask(server, "dead", "--groups").out
        assert ask(server, "dead", "e", "--groups", "--limit", "2").err == "2 of 3 groups; --limit shows more\n"
        found = [json.loads(line) for line in ask(server, "dead", "e", "--groups", "--json").out.splitlines()]
        assert {(group["count"], group["shape"]) for group in found} == {
            (2, "disk full"), (2, "no such user …"), (2, "timeout after … s"),
        }  # fmt: skip
        assert ask(server, "dead", "nobody", "--groups").err.startswith("nobody: no dead letters\n")
        client.post("/queues/again/jobs", json={"data": 1, "maxAttempts": 2, "backoff": 86_400_000, "jobId": "again"})
        client.get("/queues/again/jobs")
        client.post("/jobs/again/fail", json={"error": "timeout after 32 s"})
        cells = re.split(r" {2,}", ask(server, "errors", "--limit", "1").out.splitlines()[1])
        assert (cells[0], cells[1], cells[4]) == ("2", "1", "timeout after … s")
        assert "e: 2, again: 1" in cells
        [alone] = [json.loads(line) for line in ask(server, "errors", "again", "--json").out.splitlines()]
        assert (alone["count"], alone["retrying"], alone["example"]["reason"]) == (0, 1, "retrying")
        assert ask(server, "errors", "nobody").err.startswith("nobody: nothing fails\n")
        assert ask(server, "dead", "e", "--groups", "--error", "x").code == 2
        assert ask(server, "dead").code == 2
        assert len(ask(server, "dead", "e", "--error", "no such").out.splitlines()) == 1 + 2
        assert len(ask(server, "dead", "e", "--error", "no such", "--limit", "1").out.splitlines()) == 1 + 1
        done = ask(server, "retry", "e", "--error", "timeout", "--yes")
        assert done.out == "e: 2 of 2 dead letters with this text in their error retried\n"
        assert (
            ask(server, "purge", "e", "--error", "disk", "--yes").out
            == "e: 2 of 2 dead letters with this text in their error deleted\n"
        )
        done = ask(server, "retry", "e", "--error", "disk", "--yes")
        assert done.out == "e: 0 of 0 dead letters with this text in their error retried\n"
        counts = client.get("/queues/e/counts").json()["counts"]
        assert (counts["waiting"], counts["failed"]) == (2, 2)
        assert ask(server, "retry", "e", "--id", "x", "--error", "y").code == 2
        assert ask(server, "purge", "e", "--id", "x", "--error", "y").code == 2
        group = next(group["fingerprint"] for group in found if group["shape"] == "no such user …")
        assert len(ask(server, "dead", "e", "--group", group).out.splitlines()) == 1 + 2
        done = ask(server, "retry", "--group", group, "--yes")
        assert done.out == "all queues: 2 of 2 dead letters with this error retried\n"
        assert ask(server, "purge", "e", "--tag", "x", "--yes").out == "e: 0 of 0 dead letters deleted\n"
        assert (ask(server, "retry").code, ask(server, "purge", "--id", "x").code) == (2, 2)
        assert ask(server, "retry", "e", "--id", "x", "--canary", "1").code == 2


@pytest.mark.parametrize(("limit", "shown", "told"), [(3, 3, "3 of 5 dead letters"), (5, 5, ""), (9, 5, "")])
def test_dead_letters_come_page_by_page(monkeypatch: pytest.MonkeyPatch, limit: int, shown: int, told: str):
    entries = [{"job": {"id": str(n)}, "enteredAt": n, "reason": "stalled", "error": None} for n in range(5)]

    def answer(*call: Any) -> Any:
        after = int(call[-1].partition("after=")[2] or 0)
        return {"entries": entries[after : after + 2], "total": 5, "next": str(after + 2) if after < 4 else None}

    answer_with(monkeypatch, remote, answer)
    done = CliRunner().invoke(main, ["dead", "q", "--limit", str(limit)])
    assert len(done.stdout.splitlines()) == 1 + shown
    assert done.stderr.startswith(told)
    assert bool(done.stderr) == bool(told)


def test_a_retry_that_breaks_off_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch):
    pages = [{"count": 1000, "left": 2000, "next": "a"}, {"count": 500, "left": 1500, "next": "b"}]

    def answer(*_: object) -> Any:
        if not pages:
            raise click.ClickException("the disk is full (503)")
        return pages.pop(0)

    answer_with(monkeypatch, dead, answer)
    for told in ("the disk is full (503); 1,500 were retried before", "the disk is full (503)"):
        done = CliRunner().invoke(main, ["retry", "q", "--yes"])
        assert (done.exit_code, done.output) == (1, f"bunqueue-trio: {told}\n")


class DeadOnes:
    """A queue whose dead letters are a chain, or die again at once; pages are of 2."""

    def __init__(self, dead: int, *, dies_again: bool = False) -> None:
        self.dead, self.dies_again, self.asked = dead, dies_again, 0

    def answer(self, *call: Any) -> dict[str, Any]:
        self.asked += 1
        assert self.asked < 100, "it goes on for ever"
        after = int((json.loads(call[4]) if call[4:] else {}).get("after", 0)) + 2
        last = after >= self.dead
        count = min(2, self.dead) if self.dies_again else int(last and self.dead > 0)
        if not self.dies_again:
            self.dead -= count
        return {"count": count, "left": self.dead - count * self.dies_again, "next": None if last else str(after)}


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (DeadOnes(5), "q: 5 retried, 0 still dead\n"),
        (DeadOnes(0), "q: 0 retried, 0 still dead\n"),
        (
            DeadOnes(4, dies_again=True),
            "q: 4 retried, 2 still dead (1: an unfinished job has their unique key; 3: new; 2: they died just now, retry again)\n",
        ),
    ],
    ids=["chain", "none", "dies again"],
)
def test_a_retry_goes_on_while_others_can_follow(monkeypatch: pytest.MonkeyPatch, server: DeadOnes, said: str):
    answer_with(monkeypatch, dead, server.answer)
    tried = {"count": 2, "refused": {"key-held": 1, "new": 3}, "examples": [], "next": None}
    answer_with(monkeypatch, many, lambda *_: tried)
    assert CliRunner().invoke(main, ["retry", "q", "--yes"]).output.startswith(said)


@pytest.mark.slow
def test_a_chain_comes_back_at_once(server: Running):
    with server.client() as client:
        last = client.post("/queues/chain/jobs", json={"data": 1, "maxAttempts": 1}).json()["id"]
        first = last
        jobs = []
        for n in range(2500):
            jobs.append({"data": 1, "jobId": f"chain-{n}", "dependsOn": [last]})
            last = f"chain-{n}"
        assert client.post("/queues/chain/jobs/bulk", json={"jobs": jobs}).status_code == 200
        client.get("/queues/chain/jobs")
        assert client.post(f"/jobs/{first}/fail", json={"error": "no luck"}).status_code == 200
    assert ask(server, "retry", "chain", "--yes").out == "chain: 2,501 retried, 0 still dead\n"


@pytest.mark.slow
def test_a_dead_job_is_corrected_as_the_page_says(server: Running):
    with server.client() as client:
        job_id = client.post("/queues/emails/jobs", json={"data": 1, "maxAttempts": 1}).json()["id"]
        client.get("/queues/emails/jobs")
        assert client.post(f"/jobs/{job_id}/fail", json={"error": "no luck"}).status_code == 200
        (entry,) = client.get("/queues/emails/dlq").json()["entries"]
        assert entry["job"] == client.get(f"/jobs/{job_id}").json()["job"]
        block = re.search(r"To correct one:.*?\n\n((?:    .*\n)+)", OPERATIONS)
        assert block is not None
        for line in block[1].splitlines():
            program, *arguments = shlex.split(line.replace("ID", job_id))
            assert program == "bunqueue-trio"
            assert ask(server, *arguments).code == 0
        job = client.get("/queues/emails/jobs").json()["job"]
        assert (job["id"], job["data"]) == (job_id, {"to": "user@test.com"})


def test_a_time_later_than_any_calendar_is_shown(monkeypatch: pytest.MonkeyPatch):
    entry = {"job": {"id": "x"}, "enteredAt": 2**53, "reason": "stalled", "error": None}
    answer_with(monkeypatch, remote, lambda *_: {"entries": [entry], "total": 1, "next": None})
    assert CliRunner().invoke(main, ["dead", "q"]).output.splitlines()[1] == f"{2**53} ms  x   stalled"


@pytest.mark.slow
def test_dead_letters_are_rerun_by_the_server(server: Running):
    def die(n: int) -> None:
        with server.client() as client:
            for _ in range(n):
                job_id = client.post("/queues/rerun/jobs", json={"data": 1, "maxAttempts": 1}).json()["id"]
                client.get("/queues/rerun/jobs")
                client.post(f"/jobs/{job_id}/fail", json={"error": "no luck"})

    assert ask(server, "reruns") == (0, "", "no reruns\n")
    die(2)
    assert "say --yes" in ask(server, "rerun", "rerun").err
    assert "Nobody asks for jobs of queue rerun" in ask(server, "rerun", "rerun", "--yes").err
    assert "lists the groups" in ask(server, "rerun", "rerun", "--group", "nothing", "--yes").err
    began = ask(server, "rerun", "rerun", "--yes", "--force", "--detach", "--count", "1")
    assert began.code == 0
    rerun = began.out.partition(":")[0]
    assert began.out == f"{rerun}: rerun: 2 dead letters, 1 first, at most 10 a second\n"
    assert rerun in ask(server, "reruns").out
    assert json.loads(ask(server, "reruns", "--json").out)["filter"] == {"queue": "rerun"}
    stopped = ask(server, "reruns", "stop", rerun)
    assert stopped.out.startswith(f"{rerun}: stopped: ")
    assert "Rerun not found" in ask(server, "reruns", "stop", "nobody").err


def test_a_rerun_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    view = {"id": "r", "state": "first", "why": None, "retried": 1, "open": 1, "died": 0, "refused": {}}
    looks = iter([view, view | {"state": "rest", "retried": 3, "why": "queue q is paused"}])
    monkeypatch.setattr(reruns.time, "sleep", lambda _: None)
    end: dict[str, object] = {}
    answer_with(monkeypatch, reruns, lambda *_: {"reruns": [next(looks, view | end)]})
    end |= {"state": "done", "open": 0, "refused": {"key-held": 2}}
    begun = reply_to(c.RerunDlq, {"rerun": view}).rerun
    reruns._follow("", None, begun, as_json=False)
    told = capsys.readouterr()
    assert told.out == "done: 1 retried, 0 not ended, 0 died again (not key-held: 2)\n"
    assert told.err.splitlines() == [
        "the first: 1 retried, 1 not ended, 0 died again", "the others: 3 retried, 1 not ended, 0 died again: queue q is paused",
    ]  # fmt: skip
    end |= {"state": "stopped", "why": "3 of 10 died again"}
    with pytest.raises(click.ClickException, match="it has stopped: 3 of 10 died again; the others stay dead"):
        reruns._follow("", None, begun, as_json=False)


def test_what_a_group_has_in_common_is_said():
    common = InCommon(sampled=10, tags=["nightly"], group_id="batch-1", keys=["to", "tenant"])
    assert dead._common(common) == "  [the newest 10 have tag nightly; group batch-1; keys to, tenant]"
    assert dead._common(replace(common, sampled=1)) == ""
    assert dead._common(InCommon(sampled=2, tags=[], group_id=None, keys=[])) == ""
