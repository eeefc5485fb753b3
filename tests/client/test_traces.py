"""A traceback says what Python's does, but for the marks under a part of a line."""

import linecache
import re
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from bunqueue_trio.client import traces


def deep(more: int) -> None:
    if more:
        deep(more - 1)
    raise ValueError("no")


def other(more: int) -> None:
    if more:
        yet_another(more - 1)
    deep(0)


def yet_another(more: int) -> None:
    other(more)


def chained() -> None:
    try:
        deep(2)
    except ValueError as first:
        raise KeyError("k") from first


def met_on_the_way() -> None:
    try:
        chained()
    except KeyError:
        deep(1)


def hidden() -> None:
    try:
        chained()
    except KeyError:
        raise OSError(2, "none") from None


def grouped() -> None:
    errors: list[Exception] = []
    for function in (chained, hidden, lambda: deep(9)):
        try:
            function()
        except Exception as error:
            errors.append(error)
    group = ExceptionGroup("two", errors)
    group.add_note("a note")
    raise group


def badly_written() -> None:
    compile("a b", "config.py", "exec")


def noted() -> None:
    error = ValueError("no")
    error.add_note("of\nlines")
    raise error


def without_marks(text: str) -> str:
    # Where the stack ends in a function's head the marks are none, on a line of their own.
    return re.sub(r"(?m)^(?:[ |]*[~^]+| +)\n", "", text)


@pytest.mark.parametrize(
    "function",
    [
        lambda: deep(0), lambda: deep(2), lambda: deep(3), lambda: deep(9), lambda: deep(5000), lambda: other(80),
        chained, met_on_the_way, hidden, grouped, noted,
    ],
)  # fmt: skip
def test_it_says_what_python_says(function: Callable[[], None]):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each its own
        function()
    whole = "".join(traceback.format_exception(raised.value))
    assert traces.trace_of(raised.value) == without_marks(whole).rstrip()


def test_of_what_was_never_raised_there_is_its_text():
    assert traces.trace_of(ValueError("no")) == "ValueError: no"


def test_the_marks_of_code_that_cannot_be_read_stay():
    """They are of the file that somebody has to mend."""
    with pytest.raises(SyntaxError) as raised:
        badly_written()
    assert "    a b\n      ^\nSyntaxError" in traces.trace_of(raised.value)


def test_a_file_that_was_edited_is_read_again(tmp_path: Path):
    file = tmp_path / "handlers.py"
    for text in ("raise ValueError('old')", "raise   ValueError('not as old')"):
        file.write_text(text)
        linecache.lazycache(str(file), {})
        with pytest.raises(ValueError, match="old") as raised:
            exec(compile(text, str(file), "exec"), {})
        assert f"    {text}\n" in traces.trace_of(raised.value)


def test_the_usual_ones_are_not_made_in_full(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(traces, "_in_full", str)
    with pytest.raises(ValueError, match="no") as raised:
        deep(2)
    assert "Traceback" in traces.trace_of(raised.value)
