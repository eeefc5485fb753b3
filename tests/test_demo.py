"""The README's first command does what it says."""

import json
import re
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.programs import run_to_its_end

SCRIPTS = Path(__file__).parents[1] / "scripts"
DEMO = SCRIPTS / "demo.py"


@pytest.mark.slow
def test_demo_verifies_every_result_after_retries_and_a_killed_worker() -> None:
    """Two hundred files go through a real server; all results are right and nothing was lost."""
    done = run_to_its_end([sys.executable, DEMO, "--limit", "200"], within_s=290)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified 200 of 200 results" in done.stdout
    assert re.search(r"^redelivered +([1-9]\d*) of \1 jobs", done.stdout, re.MULTILINE)
    assert re.search(r"^retried +([1-9]\d*) of \1 jobs", done.stdout, re.MULTILINE)


def test_a_worker_of_the_demo_renews_its_leases_however_long_a_file_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    demo_worker = pytest.importorskip("demo_worker")
    renewed, sent = threading.Semaphore(0), []

    def serve(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, json.loads(request.content)))
        if request.url.path == "/jobs/heartbeat-batch":
            renewed.release()
        return httpx.Response(200, json={"ok": True})

    def examine(path: str) -> dict[str, str]:
        for _ in range(3):
            assert renewed.acquire(timeout=60)
        return {"path": path}

    monkeypatch.setattr(demo_worker, "examine", examine)
    monkeypatch.setattr(demo_worker, "fails_first", lambda path: False)
    with httpx.Client(base_url="http://x", transport=httpx.MockTransport(serve)) as client:
        jobs = [{"id": name, "attempts": 0, "data": {"path": name}} for name in "ab"]
        demo_worker.Worker(client, "w", batch=2, lease_ms=50).work(jobs, ["1", "2"])
    *beats, (path, acked) = sent
    assert len(beats) >= 6
    assert all(beat == ("/jobs/heartbeat-batch", {"ids": ["a", "b"], "tokens": ["1", "2"]}) for beat in beats)
    assert path == "/jobs/ack-batch"
    assert acked["results"] == [{"path": "a", "worker": "w"}, {"path": "b", "worker": "w"}]
