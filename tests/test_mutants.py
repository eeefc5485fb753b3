"""The planted faults: their lists name what is there, and a fault that any quick test notices does not survive."""

import ast
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from tests.programs import run_to_its_end

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
WITHIN_S = 290.0

PROGRAM = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
import mutants
from leftovers import nothing_left
from planted import Mutant

NEAR, FAR, NONE = "tests/engine/test_timers.py", "tests/engine/test_gates.py", "tests/protocol/test_times.py"
listed = mutants.test_files
mutants.test_files = lambda names: listed([NEAR, NONE, FAR] if names == ["tests"] else names)
mutants.TESTS = {{"engine": [NEAR]}}
"""


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import mutants

    return mutants


@cache
def pieces(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """Return a file's text, and each function, class or other statement of it with what has to stand before it."""
    text = path.read_text()
    lines, found = text.splitlines(keepends=True), []
    for node in ast.parse(text).body:
        parts = [("if True:\n", part) for part in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        for head, part in parts:
            first = min([part.lineno, *(each.lineno for each in getattr(part, "decorator_list", ()))])
            found.append((head, "".join(lines[first - 1 : part.end_lineno])))
    return text, found


def test_every_fault_fits_the_code(mutants: ModuleType):
    assert mutants.rot(mutants.MUTANTS) == []


@pytest.mark.thorough
def test_every_fault_is_python(mutants: ModuleType):
    """One that cannot be read is noticed by any test, and none has judged it."""
    for mutant in mutants.MUTANTS:
        if mutant.file.endswith(".py"):
            text, parts = pieces(ROOT / mutants.place_of(mutant.file))
            head, part = next((each for each in parts if mutant.old in each[1]), ("", text))
            ast.parse(head + part.replace(mutant.old, mutant.new), f"{mutant.file}: {mutant.why}")


def said_by(then: str) -> str:
    program = f"{PROGRAM}\nwith nothing_left():\n    {then}"
    done = run_to_its_end([sys.executable, "-c", program], within_s=WITHIN_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_lists_name_tests_that_are_there(mutants: ModuleType):
    assert [name for tests in mutants.TESTS.values() for name in tests if not (ROOT / name).exists()] == []
    known = {Path(name).name for name in mutants.test_files([n for tests in mutants.TESTS.values() for n in tests])}
    near = {f"test_{name}.py" for names in mutants.NEAREST.values() for name in names}
    assert near - known == set()


def test_a_fault_has_tests_of_its_directory_and_all_others(mutants: ModuleType):
    one_of_each = {mutants.area_of(mutant.file): mutant for mutant in mutants.MUTANTS}
    for area, mutant in one_of_each.items():
        own, rest = mutants.ranked(mutant, mutants.TESTS[area])
        assert own, mutant
        assert sorted(own + rest) == mutants.test_files(["tests"])


def test_the_tests_with_the_words_of_a_fault_come_first(mutants: ModuleType):
    fault = mutants.Mutant("engine/reruns.py", "self.died * 100", "0", "a rerun stops too soon")
    own, rest = mutants.ranked(fault, ["tests/engine"])
    assert own[0] == "tests/engine/test_reruns.py"
    assert "tests/runtime/test_reruns.py" in rest[:10]


@pytest.mark.slow
def test_what_only_a_test_elsewhere_notices_is_noticed():
    fault = '"engine/gates.py", "active < self.concurrency", "active <= self.concurrency", ""'
    verdict = said_by(f"verdict = mutants.run(Mutant({fault})); print(verdict.passed, verdict.late)")
    assert verdict == "False tests/engine/test_gates.py\n"


@pytest.mark.slow
def test_what_no_test_notices_survives():
    nothing = '"engine/gates.py", "Fewer entries than that", "So few entries", ""'
    assert said_by(f"print(mutants.run(Mutant({nothing})).passed)") == "True\n"


@pytest.mark.slow
def test_a_test_that_hangs_is_one_that_fails():
    endless = '"engine/timers.py", "when, _, job = heap[0]", "continue", ""'
    then = f"""
    with mutants.a_copy(Mutant({endless})) as copy:
        verdict = mutants.run_tests(copy, [NEAR], plain=True, hangs_s=1)
        print(verdict.passed, verdict.unclear, "Timeout (>1.0s)" in verdict.said)"""
    assert said_by(then) == "False False True\n"
