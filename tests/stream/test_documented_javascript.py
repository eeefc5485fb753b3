"""The documented JavaScript, unchanged but for the port, in a browser, from a page of another origin."""

import http.server
import json
import queue as queues
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.programs import end_family
from tests.wire.client import Client, done
from tests.wire.server import Server

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

EVENT_SOURCE = """
const events = new EventSource('http://localhost:6790/events/queues/emails');
events.onmessage = (event) => {
const data = JSON.parse(event.data);
if (data.connected) {
console.log('Connected with client ID:', data.clientId);
return;
}
console.log(`[${data.eventType}] Job ${data.jobId} in queue ${data.queue}`);
};
events.onerror = () => {
console.log('SSE connection error, will auto-reconnect');
};
"""

WEBSOCKET = """
const ws = new WebSocket('ws://localhost:6790/ws');
ws.onopen = () => {
// Push a job
ws.send(JSON.stringify({
cmd: 'PUSH',
queue: 'emails',
data: { to: 'user@test.com' },
reqId: '1'
}));
};
ws.onmessage = (event) => {
const msg = JSON.parse(event.data);
if (msg.reqId) {
// This is a response to a command we sent
console.log('Response:', msg);
} else if (msg.eventType) {
// This is a broadcast event
console.log('Event:', msg.eventType, msg.jobId);
}
};
"""

PAGE = """<!doctype html><meta charset="utf-8"><script>
console.log = (...said) => fetch('/said', {method: 'POST', body: JSON.stringify(said)});
</script><script>SCRIPT</script>"""

Said = queues.Queue[list[object]]
Open = Callable[[str], Said]


@pytest.fixture
def open_page(fresh: Server, tmp_path: Path) -> Iterator[Open]:
    """Open a page with a script, and return what it says to its console."""
    said: Said = queues.Queue()
    page = b""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page if self.path == "/" else b"")

        def do_POST(self) -> None:
            said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=site.serve_forever, args=(0.05,))
    serving.start()
    browser: subprocess.Popen[bytes] | None = None

    def start(script: str) -> Said:
        nonlocal page, browser
        page = PAGE.replace("SCRIPT", script.replace("localhost:6790", f"localhost:{fresh.port}")).encode()
        assert CHROMIUM is not None
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0",
            f"http://127.0.0.1:{site.server_port}/",
        ]  # fmt: skip
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return said

    yield start
    if browser is not None:
        end_family(browser)
    site.shutdown()
    serving.join()
    site.server_close()


def test_event_source(open_page: Open, fresh: Server, fresh_client: Client) -> None:
    said = open_page(EVENT_SOURCE)
    assert said.get(timeout=PATIENCE_S)[0] == "Connected with client ID:"
    job_id = fresh_client.push("emails", {"to": "user@test.com"})
    fresh_client.complete("emails", job_id)
    heard = {str(said.get(timeout=PATIENCE_S)[0]) for _ in range(4)}
    assert heard == {f"[{kind}] Job {job_id} in queue emails" for kind in ("pushed", "pulled", "drained", "completed")}
    fresh_client.push("others")
    fresh.kill()
    assert said.get(timeout=PATIENCE_S) == ["SSE connection error, will auto-reconnect"]
    fresh.start()
    with Client(fresh.url) as client:
        missed = client.push("emails")
        while (line := said.get(timeout=PATIENCE_S)[0]) != f"[pushed] Job {missed} in queue emails":
            assert line in {"SSE connection error, will auto-reconnect", "Connected with client ID:"}
        done(client.cancel(missed))


def test_websocket(open_page: Open, fresh_client: Client) -> None:
    said = open_page(WEBSOCKET)
    messages = [said.get(timeout=PATIENCE_S), said.get(timeout=PATIENCE_S)]
    (response,) = [m for m in messages if m[0] == "Response:"]
    (event,) = [m for m in messages if m[0] == "Event:"]
    reply = response[1]
    assert isinstance(reply, dict)
    assert (reply["ok"], reply["reqId"]) == (True, "1")
    assert event[1:] == ["pushed", reply["id"]]
    assert fresh_client.take("emails").job["data"] == {"to": "user@test.com"}
