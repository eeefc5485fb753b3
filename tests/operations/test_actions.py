"""`bunqueue-trio actions`: what it prints."""

import json
from collections.abc import Iterator

import pytest

from tests.operations.processes import Done, Running, bunqueue, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("actions"), env={"AUTH_TOKENS": "secret"}) as running:
        yield running


def ask(server: Running, *arguments: str) -> Done:
    return bunqueue(*arguments, env={"BUNQUEUE_URL": server.url, "BUNQUEUE_TOKEN": "secret"})


@pytest.mark.slow
def test_acts_are_listed_newest_first(server: Running):
    empty = ask(server, "actions")
    assert (empty.code, empty.out, empty.err) == (0, "", "nothing has been done yet\n")
    assert ask(server, "actions", "--json").err == ""
    for arguments in (
        ("pause", "emails", "--reason", "mail\x1b[2J is down"),
        ("limit", "emails", "2"),
        ("resume", "emails"),
    ):
        assert ask(server, *arguments).code == 0
    done = ask(server, "actions")
    assert done.err == ""
    resumed, limited, paused = done.out.splitlines()
    assert resumed.endswith("  token (127.0.0.1)  Resume  emails  1")
    assert limited.endswith("  token (127.0.0.1)  SetConcurrency  emails  concurrency=2  1")
    assert "Pause  emails  reason=" in paused
    assert "\x1b" not in done.out
    some = ask(server, "actions", "--limit", "2", "--json")
    assert [json.loads(line)["command"] for line in some.out.splitlines()] == ["Resume", "SetConcurrency"]
    assert some.err == "the newest 2 of 3; --limit shows more\n"
    assert ask(server, "actions", "--limit", "3").err == ""
