"""The README's first command does what it says."""

import re
import sys
from pathlib import Path

import pytest

from tests.programs import run_to_its_end

DEMO = Path(__file__).parents[1] / "scripts" / "demo.py"


@pytest.mark.slow
@pytest.mark.timeout(300)  # several processes, a lease that must end, on a machine that may be busy
def test_demo_verifies_every_result_after_retries_and_a_killed_worker() -> None:
    """Two hundred files go through a real server; all results are right and nothing was lost."""
    done = run_to_its_end([sys.executable, DEMO, "--limit", "200"], within_s=290)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified 200 of 200 results" in done.stdout
    assert re.search(r"^redelivered +([1-9]\d*) of \1 jobs", done.stdout, re.MULTILINE)
    assert re.search(r"^retried +([1-9]\d*) of \1 jobs", done.stdout, re.MULTILINE)
