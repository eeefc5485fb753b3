"""docs/tutorial.md and docs/recipes.md, followed step by step with the real commands."""

import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.conftest import ROOT
from tests.examples.markdown import Reader
from tests.patience import PATIENCE_S
from tests.wire.server import SETTINGS, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="the pages use curl and bash"),
]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with a checkout of the project, who has installed nothing that the page does not tell to.

    What pip would get from an index is lent by the environment of the tests, so that no network is needed.
    """
    port = free_port()
    (tmp_path / "bunqueue-trio").symlink_to(ROOT)
    env = {
        name: value
        for name, value in os.environ.items()
        # Unbuffered, a line of print and its end are two writes, and a line of the log may come between.
        if name not in SETTINGS | {"PYTHONUNBUFFERED"} and not name.startswith("COVERAGE_")
    } | {
        "HOST": "127.0.0.1", "HTTP_PORT": str(port), "BUNQUEUE_URL": f"http://127.0.0.1:{port}",
        "PYTHONPATH": os.pathsep.join(site.getsitepackages()), "NO_PROXY": "*",
        "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_QUIET": "1", "TERM": "xterm", "COLUMNS": "200",
        # A plugin of our own environment, of which no reader knows; it takes a second of each pytest.
        "PYTEST_ADDOPTS": "-p no:schemathesis",
    }  # fmt: skip
    with Reader(tmp_path, env, port) as somebody:
        yield somebody


def test_tutorial(reader: Reader):
    """It begins with the installation, and goes on with what that has put there."""
    assert reader.follow((ROOT / "docs" / "tutorial.md").read_text()) > 50


@pytest.mark.skipif(not shutil.which("jq"), reason="the worker of ten lines uses jq")
def test_recipes(reader: Reader):
    reader.follow(f"<!-- PATH={Path(sys.executable).parent}:$PATH; ln -s {sys.prefix} venv -->\n")
    assert reader.follow((ROOT / "docs" / "recipes.md").read_text()) > 30


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_unit_of_the_tutorial(tmp_path: Path):
    unit = re.search(r"```ini\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    assert unit
    path = tmp_path / "mail-worker.service"
    path.write_text(re.sub("ExecStart=\\S+", "ExecStart=/bin/true", unit[1]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
