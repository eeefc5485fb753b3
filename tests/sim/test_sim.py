"""The simulated worlds of some seeds: nothing wrong happens in them, and they are the same each time.

`check.py full` simulates more, as a step of its own."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.sim.command import every_crash, replay
from tests.sim.scheduling import EXACT_MS, MADE_UP_MAX, SlotBook
from tests.sim.sim_world import simulate

SCRIPT = [sys.executable, "-m", "tests.sim.command"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2])
def test_nothing_wrong_happens(seed: int):
    result = simulate(seed, 0.02)
    assert result.failure is None, f"{result.failure}\n{replay(result)}"
    assert result.counts["events"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "step"), [(8, 5), *(pytest.param(n, 1, marks=pytest.mark.long) for n in (1, 8))])
def test_a_crash_around_any_commit_takes_nothing(seed: int, step: int):
    runs = list(every_crash(seed, 0.01, step))
    assert len(runs) > 10
    assert {run.failure for run in runs} == {None}
    for run in runs[1:3]:  # around the first commit, before which nothing else goes wrong
        assert next(line for line in run.log if "is down" in line).endswith("crash")


@pytest.mark.slow
def test_a_seed_gives_the_same_log_in_every_process():
    """In one that has done nothing else, and in this one, which has simulated before; they hash differently."""
    done = subprocess.run(
        [*SCRIPT, "--seed", "7", "--hours", "0.01"],
        env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"SHA-256 of the log {simulate(7, 0.01).digest}\n" in done.stdout


def test_the_book_of_slots_finds_a_slot_that_was_left_out_and_one_that_came_twice():
    def heard(*slots: int) -> list[str]:
        failures: list[str] = []
        book = SlotBook(failures.append)
        events = [SimpleNamespace(event_type="pushed", job_id=f"exact@{slot * EXACT_MS}") for slot in slots]
        book.note(SimpleNamespace(heard=events))
        book.check()
        return failures

    assert heard(1, 2, 3) == []
    assert heard(1, 3) == ["exact brings jobs for 5000 and 15000, and for none in between"]
    assert heard(1, 3, 2)[0] == "slot 10000 of exact brings a job after that of 15000"
    assert heard(1, 2, 2)[0] == "slot 10000 of exact brings a second job"
    assert heard(1, *range(9, 9 + MADE_UP_MAX)) == []
