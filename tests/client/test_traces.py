"""A traceback says what Python's does, but for the marks under a part of a line."""

import linecache
import re
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import pytest

from bunqueue_trio.client import traces as module
from bunqueue_trio.client.traces import CHAIN_MAX, Traces


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


def long_chain(length: int = CHAIN_MAX + 2) -> None:
    if length:
        try:
            long_chain(length - 1)
        except ValueError as error:
            raise ValueError(f"after {length}") from error
    raise ValueError("first")


def going_round() -> None:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


class Silent(Exception):
    """Without a text, and of a module of its own."""


def silent() -> None:
    raise Silent


def mistyped() -> None:
    "".lowr()  # type: ignore[attr-defined]


def without_marks(text: str) -> str:
    # Where the stack ends in a function's head the marks are none, on a line of their own.
    return re.sub(r"(?m)^(?:[ |]*[~^]+| +)\n", "", text)


@pytest.mark.parametrize(
    "function",
    [
        lambda: deep(0), lambda: deep(2), lambda: deep(3), lambda: deep(9), lambda: deep(5000), lambda: other(80),
        chained, met_on_the_way, hidden, grouped, noted, long_chain, going_round, silent, mistyped,
    ],
)  # fmt: skip
def test_it_says_what_python_says(function: Callable[[], None]):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each its own
        function()
    whole = "".join(traceback.format_exception(raised.value))
    traces = Traces()
    # The second time it is remembered.
    assert [traces.of(raised.value), traces.of(raised.value)] == [without_marks(whole).rstrip()] * 2


def test_of_what_was_never_raised_there_is_its_text():
    assert Traces().of(ValueError("no")) == "ValueError: no"


def test_the_marks_of_code_that_cannot_be_read_stay():
    """They are of the file that somebody has to mend."""
    with pytest.raises(SyntaxError) as raised:
        badly_written()
    assert "    a b\n      ^\nSyntaxError" in Traces().of(raised.value)


def test_a_file_that_was_edited_is_read_again(tmp_path: Path):
    file, traces = tmp_path / "handlers.py", Traces()
    for text in ("raise ValueError('old')", "raise   ValueError('not as old')"):
        file.write_text(text)
        linecache.lazycache(str(file), {})
        with pytest.raises(ValueError, match="old") as raised:
            exec(compile(text, str(file), "exec"), {})
        assert f"    {text}\n" in traces.of(raised.value)


def test_code_that_is_made_for_each_job_does_not_gather(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CODES_MAX", 10)
    traces, made, told = Traces(), list[weakref.ref[CodeType]](), list[str]()
    for number in range(30):
        code = compile("1 / 0", f"job {number}", "exec")
        made.append(weakref.ref(code))
        try:
            exec(code, {})
        except ZeroDivisionError as error:
            told.append(traces.of(error))
        del code
    assert all(f"job {number}" in text for number, text in enumerate(told))
    assert sum(each() is not None for each in made) <= 11


@pytest.mark.parametrize("function", [lambda: deep(2), lambda: deep(9), chained, met_on_the_way, hidden, silent])
def test_the_usual_ones_are_not_made_by_python(function: Callable[[], None], monkeypatch: pytest.MonkeyPatch):
    """It takes three times as long, and a job that fails is not to cost much more than one that is done."""
    monkeypatch.delattr(traceback, "TracebackException")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each its own
        function()
    assert "Traceback" in Traces().of(raised.value)


@pytest.mark.parametrize("function", [grouped, noted, long_chain, mistyped])
def test_python_makes_no_frames_of_the_others(function: Callable[[], None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(traceback, "FrameSummary")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each its own
        function()
    assert "Traceback" in Traces().of(raised.value)
