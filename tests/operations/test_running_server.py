"""The commands that ask a running server: what they print, and that every error is one line."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import main, push
from bunqueue_trio.protocol.options import PushOptions, push_fields
from tests.operations.asked import answer_with
from tests.operations.processes import Done, Running, bunqueue, environment, serving, until
from tests.patience import PATIENCE_S
from tests.wire.server import free_port

pytestmark = pytest.mark.slow  # processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("remote"), env={"AUTH_TOKENS": "secret"}) as running:
        yield running


def ask(server: Running, *arguments: str, token: str = "secret", stdin: str = "") -> Done:
    return bunqueue(*arguments, env={"BUNQUEUE_URL": server.url, "BUNQUEUE_TOKEN": token}, stdin=stdin)


def test_push_prints_the_id_and_passes_payload_and_options_on(server: Running):
    payload = '{"z": 1e999, "a": [10000000000000000000001, "\u2028ü"]}'
    done = ask(server, "push", "emails", payload, "--priority", "-5", "--delay", "60s", "--max-attempts", "7")
    assert (done.code, done.err) == (0, "")
    with server.client(headers={"Authorization": "Bearer secret"}) as client:
        response = client.get(f"/jobs/{done.out.strip()}")
    assert payload in response.text, "to the byte"
    job = json.loads(response.text)["job"]
    assert (job["priority"], job["maxAttempts"], job["runAt"] - job["createdAt"]) == (-5, 7, 60_000)


def test_push_has_a_flag_for_every_option(server: Running):
    """What the server has of the job; a wait for another job shows in its state, and a second run in the queue."""
    first = ask(server, "push", "flags", "0", "--delay", "10m").out.strip()
    done = ask(
        server, "push", "flags", "1", "--backoff", "2500ms", "--ttl", "700s", "--timeout", "30s", "--tag", "a", "--tag",
        "b", "--group-id", "g", "--lifo", "--depends-on", first, "--remove-on-complete", "--remove-on-fail",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    repeating = ask(server, "push", "again", "1", "--repeat-every", "1ms", "--repeat-limit", "2").out.strip()
    with server.client(headers={"Authorization": "Bearer secret"}) as client:
        job = client.get(f"/jobs/{done.out.strip()}").json()["job"]
        assert (job["backoff"], job["tags"]) == (2500, ["a", "b"])
        assert client.get(f"/jobs/{done.out.strip()}/state").json()["state"] == "waiting-children"
        for _ in range(2):
            pulled = client.get("/queues/again/jobs", params={"timeout": 10_000}).json()
            assert pulled["job"]["data"] == 1
            client.post(f"/jobs/{pulled['job']['id']}/ack", json={"token": pulled["token"]})
        assert client.get("/queues/again/jobs", params={"timeout": 100}).json()["job"] is None
    assert repeating


def test_push_sends_what_the_flags_say(monkeypatch: pytest.MonkeyPatch):
    """Every option of a push from Python is a flag, and arrives under its name and in its unit."""
    sent: list[bytes] = []
    answer_with(monkeypatch, push, lambda *call: (sent.append(call[-1]), {"id": "x"})[1])
    arguments = [
        "q", "1", "--priority", "1", "--delay", "2ms", "--max-attempts", "3", "--backoff", "4ms", "--ttl", "5ms", "--timeout", "6ms",
        "--unique-key", "u", "--job-id", "j", "--tag", "t", "--group-id", "g", "--lifo", "--remove-on-complete",
        "--remove-on-fail", "--durable", "--depends-on", "d", "--repeat-every", "7ms", "--repeat-limit", "8",
        "--repeat-name", "n", "--name", "welcome",
    ]  # fmt: skip
    push.push.main(arguments, standalone_mode=False)
    options: Any = {
        "priority": 1, "delay": 0.002, "max_attempts": 3, "backoff": 0.004, "ttl": 0.005, "timeout": 0.006,
        "unique_key": "u", "job_id": "j", "tags": ["t"], "group_id": "g", "lifo": True, "remove_on_complete": True,
        "remove_on_fail": True, "durable": True, "depends_on": ["d"], "repeat_every": 0.007, "repeat_limit": 8,
        "repeat_name": "n", "name": "welcome",
    }  # fmt: skip
    assert set(options) == set(PushOptions.__annotations__)
    assert json.loads(sent[0]) == json.loads(msgspec.json.encode(push_fields(1, options, str)))


@pytest.mark.parametrize(
    "arguments", [["job"], ["pause"], ["push", "q", "1", "--job-id"], ["purge", "q", "--yes", "--id"]]
)
def test_what_is_no_utf_8_is_wrong_usage(arguments: list[str]):
    done = CliRunner().invoke(main, [*arguments, os.fsdecode(b"\xff")])
    assert (done.exit_code, "'\\udcff' is no UTF-8" in done.output) == (2, True)


def test_push_says_what_a_backoff_is_like(monkeypatch: pytest.MonkeyPatch):
    sent: list[bytes] = []
    answer_with(monkeypatch, push, lambda *call: (sent.append(call[-1]), {"id": "x"})[1])
    flags = ["--backoff", "2s", "--backoff-max", "1m"]
    push.push.main(["q", "1", *flags], standalone_mode=False)
    push.push.main(["q", "1", *flags, "--backoff-type", "fixed", "--backoff-jitter", "0.5"], standalone_mode=False)
    assert [json.loads(body)["backoff"] for body in sent] == [
        {"type": "exponential", "delay": 2000, "maxDelay": 60_000},
        {"type": "fixed", "delay": 2000, "maxDelay": 60_000, "jitter": 0.5},
    ]
    with pytest.raises(click.UsageError, match="--backoff-max needs --backoff"):
        push.push.main(["q", "1", "--backoff-max", "1m"], standalone_mode=False)


def test_push_reads_standard_input_and_is_idempotent_by_job_id(server: Running):
    arguments = ("push", "q", "-", "--job-id", "mine", "--unique-key", "k", "--durable")
    assert [ask(server, *arguments, stdin="[1]").out for _ in range(2)] == ["mine\n", "mine\n"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("push", "q", "{bad"), 2, "bunqueue-trio push: Invalid value for JSON: is no JSON"),
        (("push", "a b", "1"), 1, "Queue name contains invalid characters (400)"),
        (("push", "q", "1", "--priority", "99999999"), 1, "priority must be at most 1000000 (400)"),
        (("push", "q"), 2, "bunqueue-trio push: Missing argument 'JSON'. (see --help)"),
        (("push", "q", "1", "--repeat-limit", "2"), 2, "bunqueue-trio push: --repeat-limit needs --repeat-every"),
        (("push", "q", "1", "--delay", "x"), 2, "'x' must be a time, such as 500ms"),
        (("push", "q", "hello"), 2, "a string needs quotes: '\"hello\"'"),
        (("push", "q", "@/no/such.json"), 2, "'/no/such.json' cannot be read"),
        (("watch", "--type", "done"), 2, "'done' is not one of 'cancelling', 'cleaned', 'completed'"),
        (("nothing",), 2, "bunqueue-trio: No such command 'nothing'. (see --help)"),
        (("pauze",), 2, "No such command 'pauze'. (Did you mean one of: 'pause', 'purge'?)"),
    ],
)
def test_what_is_refused_is_said_in_one_line(server: Running, arguments: tuple[str, ...], code: int, complaint: str):
    done = ask(server, *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert complaint in done.err


@pytest.mark.parametrize("command", [("stats",), ("push", "q", "1"), ("watch",)])
def test_a_wrong_token_is_said_in_one_line(server: Running, command: tuple[str, ...]):
    done = ask(server, *command, token="wrong")
    assert (done.code, done.err) == (
        1,
        f"bunqueue-trio: {server.url}: Unauthorized (401): the token in BUNQUEUE_TOKEN or --token is missing or wrong\n",
    )


@pytest.mark.parametrize("command", [("stats",), ("push", "q", "1"), ("watch",)])
def test_a_server_that_is_not_there_is_said_in_one_line(command: tuple[str, ...]):
    url = f"http://127.0.0.1:{free_port()}"
    done = bunqueue(*command, "--url", url)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith(f"bunqueue-trio: {url}: ")
    assert "Connection refused" in done.err
    for bad, code in (("nonsense", 1), ("unix:/no/such.sock", 1), ("http://[", 2)):
        done = bunqueue(*command, "--url", bad)
        assert (done.code, done.err.count("\n")) == (code, 1), bad


def test_an_address_is_written_as_for_other_programs(server: Running, tmp_path: Path):
    place = server.url.removeprefix("http://")
    (tmp_path / "job.json").write_text('{"from": "a file"}')
    for url in (place, f"ws://{place}/ws", f"ws://{place}/"):
        env = {"BUNQUEUE_URL": url, "BUNQUEUE_TOKEN": "secret\n"}
        done = bunqueue("push", "q", f"@{tmp_path}/job.json", "--delay", "1.5h", env=env)
        assert (done.code, done.err) == (0, ""), url
        with server.client(headers={"Authorization": "Bearer secret"}) as client:
            job = client.get(f"/jobs/{done.out.strip()}").json()["job"]
        assert (job["data"], job["runAt"] - job["createdAt"]) == ({"from": "a file"}, 5_400_000)


@pytest.mark.parametrize("command", [("stats",), ("push", "q", "1"), ("watch",), ("doctor", "--live")])
def test_secrets_are_in_no_error(command: tuple[str, ...]):
    url = f"http://user:hunter2@127.0.0.1:{free_port()}"
    for token in ("geheim\nnis", "geheimnis", "geheimé"):
        done = bunqueue(*command, env={"BUNQUEUE_URL": url, "BUNQUEUE_TOKEN": token})
        assert done.code in {1, 2}
        assert done.err.count("\n") == 1
        assert "hunter2" not in done.err
        assert "geheim" not in done.err


def test_another_program_at_the_address_is_noticed():
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        done = bunqueue("stats", "--url", url)
        thread.join()
    assert (done.code, done.err) == (1, f"bunqueue-trio: {url}: is no bunqueue server (200)\n")


def test_stats_are_a_table_or_the_servers_own_words(server: Running):
    done = ask(server, "stats")
    assert done.code == 0
    rows = dict(re.split("  +", line) for line in done.out.splitlines())
    assert {"waiting", "active", "dead letters", "pushed since the start", "memory in use"} <= set(rows), (
        "as all commands call them"
    )
    assert rows["memory resident"].endswith("MB")
    assert not re.search("[a-z][A-Z]", done.out), "those are names of fields"
    reply = json.loads(ask(server, "stats", "--json").out)
    assert set(reply) == {"ok", "stats", "memory", "collections"}


def test_watch_shows_events_of_a_queue_and_a_type_and_ends_after_a_number_of_them(server: Running, tmp_path: Path):
    command = ["watch", "--queue", "watched", "--type", "pushed", "--type", "completed", "--count", "2", "--json"]
    with Watching(server, tmp_path, *command) as process:
        with server.client(headers={"Authorization": "Bearer secret"}) as client:
            until_connected(client, 1)
            client.post("/queues/other/jobs", json={"data": 1})
            job = client.post("/queues/watched/jobs", json={"data": "line\u2028end"}).json()["id"]
            token = client.get("/queues/watched/jobs").json()["token"]
            client.post(f"/jobs/{job}/ack", json={"token": token})
        assert process.wait(60) == 0
    events = [json.loads(line) for line in (tmp_path / "watch.out").read_text().split("\n") if line]
    assert [(event["eventType"], event["queue"], event["jobId"]) for event in events] == [
        ("pushed", "watched", job), ("completed", "watched", job),
    ]  # fmt: skip
    assert events[0]["data"] == "line\u2028end"


def test_watch_hides_payloads_and_shows_what_else_there_is(server: Running, tmp_path: Path):
    with Watching(server, tmp_path, "watch", "--queue", "h", "--count", "3") as process:
        with server.client(headers={"Authorization": "Bearer secret"}) as client:
            until_connected(client, 1)
            job = client.post("/queues/h/jobs", json={"data": "private", "maxAttempts": 1}).json()["id"]
            client.get("/queues/h/jobs")
            client.post(f"/jobs/{job}/fail", json={"error": "no luck"})
        assert process.wait(60) == 0
    text = (tmp_path / "watch.out").read_text()
    assert "private" not in text
    assert [line.split()[1] for line in text.splitlines()] == ["pushed", "pulled", "drained"]


def test_watch_goes_on_after_a_restart_without_missing_anything(tmp_path: Path):
    port = free_port()
    env = {"BIND": f"127.0.0.1:{port}"}

    def listening(running: Running) -> bool:
        running.port = port
        return "listening" in running.log

    with (
        serving(tmp_path, env=env, ready=listening) as first,
        Watching(first, tmp_path, "watch", "--count", "3", "--data") as process,
    ):
        with first.client() as client:
            until_connected(client, 1)
            client.post("/queues/q/jobs", json={"data": "first"})
        until(lambda: "first" in (tmp_path / "watch.out").read_text(), PATIENCE_S, lambda: "nothing seen")
        assert first.stop() == 0
        with serving(tmp_path, env=env, ready=listening) as second, second.client() as client:
            for data in ("second", "third"):
                client.post("/queues/q/jobs", json={"data": data})
            assert process.wait(60) == 0
    text = (tmp_path / "watch.out").read_text()
    assert [line.rsplit("=", 1)[1] for line in text.splitlines()] == ["'first'", "'second'", "'third'"]
    assert "connection lost, trying again" in (tmp_path / "watch.err").read_text()


def test_ctrl_c_is_the_usual_end_of_watching(server: Running, tmp_path: Path):
    with Watching(server, tmp_path, "watch") as process:
        with server.client(headers={"Authorization": "Bearer secret"}) as client:
            until_connected(client, 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert (tmp_path / "watch.err").read_text() == ""


def test_a_reader_that_has_seen_enough_causes_no_complaint(server: Running):
    command = f"{sys.executable} -m bunqueue_trio stats | head -n 1"
    env = environment({"BUNQUEUE_URL": server.url, "BUNQUEUE_TOKEN": "secret"})
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""


def test_on_a_terminal_there_are_colours(server: Running):
    controller, terminal = pty.openpty()
    env = environment({"BUNQUEUE_URL": server.url, "BUNQUEUE_TOKEN": "secret", "TERM": "xterm-256color"})
    try:
        subprocess.run(
            [sys.executable, "-m", "bunqueue_trio", "stats"], env=env, stdout=terminal, check=True, timeout=60
        )
        assert b"\x1b[1m" in os.read(controller, 65536)
    finally:
        os.close(controller)
        os.close(terminal)


class Watching:
    """A `watch` process, its output in files; killed at the end if it has not ended."""

    def __init__(self, server: Running, directory: Path, *command: str) -> None:
        self._env = environment({"BUNQUEUE_URL": server.url, "BUNQUEUE_TOKEN": "secret", "PYTHONUNBUFFERED": "1"})
        self._directory = directory
        self._command = [sys.executable, "-m", "bunqueue_trio", *command]

    def __enter__(self) -> "subprocess.Popen[bytes]":
        with (self._directory / "watch.out").open("wb") as out, (self._directory / "watch.err").open("wb") as err:
            self._process = subprocess.Popen(self._command, env=self._env, stdout=out, stderr=err)
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def until_connected(client: object, streams: int) -> None:
    def connected() -> bool:
        return bool(client.get("/health").json()["connections"]["sse"] == streams)  # type: ignore[attr-defined]

    until(connected, PATIENCE_S, lambda: "no stream")
