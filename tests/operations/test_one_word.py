"""One spelling and one word for one thing, wherever the server and its commands speak to people."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import httpx
import pytest
from click import ClickException, Context
from click.testing import CliRunner
from rich.table import Table

from bunqueue_trio.cli import COMMANDS, main, remote
from bunqueue_trio.cli.listing import Listing, show_table
from bunqueue_trio.cli.remote import CALLED, accepted, unreachable
from bunqueue_trio.config import parse_duration_ms
from bunqueue_trio.config.spans import span, typed_ms, whole
from bunqueue_trio.pages.words import reached

SRC = Path(__file__).parents[2] / "src" / "bunqueue_trio"
SPOKEN = ("cli", "engine", "pages", "storage", "ui")
"""Layers whose sentences an operator reads beside each other; the clients count in seconds, as Python does."""
_UNIT = re.compile(r"( (ms|s|sec|seconds?|min|minutes?|h|hours?|d)|ms)\b(?! (to|of))")
OWN_SPELLING = {
    "engine/holding.py": "the error of a job that took too long, as the API reference has it",
    "cli/crashtest.py": "a trial of a developer",
    "cli/remote.py": "a moment later than any calendar",
    "ui/render.py": "the same",
    "ui/views/now.py": "a number of minutes",
}


def _spelled(tree: ast.AST) -> Iterator[str]:
    """Yield the texts in which a number is followed by a unit of time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                is_number = isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)
                if is_number and _UNIT.match(str(after.value)):
                    yield ast.unparse(node)


def test_every_duration_is_spelled_by_one_function():
    """Else the same time is ``5m``, ``5 m`` and ``5 min`` on three pages that lie beside each other at night."""
    own: dict[str, list[str]] = {}
    for layer in SPOKEN:
        for file in (SRC / layer).rglob("*.py"):
            if found := list(_spelled(ast.parse(file.read_text()))):
                own[str(file.relative_to(SRC))] = found
    assert own.keys() == OWN_SPELLING.keys(), own


_MANY = re.compile(
    r" (\w+ )?(acts|changes|cuts|deliveries|dead letters|doors|entries|events|groups|jobs|kills|passes|pushes|queues|rounds|rows|schedules|slots|times|workers)\b"
)


def _is_len(value: ast.AST) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) == "len"


def _uncounted(tree: ast.AST) -> Iterator[str]:
    """Yield the texts in which a number is followed by a plural, whatever the number."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                is_number = isinstance(value, ast.FormattedValue) and (
                    value.format_spec is not None or _is_len(value.value)
                )
                if is_number and isinstance(after, ast.Constant) and _MANY.match(str(after.value)):
                    yield ast.unparse(node)


@pytest.mark.parametrize("layer", ["cli", "pages", "ui", "testing/crash"])
def test_one_is_no_plural(layer: str):
    """``count`` says ``1 dead letter``."""
    found = {
        str(file): said
        for file in (SRC / layer).rglob("*.py")
        if (said := list(_uncounted(ast.parse(file.read_text()))))
    }
    assert not found


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 ms"), (0.34, "0.3 ms"), (71.4, "71 ms"), (999, "999 ms"), (1000, "1 s"), (1560, "1.5 s"), (9990, "9.9 s"),
        (41_000, "41 s"), (90_000, "1 min 30 s"), (41 * 60_000 + 5000, "41 min"), (80 * 60_000, "1 h 20 min"), (-5, "0 ms"),
    ],
)  # fmt: skip
def test_how_long_something_took(ms: float, said: str):
    assert span(ms) == said


@pytest.mark.parametrize("ms", [0, 1, 999, 1000, 1001, 90_000, 60_000, 5_400_000, 86_400_000, 30 * 86_400_000])
def test_what_was_set_is_shown_to_the_ms_and_can_be_typed(ms: int):
    assert parse_duration_ms(whole(ms)) == ms
    assert parse_duration_ms(typed_ms(ms)) == ms
    assert whole(ms).replace(" ", "").replace("min", "m") == typed_ms(ms)


def test_a_list_says_what_its_columns_are(capsys: pytest.CaptureFixture[str]):
    with Listing("died", "id", "error", as_json=False) as listing:
        listing.add({}, "now", "a-long-id", "it\x1b broke")
        listing.add({}, "2 min ago", "b", "")
    assert capsys.readouterr().out.splitlines() == [
        "died       id         error", "now        a-long-id  it\\x1b broke", "2 min ago  b",
    ]  # fmt: skip


def test_a_list_of_nothing_and_one_for_programs_have_no_headings(capsys: pytest.CaptureFixture[str]):
    with Listing("died", "id", as_json=False):
        pass
    with Listing("died", "id", as_json=True) as listing:
        listing.add({"id": "a"}, "now", "a")
    assert capsys.readouterr().out == '{"id":"a"}\n'


def test_what_came_before_a_failure_is_shown(capsys: pytest.CaptureFixture[str]):
    def listed() -> None:
        with Listing("id", "error", as_json=False) as listing:
            listing.add({}, "a", "")
            raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        listed()
    assert capsys.readouterr().out == "id  error\na\n"


@pytest.mark.parametrize("command", ["jobs", "dead", "reruns", "schedules", "queues", "workers", "actions"])
def test_every_list_of_the_command_line_has_headings(command: str):
    """Else nobody knows whether a time is that of a push or of an end."""
    source = (SRC / "cli" / f"{command}.py").read_text()
    assert "Listing(" in source or "add_column(" in source


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "Connection refused; is the server running, and there? --url or BUNQUEUE_URL"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "is the server running"),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), "a response; if that port takes TLS, say https://"),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "takes no TLS: say http://"),
        (httpx.ReadTimeout("timed out"), "timed out"),
    ],
)  # fmt: skip
def test_who_reaches_no_server_hears_what_to_look_at(error: Exception, helps: str):
    said = unreachable("http://127.0.0.1:9", error).message
    assert helps in said
    assert "Errno" not in said


def test_who_has_asked_too_often_hears_when_to_come_back():
    response = httpx.Response(429, headers={"Retry-After": "70"}, json={"ok": False, "error": "Rate limit exceeded"})
    with pytest.raises(ClickException, match=r"Rate limit exceeded \(429\); it passes in 1 min 10 s"):
        accepted("http://q", response, response.content)


WORDS_OF_THE_REFERENCE = re.compile(r"\b(dlq|queued|processing)\b", re.IGNORECASE)
"""The API reference has these for what everything else calls dead letters, waiting and active; where they are fields, they stay."""


def test_the_command_line_has_one_word_for_one_thing():
    for name in COMMANDS:
        shown = CliRunner().invoke(main, [name, "--help"]).output
        assert not WORDS_OF_THE_REFERENCE.search(shown), name
    assert {CALLED[name] for name in ("queued", "processing", "dlq", "failed")} == {"waiting", "active", "dead letters"}


@pytest.mark.parametrize("words", [("jobs", "q"), ("clean", "q"), ("cancel", "--state")])
@pytest.mark.parametrize(("said", "called"), [("dead", "failed"), ("DLQ", "failed"), ("queued", "waiting")])
def test_who_says_another_word_for_a_state_hears_which_it_is(words: tuple[str, ...], said: str, called: str):
    done = CliRunner().invoke(main, [*words, said])
    assert (done.exit_code, f"'{called}' is what '{said.lower()}' is called here" in done.output) == (2, True)


def test_another_word_is_no_state_where_its_own_is_none():
    assert "is not one of" in CliRunner().invoke(main, ["clean", "q", "running"]).output


@pytest.mark.parametrize(
    ("words", "error", "helps"),
    [
        (("why", "nix"), "Job not found", "nix; `bunqueue-trio jobs`"), (("job", "nix"), "Job not found", "nix; `bunqueue-trio jobs`"),
        (("logs", "nix"), "Job not found", "nix; `bunqueue-trio jobs`"), (("cancel", "nix"), "Job not found", "nix; `bunqueue-trio jobs`"),
        (("change", "nix", "--priority", "1"), "Job not found", "nix; `bunqueue-trio jobs`"),
        (("reruns", "stop", "9"), "Rerun not found", "9; `bunqueue-trio reruns`"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_with_where_to_look(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], error: str, helps: str
):
    gone = httpx.MockTransport(lambda _: httpx.Response(404, json={"ok": False, "error": error}))
    monkeypatch.setattr(remote, "connect", lambda *_: httpx.Client(base_url="http://gone", transport=gone))
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 1
    assert done.output.count("nix") <= 1, "it is named once"
    assert f"{error} (404): {helps}" in done.output


def test_an_address_is_said_that_can_be_reached():
    listens = ("http://0.0.0.0:7610", "https://[::]:7611", "http://10.0.0.7:80", "unix:/run/q", "http://10.0.0.0:80")
    said = reached(listens, "mill").split(", ")
    assert said[:2] == [f"http{s}://mill:761{i} and any other address of that machine" for i, s in enumerate(("", "s"))]
    assert tuple(said[2:]) == listens[2:]


class Narrow(StringIO):
    """A terminal that is too narrow for most tables."""

    def isatty(self) -> bool:
        """Return what a program asks that wants to know."""
        return True


def test_a_narrow_terminal_cuts_nothing(monkeypatch: pytest.MonkeyPatch):
    """A queue whose column `paused` is left out looks as if it were open."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", Narrow())
    table = Table("queue", *(f"column-{n}" for n in range(20)), box=None)
    table.add_row("emails-of-the-north", *map(str, range(1000, 1020)))
    show_table(table)
    heads, row = sys.stdout.getvalue().splitlines()  # type: ignore[attr-defined]
    assert heads.split() == ["queue", *(f"column-{n}" for n in range(20))]
    assert row.split() == ["emails-of-the-north", *map(str, range(1000, 1020))]


@pytest.mark.parametrize("command", ["actions", "queues", "workers"])
def test_tables_are_shown_as_a_whole(command: str):
    source = (SRC / "cli" / f"{command}.py").read_text()
    assert ("show_table(" in source, "Console(" in source) == (True, False)


def test_a_push_says_all_that_was_said(monkeypatch: pytest.MonkeyPatch):
    """The server refuses 0 attempts; a command that leaves them out pushes a job with three."""
    sent: list[bytes] = []

    def take(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(200, json={"ok": True, "id": "1"})

    there = httpx.MockTransport(take)
    monkeypatch.setattr(remote, "connect", lambda *_: httpx.Client(base_url="http://there", transport=there))
    assert CliRunner().invoke(main, ["push", "q", "1", "--max-attempts", "0", "--delay", "0"]).exit_code == 0
    assert json.loads(sent[0]) == {"data": 1, "maxAttempts": 0, "delay": 0}


def test_an_answer_that_cannot_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch):
    """As of a server of another version: no traceback, and what probably is the matter."""
    there = httpx.MockTransport(lambda _: httpx.Response(200, json={"ok": True, "id": 1}))
    monkeypatch.setattr(remote, "connect", lambda *_: httpx.Client(base_url="http://there", transport=there))
    done = CliRunner().invoke(main, ["push", "q", "1", "--url", "http://there"])
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1)
    assert done.output.startswith("bunqueue-trio: http://there: its answer to PUSH cannot be read: ")
    assert done.output.endswith("is it of another version?\n")


def test_what_is_left_out_of_a_change_has_no_default():
    put, change = (CliRunner().invoke(main, ["schedules", verb, "--help"]).output for verb in ("put", "change"))
    assert ("[default: once]" in put, "[default: once]" in change) == (True, False)
    for shown in (put, change):
        assert "skip, once or all" in " ".join(shown.split())
        assert "allow both, skip the new one, queue it behind, or cancel the old one" in " ".join(shown.split())


GROUPED = [
    (name, verb) for name in ("reruns", "workers") for verb in main.get_command(Context(main), name).commands  # type: ignore[union-attr]
]  # fmt: skip


@pytest.mark.parametrize(("name", "verb"), GROUPED)
def test_each_command_of_a_group_says_where_the_server_is_said(monkeypatch: pytest.MonkeyPatch, name: str, verb: str):
    shown = CliRunner().invoke(main, [name, verb, "--help"]).output
    assert ("--url URL" in shown, "--token TOKEN" in shown) == (True, True)
    asked: list[tuple[str, str | None]] = []

    def connect(url: str, token: str | None) -> httpx.Client:
        asked.append((url, token))
        raise ClickException("seen")

    monkeypatch.setattr(remote, "connect", connect)
    CliRunner().invoke(main, [name, "--token", "far", verb, "x", "--url", "http://near"])
    assert asked == [("http://near", "far")], "what stands nearer counts"
