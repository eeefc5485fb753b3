"""The attacks of `scripts/overload.py` in small: the server holds its bounds, and its other clients notice little."""

import json
import sys
from pathlib import Path

import pytest

from tests.programs import run_to_its_end

SCRIPT = Path(__file__).parents[1] / "scripts" / "overload.py"
ATTACKS = ("slow-bodies", "unread-answers", "slow-disk")
"""One of each kind: about 4 s each."""
# Other tests run on the same cores meanwhile: here bounds and recovery are judged, latency by who runs the script alone.
P99_MS = "5000"


@pytest.mark.slow
def test_a_server_under_attack_serves_the_others(tmp_path: Path) -> None:
    """The script judges: answers in time, no answer missing, memory and descriptors within bounds, recovery."""
    report = tmp_path / "report.json"
    chosen = [argument for name in ATTACKS for argument in ("--scenario", name)]
    command = [sys.executable, SCRIPT, "--quick", "--tries", "2", "--p99", P99_MS, "--json", report, *chosen]
    done = run_to_its_end(command, within_s=590)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(report.read_text())
    assert [found["scenario"] for found in figures] == list(ATTACKS)
    assert all(found["answers"] > 10 for found in figures)


@pytest.mark.slow
def test_a_bound_that_is_missed_is_reported(tmp_path: Path) -> None:
    """Without that the test above could not fail: a commit that takes longer than 250 ms makes the client wait."""
    program = (
        "import sys; sys.path.insert(0, {root!r}); from trials.overload import command as overload, attacks as a;"
        "a.SLOW['OVERLOAD_COMMIT_MS'] = '400'; overload.RECOVERY_MAX_S = 1.0;"
        "found = overload.measure('slow-disk', 'express', quick=True); print(found.problems); sys.exit(bool(found.problems))"
    )
    command = [sys.executable, "-c", program.format(root=str(SCRIPT.parents[1]))]
    done = run_to_its_end(command, within_s=170, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "p99" in done.stdout
