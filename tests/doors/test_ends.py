"""How doors end, as an operator sees it: what the log says of it, and what is left."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts import leftovers
from tests.operations.processes import SOURCE, Running, bunqueue, serving, until


def test_doors_that_would_have_nothing_to_do_are_refused(tmp_path: Path):
    refused = bunqueue("serve", "--doors", "2", "--bind", f"unix:{tmp_path}/s")
    assert refused.code == 2
    assert refused.err.splitlines()[-1] == (
        "bunqueue-trio: DOORS=2: BIND has no TCP address, and a Unix socket stays with the server itself"
    )


def test_a_door_ends_with_its_leader_before_it_reads_what_takes_long():
    """It has the addresses by then: a server that is started anew would find them taken."""
    door = [sys.executable, "-P", "-X", "importtime", "-m", "bunqueue_trio.doors.start", "1", "-1", "9", "+1"]
    done = subprocess.run(door, capture_output=True, text=True, timeout=60, check=False)
    read = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert (done.returncode, "ctypes" in read) == (0, True), done.stderr
    assert read & {"trio", "msgspec", "structlog", "asyncio"} == set()


@pytest.mark.slow
def test_a_door_that_is_stopped_before_it_can_end_with_its_leader_has_none_of_its_addresses(tmp_path: Path):
    stops = "import os, signal, sys\nif 'bunqueue_trio.doors.start' in sys.orig_argv: os.kill(os.getpid(), signal.SIGSTOP)\n"
    (tmp_path / "sitecustomize.py").write_text(stops)
    stopped: list[int] = []

    def waits(server: Running) -> bool:
        stopped[:] = [
            pid for pid in leftovers.below(server.process.pid)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        ]  # fmt: skip
        return bool(stopped)

    with serving(tmp_path, "--doors", "1", env={"PYTHONPATH": f"{tmp_path}:{SOURCE}"}, ready=waits) as server:
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        try:
            assert Path(f"/proc/{stopped[0]}").exists(), "it outlives its leader"
            with socket.socket() as next_:
                next_.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                next_.bind(("127.0.0.1", server.port))
        finally:
            os.kill(stopped[0], signal.SIGKILL)


@pytest.mark.slow
def test_the_log_says_of_doors_what_there_is_and_none_is_left_over(tmp_path: Path):
    with serving(tmp_path, "--doors", "2", env={"LOG_FORMAT": "json"}) as server:

        def doors() -> list[int]:
            return leftovers.below(server.process.pid)

        def lines(event: str) -> list[dict[str, Any]]:
            told = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
            return [line for line in told if line["event"] == event]

        until(lambda: len(doors()) == 2, 60, lambda: server.log)
        assert lines("listening")[0]["doors"] == 2
        killed, kept = doors()
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(set(doors()) - {killed}) == 2, 60, lambda: server.log)
        # It may not have come so far as to hear of a signal; that is no failure.
        [next_] = set(doors()) - {killed, kept}
        os.kill(next_, signal.SIGTERM)
        until(lambda: lines("a door ends by itself, starting the next"), 60, lambda: server.log)
        [line] = lines("task failed, restarting")
        assert line["error"] == f"door {line['door']}: its process was ended by SIGKILL"
        assert "exception" not in line
        until(lambda: len(set(doors()) - {next_}) == 2 and next_ not in doors(), 60, lambda: server.log)
        before = doors()
        os.kill(kept, signal.SIGSTOP)
        server.kill()
        until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in before), 60, lambda: server.log)


@pytest.mark.slow
def test_a_door_starts_anew_whatever_has_become_of_the_tokens_file(tmp_path: Path):
    tokens = tmp_path / "tokens"
    tokens.write_text("ana admin secret\n")
    tokens.chmod(0o600)
    with serving(tmp_path, "--doors", "1", env={"AUTH_TOKENS_FILE": str(tokens)}) as server:
        until(lambda: len(leftovers.below(server.process.pid)) == 1, 60, lambda: server.log)
        tokens.write_bytes(b"\xff\x00 neither one nor two words\n")
        [door] = leftovers.below(server.process.pid)
        os.kill(door, signal.SIGKILL)
        for token, status in (("secret", 200), ("nobody", 401)):
            with httpx.Client(base_url=server.url, timeout=60, headers={"Authorization": f"Bearer {token}"}) as client:
                assert client.post("/queues/q/jobs", json={"data": 1}).status_code == status
