"""SIGKILL under load: nothing answered is lost, nothing ended comes back."""

from collections.abc import Iterator

import pytest

from tests.wire.kill import kill_round
from tests.wire.server import Server

ROUNDS = 20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One data file for all rounds: each starts with what the kills before it left."""
    with Server(tmp_path_factory.mktemp("kill") / "q.db") as running:
        yield running
        assert running.terminate() == 0


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_kill_loses_nothing_that_was_answered(victim: Server, seed: int) -> None:
    report = kill_round(victim, seed)
    assert report.breaches == []
    assert report.pushed > 0
