"""The simulated worlds of some seeds: nothing wrong happens in them, and they are the same each time.

`check.py full` simulates 150 more, as a step of its own."""

import os
import subprocess
import sys

import pytest

from tests.sim.command import HOURS, every_crash, replay
from tests.sim.world import simulate

SCRIPT = [sys.executable, "-m", "tests.sim.command"]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_wrong_happens(seed: int):
    result = simulate(seed, 0.02)
    assert result.failure is None, f"{result.failure}\n{replay(result)}"
    assert result.counts["events"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2))
def test_a_crash_around_any_commit_takes_nothing(seed: int):
    runs = list(every_crash(seed, 0.01))
    assert len(runs) > 20
    assert {run.failure for run in runs} == {None}
    assert all(run.counts["lives"] > runs[0].counts["lives"] for run in runs[1:3])


@pytest.mark.slow
def test_a_seed_gives_the_same_log_in_every_process():
    outputs = {
        subprocess.run(
            [*SCRIPT, "--seed", "7", "--hours", str(HOURS)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
        ).stdout.splitlines()[0]
        for hash_seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(outputs) == 1
    assert "SHA-256" in outputs.pop()
