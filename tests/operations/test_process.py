"""The test kit's real server and bare clients: they start what they say, hide nothing, and leave nothing behind."""

import signal
import sys
from pathlib import Path

import pytest

from bunqueue_trio.testing import ServerProcess
from bunqueue_trio.testing.client import Cut, event_stream, http_peer, http_request, ws_peer
from bunqueue_trio.testing.process import without_settings
from tests.operations.processes import until

pytestmark = pytest.mark.slow  # processes

ENDS = (sys.executable, "-c", "print('no port today'); raise SystemExit(3)")
STANDS = (sys.executable, "-c", "import time; time.sleep(600)")


def test_settings_of_the_shell_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AUTH_TOKENS", "of-the-shell")
    monkeypatch.setenv("HTTP_PORT", "1")
    with ServerProcess(tmp_path / "q.db") as server:
        assert server.is_ready()
        assert server.is_listening()
        assert server.data_path.exists()
    assert without_settings({"AUTH_TOKENS": "x", "BUNQUEUE_URL": "x", "PATH": "kept"}) == {"PATH": "kept"}


def test_it_is_started_again_on_what_it_left_and_only_when_it_has_ended(tmp_path: Path):
    with ServerProcess(tmp_path / "q.db", {"LOG_LEVEL": "info"}) as server:
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()
        first = server.process
        assert server.stop(signal.SIGINT) == 0
        assert not server.is_listening()
        server.start()
        assert server.process.pid != first.pid
        # A thread writes the log; the server may be ready before its line is there.
        until(lambda: server.log.count("listening") == 2, 60, lambda: server.log)
    assert server.process.poll() == -signal.SIGKILL


def test_a_program_that_ends_at_its_start_is_reported_with_its_log(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"ended with 3: no port today"), ServerProcess(tmp_path / "q", command=ENDS):
        pass


def test_a_program_that_is_never_ready_is_ended(tmp_path: Path):
    server = ServerProcess(tmp_path / "q.db", command=STANDS, within_s=0.1)
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.process
    server.kill()
    with pytest.raises(TimeoutError, match=r"not ready after 0\.1 s"):
        server.start()
    assert server.process.poll() == -signal.SIGKILL


def test_the_program_gets_its_port_and_who_says_when_it_is_ready(tmp_path: Path):
    serve = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}")
    with ServerProcess(tmp_path / "q.db", command=serve, cwd=tmp_path, ready=ServerProcess.is_listening) as server:
        assert not server.is_ready()


async def test_both_clients_say_the_same_in_the_same_words(tmp_path: Path):
    with ServerProcess(tmp_path / "q.db") as server:
        async with http_peer(server.url) as http, ws_peer(server.url) as ws, event_stream(server.url, None) as events:
            await events.next()
            job_id = (await http.call("PUSH", queue="q", data=1))["id"]
            assert '"pushed"' in (await events.next())[1]
            assert (await ws.call("GetState", id=job_id))["state"] == "waiting"
            assert (await http.call("PULL", queue="q", timeout=0))["job"]["id"] == job_id
            refused = await http.call("ACK", id=job_id, token="wrong")
            assert (refused["status"], refused["error"]) == (
                400,
                (await ws.call("ACK", id=job_id, token="wrong"))["error"],
            )
            server.kill()
            for peer in (http, ws):
                with pytest.raises(Cut):
                    await peer.call("GetState", id=job_id)


def test_a_command_is_written_as_a_request():
    assert http_request("PULL", {"queue": "a/b", "timeout": 5}) == ("GET", "/queues/a%2Fb/jobs?timeout=5", b"")
    assert http_request("ACK", {"id": "x", "token": "t"}) == ("POST", "/jobs/x/ack", b'{"token": "t"}')
    assert http_request("Cancel", {"id": "x"}) == ("DELETE", "/jobs/x", b"{}")
