"""The mark `untraced` takes coverage off a test and off the programs that it starts, and off nothing else."""

import os
import sys

import pytest

PROCESSES = "COVERAGE_PROCESS_CONFIG"


@pytest.fixture(autouse=True, scope="module")
def traced() -> bool:
    """Whether this run is under coverage."""
    return sys.gettrace() is not None


@pytest.mark.untraced
def test_a_marked_test_has_no_tracer(traced: bool):
    assert sys.gettrace() is None
    assert PROCESSES not in os.environ


def test_the_next_one_has_it_again(traced: bool):
    assert (sys.gettrace() is not None) is traced
    assert (PROCESSES in os.environ) is traced
