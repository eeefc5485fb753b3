"""What clients name their jobs, and what a server says, must not steer the terminal of whoever looks at it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import msgspec
import pytest
import structlog
from click.testing import CliRunner

from bunqueue_trio.cli import main
from bunqueue_trio.cli import watch as watching
from bunqueue_trio.client.client import Job
from bunqueue_trio.protocol.replies import DeliveredJob
from tests.operations.answering import answering
from tests.operations.processes import bunqueue, environment
from tests.patience import PATIENCE_S

HOSTILE = "a\x1b[2J\x1b]0;title\x07\nFAKE LINE\r\x7f\u009b5m\u2028\u202e\u2066z"
RAW = {character for character in HOSTILE if not character.isprintable()} - {"\n"}
FIELDS = ("queue", "jobId", "eventType", "error", "prev", "data", "progress")


class Hostile(BaseHTTPRequestHandler):
    """Answers every command of the command line with control characters wherever a text may be."""

    def do_GET(self) -> None:
        if self.path.startswith("/events"):
            event = {"timestamp": 0, "delay": [HOSTILE]} | dict.fromkeys(FIELDS, HOSTILE)
            text = json.dumps(event, ensure_ascii=False).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"id: 1\ndata: " + text + b"\n\n" + b"id: 2\ndata: " + text + b"\n\n")
        elif self.path == "/stats":
            self.answer({"ok": True, "stats": {HOSTILE: 1}, "memory": {HOSTILE: 1}, "collections": {}})
        else:
            finding = {"kind": HOSTILE, "what": HOSTILE, "times": 1}
            audit = {
                "jobsPerSecond": 1,
                "passesBegun": 1,
                "passesDone": 1,
                "checked": 1,
                "lastMs": 1,
                "findings": [finding],
            }
            self.answer({"ok": True, "audit": audit})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"ok": True, "id": HOSTILE})

    def answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


class Refusing(Hostile):
    """Refuses everything, in such words."""

    def do_GET(self) -> None:
        self.answer({"ok": False, "error": HOSTILE}, 400)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with answering(Hostile) as url:
        yield url


COMMANDS = [
    ("watch", "--count", "2"), ("watch", "--data", "--count", "1"), ("watch", "--json", "--count", "1"), ("stats",),
    ("stats", "--json"), ("push", "q", "1"), ("doctor", "--live"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Hostile, Refusing])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_passes_control_characters_on(command: tuple[str, ...], kind: type[Hostile]):
    with answering(kind) as url:
        done = bunqueue(*command, "--url", url)
    shown = done.out + done.err
    assert "[2J" in shown, "what was said is shown"
    assert RAW & set(shown) == set()
    assert [line for line in shown.splitlines() if line.startswith("FAKE")] == []


@pytest.mark.slow
def test_json_means_the_same_when_its_control_characters_are_written_out(url: str):
    done = bunqueue("watch", "--json", "--count", "1", "--url", url)
    assert json.loads(done.out)["jobId"] == HOSTILE


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_a_watch_quietly(url: str):
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -1; exit ${PIPESTATUS[0]}', "bash", sys.executable, "-m", "bunqueue_trio", "watch",
         "--url", url],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert [line for line in done.stderr.splitlines() if line != "connection lost, trying again"] == []


def test_a_jobs_logger_names_it_printably():
    view = DeliveredJob(HOSTILE, "q", msgspec.Raw(b"1"), 0, 0, 0, 1, 0)
    job: Job[Any] = Job(None, view, "token")  # type: ignore[arg-type]
    with structlog.testing.capture_logs() as entries:
        job.log.info("begun")
    assert entries[0]["job"].isprintable()


def test_a_number_longer_than_python_reads_ends_no_watch(monkeypatch: pytest.MonkeyPatch):
    body = b'{"eventType":"pushed","queue":"q","jobId":"j","timestamp":1,"data":%s}' % (b"7" * 5000)
    monkeypatch.setattr(watching, "_events", lambda *_: iter([body]))
    done = CliRunner().invoke(main, ["watch", "--data", "--count", "1"])
    assert (done.exit_code, done.output.count("7" * 5000)) == (0, 1)
