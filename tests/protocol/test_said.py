"""What is said of a job for people costs no attempt: a sum that is a little wrong, a text that is none, or is too long."""

import math
from decimal import Decimal
from typing import Any

import pytest

from bunqueue_trio.protocol.commands import TEXT_MAX
from bunqueue_trio.protocol.options import percent_of, said


@pytest.mark.parametrize(
    ("given", "percent"),
    [(0, 0), (50, 50), (99.5, 99.5), (100, 100), (140, 100), (100.0000001, 100), (-1, 0), (math.inf, 100), (-math.inf, 0), (math.nan, 0), (Decimal("12.5"), 12.5)],
)  # fmt: skip
def test_how_far_a_job_is_stays_within_its_bounds(given: Any, percent: float):
    assert percent_of(given) == percent


def test_a_whole_number_stays_one():
    assert isinstance(percent_of(50), int)


@pytest.mark.parametrize("given", ["50", None, True, [50]])
def test_what_is_no_number_is_no_percentage(given: Any):
    with pytest.raises(TypeError, match="progress must be a number from 0 to 100, not"):
        percent_of(given)


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("given", "told"),
    [(None, None), ("", ""), ("half way", "half way"), ({"at": [1, 2]}, '{"at":[1,2]}'), (ValueError("no"), "no"), (Mute(), "Mute"), (12, "12")],
)  # fmt: skip
def test_what_is_no_text_is_written_out(given: Any, told: str | None):
    assert said(given) == told


def test_a_very_long_text_loses_its_middle_before_it_is_sent():
    told = said("a" + "x" * 20_000_000 + "b")
    assert told is not None
    assert len(told) <= TEXT_MAX
    assert (told[0], told[-1]) == ("a", "b")
    assert len(said([told] * 9) or "") <= TEXT_MAX
