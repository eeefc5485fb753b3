"""The examples of the documentation, run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire.server import Server

DOCS = Path(__file__).parents[2] / "docs"


def examples(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "printed"), [(0, "{'sent': True}"), (1, "{'sent to': 'user@example.com'}"), (2, "done")]
)
def test_client_example(fresh: Server, number: int, printed: str):
    code = examples("client.md")[number].replace("localhost:6790", f"127.0.0.1:{fresh.port}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.returncode) == (printed, 0), done.stderr


@pytest.mark.slow
def test_testing_examples(tmp_path: Path):
    plugin, *tests = examples("testing.md")
    (tmp_path / "conftest.py").write_text(plugin)
    for number, code in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{len(tests)} passed" in done.stdout
