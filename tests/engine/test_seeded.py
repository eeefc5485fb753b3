"""Long random lives of an engine, each of one seed: depth, where ``test_model.py`` has small examples.

A failure names its seed, and the same seed fails again. Each seed likes some operations more than others,
time lands exactly on and just before deadlines, and most picks are of jobs that something can happen to.
"""

import pytest

from tests.engine.seeded_life import Life

pytestmark = pytest.mark.usefixtures("small_limits")


def live(seed: int, steps: int) -> None:
    life = Life(seed)
    for _ in range(steps):
        life.step()
    life.world.finish()


@pytest.mark.parametrize(
    "seed",
    [
        *range(2),
        *(pytest.param(seed, marks=pytest.mark.thorough) for seed in (2, 4)),
        *(pytest.param(seed, marks=[pytest.mark.thorough, pytest.mark.untraced]) for seed in (3, *range(5, 40))),
    ],
)
def test_engine_agrees_with_the_model(seed: int):
    live(seed, 300)


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.parametrize(
    "seed", [*range(100, 106), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(106, 160))]
)
def test_engine_agrees_with_the_model_for_long(seed: int):
    live(seed, 1000)
