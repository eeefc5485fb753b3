"""The program that runs all checks: which Pythons it finds, and that each of its lists names what is there."""

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.programs import run_to_its_end

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
    lots = (check.CORE, *check.TRACED.values(), *check.OTHERS.values())
    assert [path for paths in lots for path in paths if not (ROOT / "tests" / path).exists()] == []


def loaded(command: list[str]) -> list[str]:
    """The files of tests that a call of pytest loads."""
    found = [
        str(file.relative_to(ROOT))
        for argument in command
        if argument.startswith("tests/")
        for file in ([ROOT / argument] if argument.endswith(".py") else (ROOT / argument).rglob("test_*.py"))
    ]
    ignored = [argument.removeprefix("--ignore=") for argument in command if argument.startswith("--ignore=")]
    return [file for file in found if not any(file == path or file.startswith(f"{path}/") for path in ignored)]


@pytest.mark.parametrize("mode", ["fast", "full", "long"])
def test_every_file_of_tests_is_in_one_lot(check: ModuleType, mode: str):
    """Those that `full` traces are in two: the quick tests of it are by themselves."""
    steps = check.tests_steps(mode)
    times = Counter(file for step in steps if not step.name.startswith("slow") for file in loaded(step.command))
    assert times == Counter({str(path.relative_to(ROOT)): 1 for path in (ROOT / "tests").rglob("test_*.py")})
    slow = {file for step in steps if step.name.startswith("slow") for file in loaded(step.command)}
    quick = {file for step in steps if step.name.startswith("quick") for file in loaded(step.command)}
    assert slow == quick


def test_each_step_writes_a_report_of_its_own(check: ModuleType):
    steps = check.tests_steps("full")
    reports = {argument for step in steps for argument in step.command if argument.startswith("--junitxml=")}
    assert len(reports) == len(steps) > 5


@pytest.mark.slow
def test_processes_that_a_step_leaves_behind_are_a_failure():
    """In a process of its own: whoever looks is given the orphans."""
    code = (
        "import subprocess, sys; sys.path.insert(0, 'scripts'); import check, leftovers; leftovers.adopt_orphans();"
        "start = \"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        ' stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)";'
        "outcomes = check.run_together([check.Step('one', [sys.executable, '-c', start]), check.Step('two', ['true'])]);"
        "print({outcome.name: outcome.code for outcome in outcomes})"
    )
    done = run_to_its_end([sys.executable, "-c", code], within_s=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "time.sleep(600)" in done.stdout
    assert "'processes left behind': 1" in done.stdout


def test_a_step_follows_those_that_it_names_whatever_the_order_of_the_list():
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import check;"
        "last, first = check.Step('last', ['true'], ('first',)), check.Step('first', ['sleep', '0.05']);"
        "print([outcome.name for outcome in check.run_together([last, first], beside=2)]);"
        "check.run_together([last])"
    )
    done = run_to_its_end([sys.executable, "-c", code], within_s=60, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "['first', 'last']"
    assert "nothing is run that these could follow" in done.stderr


def test_what_is_covered_is_judged_when_all_that_is_traced_is_over(check: ModuleType):
    traced = [step for step in check.tests_steps("full") if "coverage" in step.command]
    combine, *reports = check.coverage_steps("full", traced)
    assert {step.name for step in traced} == {f"quick tests: {lot}" for lot in check.TRACED} == set(combine.after)
    assert [report.after for report in reports] == [(combine.name,)]
