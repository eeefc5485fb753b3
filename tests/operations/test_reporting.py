"""Reporting cannot hurt what it reports on: logs that cannot be written, floods of lines, hostile text."""

import contextlib
import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from bunqueue_trio.engine.planner import LATE
from bunqueue_trio.logs.limiter import A_SECOND, KINDS_MAX, Limiter
from bunqueue_trio.logs.printable import printable, printable_json
from bunqueue_trio.logs.sink import BYTES_MAX, LINES_MAX, Sink
from tests.operations.processes import Running, environment, until
from tests.patience import PATIENCE_S

FULL = Path("/dev/full")


def nothing(*, at_once: bool) -> tuple[list[str], float | None]:
    return [], None


@contextlib.contextmanager
def started(directory: Path, stderr: int | None, *, shell: str = "") -> Iterator[Running]:
    """Run a server whose log goes to ``stderr``."""
    command = [sys.executable, "-m", "bunqueue_trio", "serve"]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    running = Running(directory / "q.db", {"LOG_FORMAT": "json"}, inherited=environment())
    running.log_path.touch()  # its log goes elsewhere
    process = subprocess.Popen(command, env=running._whole_environment(), stdin=subprocess.DEVNULL, stderr=stderr)
    running._process = process
    try:
        running._wait_ready(process)
        yield running
    finally:
        running.kill()


def works_and_stops(running: Running) -> None:
    with running.client() as client:
        assert client.post("/queues/q/jobs", json={"data": 1}).json()["ok"]
    assert running.stop() == 0


@pytest.mark.slow
def test_a_log_pipe_whose_reader_is_gone_stops_nothing(tmp_path: Path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with started(tmp_path, writer) as running:
            with running.client() as client:
                page = client.get("/prometheus").text
            assert 'bunqueue_log_lines_dropped_total{reason="unwritable"} 0\n' not in page
            works_and_stops(running)
    finally:
        os.close(writer)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["2>&-", "2>&- >&- <&-", "2>/dev/full", ">/dev/full 2>&1"])
def test_a_log_that_takes_nothing_stops_nothing(tmp_path: Path, shell: str):
    with started(tmp_path, None, shell=shell) as running:
        works_and_stops(running)


@pytest.mark.slow
@pytest.mark.parametrize("blocking", [True, False])
def test_a_full_log_pipe_that_nobody_reads_stops_nothing(tmp_path: Path, blocking: bool):
    reader, writer = os.pipe()
    fill(writer)
    os.set_blocking(writer, blocking)
    try:
        with started(tmp_path, writer) as running:
            works_and_stops(running)
    finally:
        os.close(reader)
        os.close(writer)


def fill(writer: int) -> None:
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"." * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b".")
    os.set_blocking(writer, True)


@pytest.mark.slow
def test_a_worker_goes_on_when_its_log_cannot_be_written(tmp_path: Path):
    (tmp_path / "tasks.py").write_text(
        "from bunqueue_trio import Worker\nw = Worker('q')\n"
        "@w.handler\ndef handle(job):\n    job.log.info('got it')\n    return 'done'\n"
    )
    with started(tmp_path, subprocess.DEVNULL) as running:
        command = [sys.executable, "-m", "bunqueue_trio", "worker", "tasks:w", "--url", running.url]
        with FULL.open("wb") as full:
            worker = subprocess.Popen(command, env=environment(), cwd=tmp_path, stderr=full)
        try:
            with running.client() as client:
                job = client.post("/queues/q/jobs", json={"data": 1}).json()["id"]
                until(
                    lambda: client.get(f"/jobs/{job}/state").json()["state"] == "completed",
                    PATIENCE_S,
                    lambda: "not done",
                )
            worker.terminate()
            assert worker.wait(PATIENCE_S) == 0
        finally:
            worker.kill()
            worker.wait()


@pytest.mark.slow
@pytest.mark.parametrize("shell", [">/dev/full", "| true", ">&-"])
def test_output_that_cannot_be_written_is_one_line_at_most(shell: str):
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash", sys.executable, "-m", "bunqueue_trio", "serve", "--help"],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode in {0, 1}
    assert done.stderr in {"", "bunqueue-trio: cannot write the output: No space left on device\n"}


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full"])
def test_an_error_that_cannot_be_sent_keeps_its_code(shell: str):
    command = [sys.executable, "-m", "bunqueue_trio", "serve", "--no-such-flag"]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", *command],
        env=environment(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


# --- the sink -------------------------------------------------------------------------------------


def lost(lines: int) -> str:
    return f"{lines} lost"


def read_all(reader: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(reader, 65536)
    return found


def test_lines_come_out_in_order_and_a_flush_waits_for_them():
    reader, writer = os.pipe()
    sink = Sink(writer, lost, nothing)
    for n in range(100):
        sink.msg(f"line {n} \udc80")
    sink.flush(PATIENCE_S)
    expected = "".join(f"line {n} \\udc80\n" for n in range(100)).encode()
    assert read_all(reader, len(expected)) == expected
    assert sink.dropped == 0


def test_what_waits_for_a_reader_is_bounded_and_it_learns_of_the_loss_when_it_reads():
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    fill(writer)
    sink = Sink(writer, lost, nothing)
    for n in range(LINES_MAX + 7):
        sink.msg(f"{n}")
    assert sink.dropped == 7
    assert read_all(reader, 4096) == b"." * 4096
    text = ""
    while "lost" not in text:
        text += os.read(reader, 4096).decode()
    lines = text.splitlines()
    assert "7 lost" in lines
    assert [line for line in lines if "lost" not in line] == [str(n) for n in range(len(lines) - 1)]
    os.close(reader)


def test_what_waits_is_bounded_in_bytes_too():
    reader, writer = os.pipe()
    fill(writer)
    sink = Sink(writer, lost, nothing)
    for _ in range(5):
        sink.msg("x" * (BYTES_MAX // 2))
    assert sink.dropped == 4
    os.close(reader)


def test_a_flush_does_not_wait_for_ever():
    reader, writer = os.pipe()
    fill(writer)
    sink = Sink(writer, lost, nothing)
    sink.msg("never read")
    sink.flush(0.01)
    os.close(reader)


def test_lines_that_fail_are_counted_and_reported_once_it_works_again(tmp_path: Path):
    target = os.open("/dev/full", os.O_WRONLY)
    sink = Sink(target, lost, nothing)
    for _ in range(3):
        sink.msg("nowhere")
    sink.flush(PATIENCE_S)
    assert sink.dropped == 3
    healed = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(healed, target)
    sink.msg("here")
    until(lambda: (tmp_path / "log").read_text() == "here\n3 lost\n", PATIENCE_S, (tmp_path / "log").read_text)
    sink.msg("again")
    sink.flush(PATIENCE_S)
    assert (tmp_path / "log").read_text() == "here\n3 lost\nagain\n"


def test_without_a_thread_a_line_is_dropped_and_the_next_one_tries_again(monkeypatch: pytest.MonkeyPatch):
    reader, writer = os.pipe()
    sink = Sink(writer, lost, nothing)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        sink.msg("one")
    assert sink.dropped == 1
    sink.msg("two")
    assert read_all(reader, 11) == b"two\n1 lost\n"


# --- the limiter ----------------------------------------------------------------------------------


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passed(limiter: Limiter, times: int, **event: object) -> int:
    count = 0
    for _ in range(times):
        with contextlib.suppress(structlog.DropEvent):
            limiter(None, "error", dict(event))
            count += 1
    return count


def test_a_flood_of_one_event_is_cut_counted_and_reported_and_hides_no_other():
    limiter = Limiter(clock := Hands())
    assert passed(limiter, 1000, event="flood", number=1) == A_SECOND
    assert passed(limiter, 1, event="another") == 1
    assert passed(limiter, 1, event="flood", exc_info=ValueError()) == 1
    try:
        raise OSError
    except OSError:
        assert passed(limiter, 1, event="flood", exc_info=True) == 1
    assert limiter.overdue(at_once=False) == ([], 1.0)
    clock.now = 1.0
    assert limiter.overdue(at_once=False) == ([("flood", 1000 - A_SECOND)], None)
    assert limiter.overdue(at_once=False) == ([], None)
    assert passed(limiter, 1000, event="flood") == A_SECOND
    assert limiter.overdue(at_once=True) == ([("flood", 1000 - A_SECOND)], None)
    assert limiter.dropped == 2 * (1000 - A_SECOND)


def test_texts_without_number_share_one_budget_beyond_the_bound():
    limiter = Limiter(Hands())
    assert sum(passed(limiter, 1, event=f"text {n}") for n in range(KINDS_MAX + 100)) == KINDS_MAX + A_SECOND


def test_texts_of_libraries_are_distinguished_before_their_values():
    limiter = Limiter(Hands())
    records = [logging.LogRecord("x", logging.ERROR, "", 0, "went wrong: %s", (n,), None) for n in range(50)]
    assert sum(passed(limiter, 1, event=r.getMessage(), _record=r) for r in records) == A_SECOND


FLOOD = """
import logging, structlog, sys
from bunqueue_trio.engine.planner import LATE, Notice
from bunqueue_trio.logs.lines import configure_logging, lines_dropped
from bunqueue_trio.runtime.notices import tell
configure_logging("info", "json", limited=sys.argv[1] == "limited")
for n in range(1000):
    structlog.get_logger().warning("flood", n=n)
    logging.getLogger("library").error("foreign %s", n)
tell(Notice(f"s{n}", LATE, 0, n * 1000, 1) for n in range(40))
structlog.get_logger().info("the end", **lines_dropped())
"""


def said(program: str, argument: str) -> str:
    """Run ``program``; return what it has written to stderr."""
    command = [sys.executable, "-c", program, argument]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    return done.stderr


@pytest.mark.slow
def test_a_flood_in_a_process_is_reported_in_one_line_each_and_a_workers_is_not_cut():
    def run(how: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in said(FLOOD, how).splitlines()]

    lines = run("limited")
    assert len(lines) < 200
    assert sum(line["event"] == "the end" for line in lines) == 1
    for event in ("flood", "foreign %s"):
        told = sum(int(str(line["lines"])) for line in lines if line.get("like") == event)
        shown = sum(str(line["event"]).startswith(event[:5]) for line in lines)
        assert told + shown == 1000
    missed = [line for line in lines if line["event"] == LATE]
    assert [line["schedule"] for line in missed] == [f"s{n}" for n in range(40)], "of a schedule every line is shown"
    assert set(missed[0]) == {"event", "level", "timestamp", "schedule", "first", "last", "jobs"}
    assert sum(line["event"] == "flood" for line in run("unlimited")) > 10 * A_SECOND


# --- a line that cannot be made, and hostile text ---------------------------------------------------

HOSTILE = "a\x1b[2J\x1b]0;title\x07\nFAKE LINE\r\x7f\u009b5m\u2028\u202e\u2066z\ud800"
RAW = [character for character in HOSTILE if not character.isprintable()]

AWKWARD = """
import logging, structlog, sys
from bunqueue_trio.logs.lines import configure_logging, lines_dropped
configure_logging("info", sys.argv[1])
class Awkward:
    def __repr__(self):
        raise ValueError
log = structlog.get_logger()
log.info("one", value=Awkward())
logging.getLogger("x").error("%d", "no number")
log.info("two", **lines_dropped())
"""


@pytest.mark.slow
@pytest.mark.parametrize("style", ["human", "json"])
def test_a_value_that_cannot_be_shown_costs_the_line_and_nothing_else(style: str):
    stderr = said(AWKWARD, style)
    assert "two" in stderr
    assert "Traceback" not in stderr
    assert '"unwritable": 2' in stderr or "unwritable=2" in stderr


HOSTILE_LOG = """
import structlog, sys
from bunqueue_trio.logs.lines import configure_logging
configure_logging("info", "human")
text = sys.argv[1].encode().decode("unicode_escape")
log = structlog.get_logger()
log.info("fact", job=text, several=[text])
log.info(text)
try:
    raise ValueError(text)
except ValueError:
    log.exception("failed")
"""


@pytest.mark.slow
def test_control_characters_reach_no_terminal_through_the_log():
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE_LOG, HOSTILE.encode("unicode_escape").decode()],
        env=environment({"FORCE_COLOR": ""}), capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert [character for character in RAW if character in done.stderr and character != "\n"] == []
    assert "\\x1b[2J" in done.stderr
    assert "FAKE LINE" not in [line.strip() for line in done.stderr.split("Traceback")[0].splitlines()]


def test_printable_writes_out_what_a_terminal_would_obey_and_nothing_else():
    assert printable("grün 漢字 🙂 \\") == "grün 漢字 🙂 \\"
    assert printable(HOSTILE) == (
        "a\\x1b[2J\\x1b]0;title\\x07\\x0aFAKE LINE\\x0d\\x7f\\x9b5m\\u2028\\u202e\\u2066z\\ud800"
    )
    assert printable("a\n\tb\r", keep="\n\t") == "a\n\tb\\x0d"
    text = json.dumps(HOSTILE, ensure_ascii=False)
    assert json.loads(printable_json(text)) == HOSTILE
    assert printable_json(text).isprintable()
