"""The commands for dead letters: what they print, and what is so afterwards."""

import json
from collections.abc import Iterator

import pytest

from tests.operations.processes import Done, Running, bunqueue, serving

pytestmark = pytest.mark.slow  # processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("dead")) as running:
        yield running


def ask(server: Running, *arguments: str) -> Done:
    return bunqueue(*arguments, env={"BUNQUEUE_URL": server.url})


def test_dead_letters_are_shown_and_retried(server: Running):
    ids = []
    with server.client() as client:
        for _ in range(3):
            ids.append(client.post("/queues/q/jobs", json={"data": 1, "maxAttempts": 1}).json()["id"])
            client.get("/queues/q/jobs")
            assert client.post(f"/jobs/{ids[-1]}/fail", json={"error": "no luck\x1b"}).status_code == 200
    lines = ask(server, "dead", "q", "--limit", "2").out.splitlines()
    assert [line.split()[2] for line in lines] == ids[:0:-1]
    assert all("max_attempts_exceeded  no luck" in line and "\x1b" not in line for line in lines)
    shown = [json.loads(line)["job"]["id"] for line in ask(server, "dead", "q", "--json").out.splitlines()]
    assert shown == ids[::-1]
    assert ask(server, "retry", "q", "--id", ids[1]).out == "q: 1 retried, 2 left\n"
    assert ask(server, "retry", "q").out == "q: 2 retried, 0 left\n"
    assert ask(server, "dead", "q").out == ""
    done = ask(server, "retry", "q", "--id", "nobody")
    assert (done.code, done.out) == (1, "")
    assert "No dead letter of this id in this queue" in done.err
