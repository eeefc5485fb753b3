"""docs/guarantees.md names only commands that exist, with flags that they know, and links that lead somewhere."""

import re
import shlex
from pathlib import Path

import click
import pytest

from bunqueue_trio.cli import main
from bunqueue_trio.config import Settings
from tests.programs import usage_of

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "guarantees.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")

COMMANDS = sorted(set(re.findall(r"`((?:python3|bunqueue-trio) [^`]+)`", TEXT)))


def known(part: str, *, there: bool) -> None:
    assert there, f"docs/guarantees.md names {part}, which does not exist"


def test_every_guarantee_has_a_proof():
    rows = [line for line in TEXT.split("## At least once")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert [row for row in rows if not re.search(r"\| `(?:python3|bunqueue-trio) [^`]+` \|$", row)] == []


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("python3 scripts/")])
@pytest.mark.slow
def test_a_script_is_there_and_knows_its_flags(command: str):
    _, script, *arguments = shlex.split(command)
    known(script, there=(ROOT / script).is_file())
    shown = usage_of(ROOT / script)
    for flag in [argument for argument in arguments if argument.startswith("-")]:
        assert re.search(rf"{flag}\b", shown), command


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("python3 -m pytest")])
def test_a_test_is_there(command: str):
    for path in shlex.split(command)[3:]:
        known(path, there=(ROOT / path).exists())


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("bunqueue-trio ")])
def test_a_subcommand_is_there_and_knows_its_flags(command: str):
    _, name, *arguments = shlex.split(command)
    subcommand = main.get_command(click.Context(main), name)
    assert subcommand is not None
    options = {option for each in subcommand.params if isinstance(each, click.Option) for option in each.opts}
    for flag in [argument for argument in arguments if argument.startswith("-")]:
        known(flag, there=flag in options)


def test_flags_and_settings_in_the_text_exist():
    variables = {f.metadata["env"] for f in Settings.__dataclass_fields__.values()}
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", TEXT))
    assert named
    assert named <= variables
    crashtest = (ROOT / "src" / "bunqueue_trio" / "cli" / "crashtest.py").read_text()
    for flag in re.findall(r"`(--[a-z-]+)`", TEXT):
        assert f'"{flag}"' in crashtest, flag


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_a_link_leads_somewhere(link: str):
    path, _, anchor = link.partition("#")
    target = DOCUMENT.parent / path if path else DOCUMENT
    there = target.is_file()
    if there and anchor:
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        there = anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    known(link, there=there)
