"""The README's first command does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "scripts" / "demo.py"


@pytest.mark.slow
@pytest.mark.timeout(180)  # several processes, a lease that must end, on a machine that may be busy
def test_demo_verifies_every_result_after_retries_and_a_killed_worker() -> None:
    """Two hundred files go through a real server; all results are right and nothing was lost."""
    done = subprocess.run(
        [sys.executable, DEMO, "--limit", "200"], check=False, capture_output=True, text=True, timeout=170
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified 200 of 200 results" in done.stdout
    assert re.search(r"^redelivered +([1-9]\d*) of \1 jobs", done.stdout, re.MULTILINE)
    assert re.search(r"^retried +([1-9]\d*) of \1 jobs", done.stdout, re.MULTILINE)
