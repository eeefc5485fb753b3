"""The examples of the documentation, run as they stand."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from bunqueue_trio import Job
from bunqueue_trio.config import Settings
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.wire.server import Server

DOCS = Path(__file__).parents[2] / "docs"


def examples(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (0, "{'sent': True}"),
        (1, "{'sent to': 'user@example.com'}"),
        (2, "done at try 2\nGiveUp: there is no such page"),
        (3, "{'fetched': 'https://example.org'}"),
        (4, "sent to user@example.com"),
        (5, "welcome, ann"),
        (6, "[(5,)]"),
        (7, "hello ada"),
        (8, "done"),
        (9, "delayed notes\nwaiting"),
    ],
)
def test_client_example(fresh: Server, tmp_path: Path, number: int, printed: str):
    with SyncClient(fresh.url) as client:  # no queue of a reader is empty
        for queue in ("emails", "sites", "pages", "reports", "notes"):
            client.push(queue, ["of somebody else"])
    code = examples("client.md")[number].replace("localhost:6790", f"127.0.0.1:{fresh.port}")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.stdout.strip(), done.returncode) == (printed, 0), done.stderr


@pytest.fixture
def bunqueue_settings() -> Settings:
    """One that buries no job: each cut counts as a stall of what the worker holds."""
    return Settings(stalls_max=1000)


@pytest.mark.slow
@pytest.mark.parametrize("bunqueue_seed", range(10))
async def test_idempotent_handler_pays_once(bunqueue: Bunqueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The example, with workers that are cut and killed, leases that run out under it, and crashes."""
    monkeypatch.chdir(tmp_path)
    example: dict[str, Any] = {"__name__": "example"}
    exec(examples("client.md")[6], example)
    random, workers = bunqueue.random, []

    async def pay(job: Job) -> None:
        if random.random() < 0.5:
            await trio.sleep(random.uniform(0, 0.2))
        await example["pay"](job)
        if random.random() < 0.4:
            raise ValueError("after the work, and before the acknowledgement")

    def start() -> None:
        workers.append(bunqueue.worker("payments", concurrency=3))
        workers[-1].handler(pay)
        bunqueue.start(workers[-1])

    start()
    start()
    options = {"max_attempts": 1000, "backoff": 0.01}
    ids = await bunqueue.client.push_many("payments", [{"data": {"to": "ann", "sum": 5}, **options} for _ in range(20)])
    for _ in range(12):
        await trio.sleep(random.uniform(0, 0.2))
        match random.choice(["cut", "kill", "crash"]):
            case "cut":
                bunqueue.cut()
            case "kill":
                bunqueue.kill(workers.pop(0))
                start()
            case "crash":
                await bunqueue.crash()
                bunqueue.step_clock(random.uniform(-5, 5))
                await bunqueue.recover()
    for job_id in ids:
        await bunqueue.client.wait(job_id, 600)
    (balance,) = example["bank"].execute("SELECT balance FROM account").fetchone()
    example["bank"].close()
    assert balance == 100


@pytest.mark.slow
def test_testing_examples(tmp_path: Path):
    tests = examples("testing.md")
    for number, code in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{len(tests) - 1 + 20} passed" in done.stdout


@pytest.mark.slow
def test_the_plugin_leaves_others_alone(tmp_path: Path):
    """pytest loads it in every run of whoever has the package: without the fixture it imports no server and no Trio."""
    (tmp_path / "test_mine.py").write_text(
        "import sys\ndef test_it():\n    assert not {'bunqueue_trio.client', 'bunqueue_trio.runtime', 'apsw'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:trio", "-p", "no:asyncio", "-W", "error"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
