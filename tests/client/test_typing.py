"""Handlers keep their types, and a payload becomes what the handler asks for."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pytest

from bunqueue_trio.client import Job, Worker
from bunqueue_trio.testing import Bunqueue

SAMPLES = Path(__file__).with_name("typed_handlers.py")
ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.slow
def test_mypy_agrees():
    """Strict, with unused ignores refused: what is marked as wrong there is found, and nothing else."""
    assert run(sys.executable, "-m", "mypy", "--no-error-summary", str(SAMPLES)) == ""


@pytest.mark.slow
def test_pyright_agrees(tmp_path: Path):
    config = tmp_path / "pyrightconfig.json"
    config.write_bytes(
        msgspec.json.encode(
            {
                "include": [str(SAMPLES)], "typeCheckingMode": "standard", "reportUnnecessaryTypeIgnoreComment": True,
                "extraPaths": [str(ROOT / "src")],
            }
        )
    )  # fmt: skip
    pyright = str(Path(sys.executable).with_name("basedpyright"))
    assert run(pyright, "--pythonpath", sys.executable, "--project", str(config)) == ""


@dataclass
class Email:
    to: str
    copies: int = 1


class Report(TypedDict):
    month: int


async def result_of(bunqueue: Bunqueue, handler: Any, data: object) -> Any:
    worker = bunqueue.worker("q")
    assert worker.handler(handler) is handler
    bunqueue.start(worker)
    return await bunqueue.client.wait(await bunqueue.client.push("q", data, max_attempts=1), 10)


async def test_payload_is_read_as_the_handler_says(bunqueue: Bunqueue):
    async def handle(job: Job[Email]) -> list[object]:
        assert isinstance(job.data, Email)
        return [job.data.to, job.data.copies]

    assert await result_of(bunqueue, handle, {"to": "ann", "more": 1}) == ["ann", 1]


async def test_payload_that_is_none_fails_the_attempt(bunqueue: Bunqueue):
    async def handle(job: Job[Email]) -> str:
        return job.data.to

    with pytest.raises(Exception, match=r"ValidationError: Object missing required field `to`"):
        await result_of(bunqueue, handle, {"from": "ann"})


async def test_annotation_as_text(bunqueue: Bunqueue):
    def handle(job: "Job[Report]") -> int:
        return job.data["month"]

    assert await result_of(bunqueue, handle, {"month": 5}) == 5


@pytest.mark.parametrize(
    "handler", [lambda job: job.data, print, dict], ids=["no annotation", "built-in", "no signature"]
)
def test_handlers_without_a_say_get_what_was_pushed(handler: Any):
    worker = Worker("q")
    worker.handler(handler)
    assert worker._handlers[None].decoder is None


def test_what_cannot_be_read_is_said_at_once():
    class Unreadable:
        pass

    def unknown(job: "Job[Nowhere]") -> None: ...  # noqa: F821 - that is the point

    def late(job: "SomeJob") -> None: ...  # noqa: F821 - of an import for type checkers alone

    def plain(job: Job[Any]) -> None: ...

    worker = Worker("q")
    with pytest.raises(TypeError, match="Nowhere"):
        worker.handler(unknown)
    for unsaid in (late, plain):
        worker = Worker("q")
        worker.handler(unsaid)
        assert worker._handlers[None].decoder is None
