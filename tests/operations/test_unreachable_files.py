"""Files in a directory that may not be entered, and names that no file can have: one line, from every command that takes a file."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

# Read while that may be done.
import bunqueue_trio.cli.copy
import bunqueue_trio.cli.files
import bunqueue_trio.cli.serve
import bunqueue_trio.run  # noqa: F401
from bunqueue_trio.cli import main
from tests.operations.stores import make_store

LINES = [
    "serve --data-path BAD", "config --data-path BAD", "doctor BAD", "backup BAD GOOD", "backup STORE BAD", "restore BAD GOOD", "restore STORE BAD",
    "shrink BAD", "copy --from BAD --to GOOD", "copy --from STORE --to BAD",
]  # fmt: skip
"""STORE is one that is there, GOOD a name that could be made."""


@pytest.fixture
def forbidden(commoner: Path) -> Path:
    """A directory that may not be entered."""
    make_store(commoner / "store.db")
    place = commoner / "private"
    place.mkdir()
    shutil.copy(commoner / "store.db", place / "there.db")
    place.chmod(0)
    return place


@pytest.mark.parametrize("name", ["there.db", "missing.db", "deeper/missing.db", "x" * 300, f"{'x' * 300}/q.db"])
@pytest.mark.parametrize("line", LINES)
def test_a_file_that_cannot_be_reached_is_one_line(line: str, name: str, commoner: Path, forbidden: Path):
    bad, reason = forbidden / name, "Permission denied"
    if name.startswith("x"):
        bad, reason = commoner / name, "File name too long"
    names = {"BAD": str(bad), "GOOD": str(commoner / "good.db"), "STORE": str(commoner / "store.db")}
    done = CliRunner().invoke(main, [names.get(word, word) for word in line.split()])
    assert done.exit_code == (2 if line.startswith(("serve", "config")) else 1)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "private" in done.stderr or "xxx" in done.stderr
    assert done.stderr.endswith(f": {reason}\n")
    assert not (commoner / "good.db").exists()
