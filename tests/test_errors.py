"""Real errors, provoked here, fall into the group of their fault: how many do is what `docs/operations.md` says."""

import pytest

from trials.errors import in_python, remembered
from trials.errors.command import provoke, score


def test_the_score_is_of_pairs():
    found = score([("a", "no x"), ("a", "no x"), ("a", "none"), ("b", "none")])
    assert (found.texts, found.faults, found.groups) == (4, 2, 2)
    assert (found.precision, found.recall) == (1 / 2, 1 / 3)
    assert found.split == [("a", ["no x", "none"])]
    assert found.mixed == [("none", ["a", "b"])]


def test_errors_of_python_are_grouped_by_their_fault():
    found = score(in_python.provoke(4, 1))
    assert found.precision > 0.85, found.mixed
    assert found.recall > 0.95, found.split


def test_errors_that_the_rules_were_not_made_with_are_grouped_too():
    found = score(remembered.provoke(20, 5))
    assert found.precision > 0.95, found.mixed
    assert found.recall > 0.9, found.split


@pytest.mark.slow
def test_errors_of_many_programs_are_grouped_by_their_fault():
    found = score(provoke(4, 2))
    assert found.precision > 0.9, found.mixed
    assert found.recall > 0.95, found.split
