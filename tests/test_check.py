"""The program that runs all checks: which Pythons it finds, and that each of its lists names what is there."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import check

    return check


def program(path: Path, does: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return path


def test_a_python_is_found_by_its_name_and_where_pyenv_keeps_it(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert check.found("python3.77") is None
    # What only says which versions have it.
    program(tmp_path / "bin" / "python3.77", "exit 127")
    assert check.found("python3.77") is None
    kept = program(tmp_path / "versions" / "3.77.1" / "bin" / "python3.77", "exit 0")
    program(tmp_path / "versions" / "3.7.1" / "bin" / "python3.7", "exit 0")
    assert check.found("python3.77") == str(kept)
    named = program(tmp_path / "bin" / "python3.77", "exit 0")
    assert check.found("python3.77") == str(named)


def test_each_other_python_that_is_there_has_its_step(check: ModuleType, monkeypatch: pytest.MonkeyPatch):
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(check, "found", lambda name: name)
    steps = check.other_pythons("core")
    assert [step.name for step in steps] == [f"core, {name}" for name in check.PYTHONS if name != own]
    assert all(step.command[-3:] == ["core", "--python", step.name.removeprefix("core, ")] for step in steps)
    monkeypatch.setattr(check, "found", lambda name: None)
    assert check.other_pythons("fast") == []


def test_what_the_lists_name_is_there(check: ModuleType):
    assert [path for path in (*check.CORE, *check.TRACED) if not (ROOT / "tests" / path).exists()] == []
