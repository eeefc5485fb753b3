"""Real errors, provoked here, fall into the group of their fault: how many do is what `docs/operations.md` says."""

import re
from pathlib import Path

import pytest

from trials.errors import in_python, remembered
from trials.errors.command import Score, provoke, score

DOCS = Path(__file__).parents[1] / "docs"


def percents(found: Score) -> tuple[float, float]:
    return round(found.precision * 100, 1), round(found.recall * 100, 1)


def documented(pattern: str) -> list[float]:
    """Return the numbers that each page which speaks of groups gives, which are the same."""
    numbers = [
        re.findall(pattern, " ".join((DOCS / name).read_text("utf-8").split())) for name in ("operations.md", "dashboard.md")
    ]  # fmt: skip
    assert [len(each) for each in numbers] == [1, 1]
    assert numbers[0] == numbers[1]
    return [float(number.replace(",", "")) for number in numbers[0][0]]


def test_the_score_is_of_pairs():
    found = score([("a", "no x"), ("a", "no x"), ("a", "none"), ("b", "none")])
    assert (found.texts, found.faults, found.groups) == (4, 2, 2)
    assert (found.precision, found.recall) == (1 / 2, 1 / 3)
    assert found.split == [("a", ["no x", "none"])]
    assert found.mixed == [("none", ["a", "b"])]


@pytest.mark.thorough
def test_errors_of_python_are_grouped_by_their_fault():
    found = score(in_python.provoke(4, 1))
    assert found.precision > 0.85, found.mixed
    assert found.recall > 0.95, found.split


def test_errors_that_the_rules_were_not_made_with_are_grouped_too():
    found = score(remembered.provoke(20, 5))
    assert found.precision > 0.95, found.mixed
    assert found.recall > 0.9, found.split
    texts, faults, *said = documented(r"On ([\d,]+) texts of (\d+) faults[^%]*? it is ([\d.]+) % and ([\d.]+) %")
    assert (found.texts, found.faults, percents(found)) == (texts, faults, tuple(said))


@pytest.mark.slow
def test_errors_of_many_programs_are_grouped_by_their_fault():
    texts, faults, *said = documented(
        r"of ([\d,]+) texts of (\d+) faults, ([\d.]+) % of the pairs in one group are of one fault, and ([\d.]+) %"
    )
    found = score(provoke(5, 1))
    assert found.precision > 0.9, found.mixed
    assert found.recall > 0.95, found.split
    # Fewer texts of each.
    assert texts % faults == 0
    if found.faults != faults:
        pytest.skip("other programs are here than those of which the document tells")
    # The words of programs are those of their versions.
    assert all(got >= each - 1 for got, each in zip(percents(found), said, strict=True)), (percents(found), said)
