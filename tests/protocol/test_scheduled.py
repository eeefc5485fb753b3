"""Whoever says of missed slots what would change nothing learns that."""

import pytest

from bunqueue_trio.protocol.scheduled import of_no_effect


@pytest.mark.parametrize(
    ("misfire", "most", "window", "jitter", "words"),
    [
        ("once", 5, None, None, "misfire_max needs misfire all"),
        ("all", 5, None, None, None),
        ("once", None, 60_000, None, "for one up to 60 s late is in time"),
        ("once", None, 60_001, None, None),
        ("all", 5, 120_000, 60_000, "for one up to 120 s late is in time"),
        ("all", 5, 120_001, 60_000, None),
        ("skip", None, 7_200_000, None, "window has no effect with misfire skip"),
        (None, None, None, None, None),
    ],
)
def test_a_window_or_a_number_that_changes_nothing_has_its_words(
    misfire: str | None, most: int | None, window: int | None, jitter: int | None, words: str | None
):
    said = of_no_effect(misfire, most, window, jitter)
    assert (said is None) if words is None else (said is not None and words in said)
