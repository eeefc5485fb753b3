"""Whoever asks a program in `scripts/` what it does gets its usage, and nothing is done."""

from pathlib import Path

import pytest

from tests.programs import usage_of

SCRIPTS = sorted(
    path
    for path in (Path(__file__).parents[1] / "scripts").glob("*.py")
    # It prints the path of the interpreter, whatever is asked.
    if '__name__ == "__main__"' in path.read_text() and path.name != "bootstrap.py"
)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_how_it_is_used(script: Path):
    usage = usage_of(script)
    assert usage.lower().startswith("usage:"), usage
