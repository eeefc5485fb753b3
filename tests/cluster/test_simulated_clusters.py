"""The simulated clusters of some seeds: nothing wrong happens in them, and they are the same each time.

`check.py full` simulates more, as a step of its own."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

from tests.cluster.cluster_world import simulate_cluster
from tests.sim.command import replay


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_nothing_wrong_happens(seed: int):
    result = simulate_cluster(seed, 0.02)
    assert result.failure is None, f"{result.failure}\n{replay(result, '--cluster ')}"
    assert result.counts["commits"] > 0


@pytest.mark.slow
def test_a_seed_gives_the_same_log_in_every_process():
    """In one that has done nothing else, and in this one, which has simulated before; they hash differently."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim.command", "--cluster", "--seed", "109", "--hours", "0.03"],
        env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"SHA-256 of the log {simulate_cluster(109, 0.03).digest}\n" in done.stdout
