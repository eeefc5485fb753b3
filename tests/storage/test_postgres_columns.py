"""Columns as PostgreSQL's binary arrays: whatever stands in one is read as it was, however it was written."""

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres.arrays import blobs, columns, ints, names, numbers, texts, with_nul
from tests.cluster.database import decode


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "column",
    [[5], [0], [-1], [None], [2**63 - 1, -(2**63)], [1, 2, 1], [None, 1, None], [1, None, 1], [1, 1, None]],
)
def test_numbers_and_what_is_missing(column: list[int | None], n: int):
    assert decode(ints(column * n)) == column * n


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "column", [["a"], [""], [None], ["a", "b", "a"], [None, "ä", None], ["a", None, "a"], ["a", "", "a"]]
)
def test_texts_and_what_is_missing(column: list[str | None], n: int):
    assert decode(texts(column * n)) == column * n
    assert decode(blobs([None if each is None else each.encode() for each in column * n])) == [
        None if each is None else each.encode() for each in column * n
    ]


def test_names_with_what_no_text_there_may_have():
    for column in (["\0"] * 3, ["\0", "\1", "\0"], ["a\0b"]):
        assert [with_nul(each) for each in decode(names(column))] == column


def test_equal_numbers_stay_what_they_are():
    """50 is not 50.0, nor is 0 what -0.0 is, although they are equal."""
    for column in ([50, 50.0, 50], [50.0, 50, 50.0], [0, -0.0, 0], [1, 1.0], [0] * 3):
        assert decode(numbers(column)) == [repr(each) for each in column]


def test_a_column_of_nothing_is_an_empty_one():
    kinds = (ints, names, texts, blobs, numbers)
    for _ in range(2):
        assert [decode(column) for column in columns(kinds, [])] == [[]] * 5
    assert [decode(column) for column in columns(kinds, [(1, "a", None, b"x", 2.5)])] == [
        [1],
        ["a"],
        [None],
        [b"x"],
        ["2.5"],
    ]
