"""The simulated clusters of some seeds: nothing wrong happens in them, and they are the same each time.

`check.py full` simulates more, as a step of its own."""

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

from tests.cluster.cluster_world import simulate_cluster
from tests.sim.command import replay


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_nothing_wrong_happens(seed: int):
    result = simulate_cluster(seed, 0.02)
    assert result.failure is None, f"{result.failure}\n{replay(result, '--cluster ')}"
    assert result.counts["commits"] > 0


@pytest.mark.slow
def test_a_seed_gives_the_same_log_each_time():
    assert len({simulate_cluster(4, 0.02).digest for _ in range(2)}) == 1
