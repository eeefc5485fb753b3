"""A disk that is full, as a process meets it: what is under way is answered, a stop ends, and room that comes back is used."""

import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.operations.processes import Running, serving

pytestmark = pytest.mark.slow

GRACE_MS = 2000
LARGE = "x" * 2_000_000


def full(running: Running) -> Callable[[], None]:
    """Let no file of the server grow beyond half of what its log of changes has; the function that is returned gives the room back."""
    pid = running.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (len(LARGE) // 2, before[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before) and None


class Asked(threading.Thread):
    """A push that is under way, in a thread."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running
        self.status = 0
        self.start()

    def run(self) -> None:
        with self._running.client() as client:
            self.status = client.post("/queues/q/jobs", json={"jobId": "under-way", "data": 1}).status_code


def until_it_is_refused(client: httpx.Client) -> None:
    for _ in range(600):
        if client.get("/ready").status_code == 503:
            return
    raise AssertionError("the disk was never refused")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_within_its_grace_and_says_what_was_not_written(tmp_path: Path, signum: signal.Signals):
    with serving(tmp_path, env={"SHUTDOWN_GRACE_MS": str(GRACE_MS)}) as running, running.client() as client:
        assert client.post("/queues/q/jobs", json={"jobId": "before", "data": LARGE}).status_code == 200
        full(running)
        push = Asked(running)
        until_it_is_refused(client)
        # A minute is what the test waits for it.
        assert running.stop(signum) == 1
        push.join(60)
        assert push.status == 503
        assert "unanswered changes could not be written" in running.log
        assert running.log.count("commit failed") == 1, "and no flood of lines"
    with serving(tmp_path) as again, again.client() as client:
        assert client.get("/jobs/before").status_code == 200


def test_who_waits_is_answered_and_room_that_comes_back_is_used(tmp_path: Path):
    with serving(tmp_path) as running, running.client() as client:
        assert client.post("/queues/q/jobs", json={"jobId": "before", "data": LARGE}).status_code == 200
        give_back = full(running)
        push = Asked(running)
        push.join(60)
        assert push.status == 503
        assert client.get("/jobs/before").status_code == 200, "it is in memory"
        assert client.post("/queues/q/jobs", json={"data": 2}).json()["code"] == "storage-down"
        give_back()
        for _ in range(600):
            if client.post("/queues/q/jobs", json={"jobId": "after", "data": 3}).status_code == 200:
                break
        assert client.get("/jobs/after").status_code == client.get("/jobs/under-way").status_code == 200
        assert running.stop() == 0
        assert running.log.count("commit failed") == running.log.count("commits work again") == 1
