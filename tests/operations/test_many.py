"""The commands for many jobs: a dry run, a question, an act, and a retry that begins with a few."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import canary, main, many, slips
from bunqueue_trio.cli.remote import Refusal
from tests.operations.asked import answer_with, over_http
from tests.operations.processes import bunqueue, serving


@pytest.fixture(autouse=True)
def every_queue_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is answered here is of a queue that somebody uses."""
    answer_with(monkeypatch, slips, lambda *_: {"queue": {"counts": {"waiting": 1}}})


@pytest.mark.slow
def test_many_jobs_are_found_and_acted_on(tmp_path: Path):
    with serving(tmp_path) as server, server.client() as client:
        env = {"BUNQUEUE_URL": server.url}
        for n in range(4):
            body = {"data": {"n": n}, "delay": 3_600_000, "tags": ["x"] if n % 2 else []}
            client.post(f"/queues/q{n % 3}/jobs", json=body)
        lines = bunqueue("jobs", "--tag", "x", env=env).out.splitlines()[1:]
        assert [line.split()[3:5] for line in lines] == [["q0", "delayed"], ["q1", "delayed"]]
        assert (
            len(bunqueue("jobs", "--queue", "q0", "--queue", "q2", "--state", "delayed", env=env).out.splitlines())
            == 1 + 3
        )
        assert len(bunqueue("jobs", "q0", env=env).out.splitlines()) == 1 + 2
        assert bunqueue("jobs", "--text", "nobody", env=env).err == "no jobs\n"
        assert bunqueue("promote", "--tag", "x", env=env).code == 2  # there is nobody to ask
        assert bunqueue("promote", "--tag", "x", "--yes", env=env).out == "2 jobs ready\n"
        client.get("/queues/q1/jobs")
        assert (
            bunqueue("cancel", "--queue", "q1", "--yes", env=env).out
            == "0 jobs cancelled (not is-active: 1; --force takes active ones, too)\n"
        )
        assert bunqueue("cancel", "--queue", "q1", "--force", "--yes", env=env).out == "1 job cancelled\n"
        assert bunqueue("discard", "--state", "delayed", "--yes", env=env).out == "2 jobs discarded\n"
        assert bunqueue("cancel", env=env).code == 2
        assert bunqueue("cancel", "x", "--tag", "x", env=env).code == 2


@pytest.mark.slow
def test_the_others_follow_a_few_that_do_well(tmp_path: Path):
    with serving(tmp_path) as server, server.client() as client:
        env = {"BUNQUEUE_URL": server.url}
        for _ in range(3):
            job_id = client.post("/queues/q/jobs", json={"data": 1, "maxAttempts": 1}).json()["id"]
            client.get("/queues/q/jobs")
            client.post(f"/jobs/{job_id}/fail", json={"error": "late"})
        done = bunqueue("retry", "q", "--error", "late", "--canary", "1", "--wait", "1ms", "--yes", env=env)
        assert (done.code, "1 of 1 have not ended" in done.err) == (1, True)
        counts = client.get("/queues/q/counts").json()["counts"]
        assert (counts["waiting"], counts["failed"]) == (1, 2)


Answers = list[dict[str, Any]]


def replies(monkeypatch: pytest.MonkeyPatch, answers: Answers) -> list[dict[str, Any]]:
    """Let a server say these; return what it was asked."""
    asked: list[dict[str, Any]] = []

    def answer(*call: Any) -> Any:
        asked.append(json.loads(call[-1]))
        reply = answers.pop(0)
        if "raises" in reply:
            raise click.ClickException(reply["raises"])
        return {"refused": {}, "examples": [], "next": None} | reply

    answer_with(monkeypatch, many, answer)
    return asked


def test_an_act_goes_page_by_page_and_says_what_was_refused(monkeypatch: pytest.MonkeyPatch):
    job = {"id": "a\x1b", "queue": "q", "state": "waiting", "error": None}
    asked = replies(
        monkeypatch,
        [
            {"count": 3, "examples": [job], "next": "p"}, {"count": 1},
            {"count": 2, "refused": {"x": 1}, "next": "p"}, {"count": 1, "refused": {"x": 1, "w": 2}},
        ],
    )  # fmt: skip
    done = CliRunner().invoke(main, ["cancel", "--id-prefix", "a", "--older", "1s", "--attempts", "0", "--yes"])
    assert done.stdout.endswith("3 jobs cancelled (not w: 2, x: 2)\n")
    assert {json.dumps(body["filter"]) for body in asked} == {'{"idPrefix": "a", "older": 1000, "attempts": 0}'}
    assert [(body.get("dryRun"), body.get("after")) for body in asked] == [
        (True, None), (True, "p"), (None, None), (None, "p"),
    ]  # fmt: skip


def test_who_is_asked_sees_what_it_is_about(monkeypatch: pytest.MonkeyPatch):
    job = {"id": "a\x1b", "queue": "q", "state": "failed", "error": "no"}
    asked = replies(monkeypatch, [{"count": 5, "examples": [job]}])

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(many.sys, "stdin", Terminal())
    monkeypatch.setattr(click, "confirm", lambda text, **_: (_ for _ in ()).throw(click.Abort(text)))
    with pytest.raises(click.Abort, match="cancel 5 jobs, these and 4 more"):
        many.act_on_many("u", None, {"queue": ["q"]}, "cancel", "cancelled", yes=False, dry_run=False, as_json=False)
    assert len(asked) == 1


def test_of_a_filter_only_the_priority_is_changed(monkeypatch: pytest.MonkeyPatch):
    asked = replies(monkeypatch, [{"count": 2, "examples": []}] * 2)
    done = CliRunner().invoke(main, ["change", "--queue", "q", "--priority", "7", "--yes"])
    assert done.output == "2 jobs changed\n"
    assert [(body["action"], body["priority"], body.get("dryRun")) for body in asked] == [
        ("priority", 7, True),
        ("priority", 7, None),
    ]
    for more in (["--data", "1"], ["--delay", "1m"], ["--delay", "1m", "--priority", "7"]):
        done = CliRunner().invoke(main, ["change", "--queue", "q", "--yes", *more])
        assert (done.exit_code, "only the --priority can be changed" in done.output) == (2, True)


def test_an_unknown_group_is_no_empty_one(monkeypatch: pytest.MonkeyPatch):
    for arguments in (
        ["retry", "q", "--group", "ab"],
        ["purge", "--group", "ab", "--yes"],
        ["discard", "--group", "ab", "--yes"],
    ):
        replies(monkeypatch, [{"count": 0}])
        done = CliRunner().invoke(main, arguments)
        assert (done.exit_code, "has an error of the group ab; `dead --groups` lists" in done.output) == (1, True)


def test_who_cannot_be_asked_learns_how_many_it_were(monkeypatch: pytest.MonkeyPatch):
    replies(monkeypatch, [{"count": 5}])
    done = CliRunner().invoke(main, ["cancel", "--queue", "q"])
    assert done.exit_code == 2
    assert "cancel 5 jobs, these and 5 more: there is nobody to ask; say --yes" in done.output


def test_many_are_retried_at_a_rate(monkeypatch: pytest.MonkeyPatch):
    asked = replies(monkeypatch, [{"count": 3}, {"count": 3}])
    done = CliRunner().invoke(main, ["retry", "q", "--rate", "50", "--yes"])
    assert done.output.endswith("q: 3 of 3 dead letters retried\n")
    assert [body.get("rate") for body in asked] == [None, 50]
    for arguments in (["retry", "q", "--id", "x", "--rate", "5"], ["promote", "x", "--rate", "5"]):
        assert CliRunner().invoke(main, arguments).exit_code == 2
    asked = replies(monkeypatch, [{"count": 3}, {"count": 3}])
    assert CliRunner().invoke(main, ["promote", "--queue", "q", "--rate", "7", "--yes"]).exit_code == 0
    assert [body.get("rate") for body in asked] == [None, 7]


def test_an_act_that_breaks_off_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch):
    replies(
        monkeypatch, [{"count": 5}, {"count": 2, "next": "p"}, {"raises": "gone"}, {"count": 5}, {"raises": "gone"}]
    )
    for told in ("gone; 2 were cancelled before", "gone"):
        done = CliRunner().invoke(main, ["cancel", "--queue", "q", "--yes"])
        assert done.exit_code == 1
        assert done.output.endswith(f"bunqueue-trio: {told}\n")


def test_those_that_depend_on_others_follow_them(monkeypatch: pytest.MonkeyPatch):
    later = {"dependency-dead": 2}
    asked = replies(
        monkeypatch,
        [{"count": 1}, {"count": 1, "refused": later}, {"count": 1, "refused": {"dependency-dead": 1}}, {"count": 1}],
    )
    done = CliRunner().invoke(main, ["retry", "q", "--error", "x", "--yes"])
    assert done.output.endswith("q: 3 of 3 dead letters with this text in their error retried\n")
    assert len(asked) == 4


def test_what_dies_again_at_once_is_not_retried_for_ever(monkeypatch: pytest.MonkeyPatch):
    replies(monkeypatch, [{"count": 2}] + [{"count": 2, "refused": {"dependency-dead": 1}}] * 2)
    done = CliRunner().invoke(main, ["retry", "q", "--error", "x", "--yes"])
    assert "4 of 3 dead letters" in done.output


class Few:
    """A server with dead letters, of which some die again."""

    def __init__(self, ends: dict[str, str | int]) -> None:
        self.ends, self.looks, self.retried = ends, 0, list[str]()

    @contextmanager
    def connection(self, *_: object) -> Iterator[Any]:
        yield over_http(self.ask)

    def ask(self, method: str, path: str, body: bytes = b"{}") -> Any:
        if path.startswith("/jobs?"):
            assert "state=failed" in path
            return {"jobs": [{"id": job_id, "queue": "q"} for job_id in self.ends]}
        if method == "POST":
            job_id = json.loads(body)["jobId"]
            if isinstance(self.ends[job_id], int):
                raise Refusal("no", int(self.ends[job_id]))
            self.retried.append(job_id)
            return {}
        self.looks += 1
        state = self.ends[path.split("/")[2]]
        if state == "gone":
            raise Refusal("not found", 404)
        if state == "broken":
            raise Refusal("no", 503)
        return {"state": "active" if state == "later" and self.looks < 9 else state.replace("later", "completed")}


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ({"a": "completed", "b": "gone", "c": "later", "d": "completed", "e": "failed"}, None),
        ({"a": "completed", "b": "failed"}, "1 of 2 died again: the others stay dead"),
        ({"a": 400, "b": 404, "c": "completed"}, None),
        ({"a": "never"}, "1 of 1 have not ended in 1 ms: the others stay dead"),
        ({"a": 503}, "no"),
        ({"a": "broken"}, "no"),
        ({}, None),
    ],
)
def test_the_first_decide(monkeypatch: pytest.MonkeyPatch, ends: dict[str, str | int], said: str | None):
    server = Few(ends)
    monkeypatch.setattr(canary, "connection", server.connection)
    monkeypatch.setattr(canary, "POLL_S", 0.002)
    patience_s = 0.001 if "never" in ends.values() else 60
    if said is None:
        canary.retry_first("u", None, {"queue": "q"}, 9, 20, patience_s)
    else:
        with pytest.raises(click.ClickException) as caught:
            canary.retry_first("u", None, {"queue": "q"}, 9, 20, patience_s)
        assert caught.value.message == said
    assert server.retried == [job_id for job_id, end in ends.items() if isinstance(end, str)]


@pytest.mark.parametrize(
    ("value", "wanted"), [("20%", 20), ("0", 0), ("99.5 %", 99.5), ("x", None), ("101%", None), ("-1", None)]
)
def test_a_part_of_a_hundred(value: str, wanted: float | None):
    if wanted is None:
        with pytest.raises(click.BadParameter):
            canary.Percent().convert(value, None, None)
    else:
        assert canary.Percent().convert(value, None, None) == wanted
