"""`worker --reload`, as a real process whose file is edited under it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunqueue_trio.sync import SyncClient
from tests.client.test_package import command
from tests.operations.processes import until
from tests.wire.server import Server

CODE = """
import trio
from bunqueue_trio import Job, Worker
from helper import SAID

mail = Worker("emails")

@mail.handler
async def send(job: Job):
    if job.data == "slow" and SAID == "one":
        await trio.sleep(3600)
    return SAID, job.attempt
"""


class Running:
    """The worker's process, and its two files."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.helper, self.tasks = directory / "helper.py", directory / "tasks.py"
        self.helper.write_text('SAID = "one"\n')
        self.tasks.write_text(CODE)
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command("tasks:mail", "--url", server.url, "--reload"), cwd=directory, stdout=log, stderr=log
            )

    def said(self, text: str, times: int = 1) -> None:
        until(lambda: self.log.read_text().count(text) >= times, 60, self.log.read_text)
        assert self.process.poll() is None


@pytest.fixture
def running(tmp_path: Path, fresh: Server) -> Iterator[Running]:
    one = Running(tmp_path, fresh)
    yield one
    one.process.kill()
    one.process.wait()


def wait(client: SyncClient, job_id: str) -> object:
    until(lambda: client.state(job_id) == "completed", 60, lambda: client.state(job_id))
    return client.result(job_id)


@pytest.mark.slow
def test_reload(running: Running, fresh: Server):
    with SyncClient(fresh.url) as client:
        assert wait(client, client.push("emails")) == ["one", 1]
        slow = client.push("emails", "slow")
        until(lambda: client.state(slow) == "active", 60, lambda: client.state(slow))
        running.helper.write_text('SAID = "two"\n')  # a module that the worker's own imports; the same size
        assert wait(client, slow) == ["two", 1], "given back at no attempt, and not waited for"
        running.tasks.write_text("def broken(:\n")
        running.said("SyntaxError")
        running.said("waiting for a change")
        waiting = client.push("emails")
        running.helper.write_text('SAID = "three"\n')
        running.said("waiting for a change", 2)
        running.tasks.write_text("import nowhere\n")
        running.said("No module named 'nowhere'")
        running.tasks.write_text("mail = 1\n")
        running.said("is no Worker")
        running.tasks.unlink()
        running.said("there is no module 'tasks'")
        running.tasks.write_text(CODE)
        assert wait(client, waiting) == ["three", 1]
    running.process.terminate()
    assert running.process.wait(60) == 0, running.log.read_text()
