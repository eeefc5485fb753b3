"""Whoever asks a program in `scripts/` what it does gets its usage, and nothing is done."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted(
    path
    for path in (Path(__file__).parents[1] / "scripts").glob("*.py")
    # It prints the path of the interpreter, whatever is asked.
    if '__name__ == "__main__"' in path.read_text() and path.name != "bootstrap.py"
)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_how_it_is_used(script: Path):
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.lower().startswith("usage:"), done.stdout + done.stderr
