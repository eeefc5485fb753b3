"""What is said of many failures is said as of each alone, wherever it goes: to a program's logging, or to nobody's."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from bunqueue_trio.client.log import SHORT, log

PLAIN = logging.getLogger("bunqueue_trio")
MANY = [{"job": name, "exception": f"Traceback:\n  {name}\x1b[2J\n"} for name in ("one", "two", "x" * SHORT)]
SAID = [rf"job failed job={name}" + "\nTraceback:\n" + rf"  {name}\x1b[2J" for name in ("one", "two", "x" * SHORT)]


@contextmanager
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be a program that has set up no logging either: what pytest hears by comes with the call of a test."""
    with monkeypatch.context() as patch:
        for logger in (PLAIN, logging.getLogger()):
            patch.setattr(logger, "handlers", [])
        yield


def one_by_one() -> None:
    for fields in MANY:
        log.warning("job failed", **fields)


def at_once() -> None:
    log.warn_of_many("job failed", MANY)


WAYS = [one_by_one, at_once]


@pytest.mark.parametrize("say", WAYS)
def test_without_any_logging_it_goes_to_standard_error(
    unset: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], say: Any
):
    with alone(monkeypatch):
        say()
        log.info("not shown")
        log.warn_of_many("job failed", [])
    assert capsys.readouterr() == ("", "".join(f"{text}\n" for text in SAID))


@pytest.mark.parametrize("say", WAYS)
def test_a_program_that_wants_to_hear_nothing_does_not(
    unset: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], say: Any
):
    with alone(monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(logging, "lastResort", None)
            say()
        with monkeypatch.context() as patch:
            patch.setattr(PLAIN, "filters", [lambda record: False])
            say()
        PLAIN.setLevel(logging.ERROR)
        say()
        PLAIN.setLevel(logging.NOTSET)
        with monkeypatch.context() as patch:
            # Nor does one that has no standard error.
            patch.setattr(sys, "stderr", None)
            say()
    assert "job failed" not in capsys.readouterr().err


@pytest.mark.parametrize("say", WAYS)
def test_a_program_with_logging_has_a_record_of_each(unset: None, caplog: pytest.LogCaptureFixture, say: Any):
    say()
    assert [record.getMessage() for record in caplog.records] == SAID
    assert {record.name for record in caplog.records} == {"bunqueue_trio"}
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert {record.filename for record in caplog.records} == {"log.py"}


@pytest.mark.parametrize("say", WAYS)
def test_a_line_that_cannot_be_written_costs_itself(say: Any, capsys: pytest.CaptureFixture[str]):
    said: list[str] = []

    def fails(_: object, __: object, line: Any) -> str:
        if line["job"] == "one":
            raise BrokenPipeError("nobody reads")
        said.append(line["job"])
        return ""

    before = structlog.get_config()
    structlog.configure(processors=[fails])
    try:
        say()
    finally:
        structlog.configure(**before)
    assert said == ["two", "x" * SHORT]


def test_what_cannot_be_said_costs_its_line(
    unset: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Mute:
        def __str__(self) -> str:
            raise ValueError("no text")

    with alone(monkeypatch):
        log.warn_of_many("job failed", [{"job": Mute()}, {"job": "two"}])
    assert capsys.readouterr().err == "job failed job=two\n"
