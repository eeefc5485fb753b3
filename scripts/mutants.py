"""Puts faults into copies of the source, one at a time, and fails when the tests let one live: tests of the tests.

`python3 scripts/mutants.py` runs them all, `… WORD` those whose file or reason has the word in it. A new part of the
code adds its rows to `planted/` and its tests to `planted/tests.py`; one that only other tests notice costs a look through all
of them. The source itself is never touched.
"""

import argparse
import importlib
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import bootstrap
from leftovers import nothing_left
from machine import has_postgres
from planted import MUTANTS, Mutant
from planted.tests import NEAREST, PLAIN, TESTS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src") / "bunqueue_trio"
# A part takes about a minute of two cores.
PARTS = 110
HANGS_S = 30  # a fault may be an endless loop, or a wait for what never comes: a test that takes this long has failed; a quick one takes 3 s at most
PATIENCE_S = 300  # and so have tests that hang outside of one; all of them together take less
UNHARMED_S = 1200  # those that have noticed something, one after the other
SLICE = 4  # test files that are loaded at first
QUICK = "not slow and not long and not bench"
# Of a directory those come first that cost little: they find most faults, and the others take three times as long.
FEW, MANY = f"{QUICK} and not thorough", f"{QUICK} and thorough"
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?)::", re.MULTILINE)
NOTICED = re.compile(r"^(?:FAILED|ERROR) (\S+?::[\w:]+)", re.MULTILINE)
WORD = re.compile(r"[a-z]{3,}")

FORKS = multiprocessing.get_context("forkserver")
NO_QUICK_TEST = 5  # what pytest ends with
PRELOADED = ["pytest", "hypothesis", "pytest_trio.plugin", "msgspec", "apsw", "trio.testing", "structlog"]
"""What each run begins with; never the package itself, of which every run has another copy."""


def rot(mutants: list[Mutant]) -> list[str]:
    """Tell which rows do not fit the source any more."""
    found = []
    for mutant in mutants:
        times = (ROOT / place_of(mutant.file)).read_text().count(mutant.old)
        if times != 1:
            found.append(f"{mutant.file}: {mutant.old!r} is there {times} times, not once")
    return found


def place_of(file: str) -> Path:
    """Return where in the checkout a file is: those of the package are named without their way to it."""
    return Path(file) if file.startswith("trials/") else PACKAGE / file


class Verdict(NamedTuple):
    """What tests made of one fault, or of none."""

    passed: bool
    said: str = ""
    late: str = ""
    """The test that noticed a fault, where the tests of its directory had not."""

    @property
    def unclear(self) -> bool:
        """Whether the tests did not get to judge. What a failed test raised may be more than pytest can show: that is a judgement."""
        return self.said.startswith("pytest ended") and "INTERNALERROR> " not in self.said


def run(mutant: Mutant) -> Verdict:
    """Run the tests on a copy with the fault in it: the nearest, the others of its directory, and then all there are."""
    area = area_of(mutant.file)
    own, rest = ranked(mutant, TESTS[area])
    nearest = near(mutant.file, own)
    others = [path for path in own if path not in nearest]
    with a_copy(mutant) as copy:
        looks = [
            (nearest, QUICK),
            *((part, FEW) for part in slices(others)),
            *((part, MANY) for part in slices(others)),
        ]
        for tests, selected in looks:
            verdict = run_tests(copy, tests, plain=area in PLAIN, selected=selected)
            if not verdict.passed:
                return verdict
        # What any quick test notices is noticed, whatever the lists say.
        for tests in slices(rest):
            verdict = run_tests(copy, tests, plain=False)
            while failed := FAILED.search(verdict.said):
                if run_unharmed([failed[1]]).passed:
                    return verdict._replace(late=failed[1])
                # It is none of the fault's doing.
                tests.remove(failed[1])
                verdict = run_tests(copy, tests, plain=False)
            if verdict.unclear:
                return verdict
    return Verdict(passed=True)


def slices(tests: list[str]) -> Iterator[list[str]]:
    """Cut a list into pieces, each twice as long as the one before: to load all of it costs more than to run the first ones."""
    size = SLICE
    while tests:
        yield tests[:size]
        tests, size = tests[size:], 2 * size


def run_unharmed(tests: list[str], *, plain: bool = False, patience_s: float = PATIENCE_S) -> Verdict:
    """Run these tests on a copy without any fault."""
    with a_copy(None) as copy:
        return run_tests(copy, tests, plain=plain, patience_s=patience_s)


def pass_unharmed(tests: list[str], *, plain: bool) -> bool:
    """Return whether these, which have noticed faults, notice none where there is none; say what they do otherwise."""
    verdict = run_unharmed(tests, plain=plain, patience_s=UNHARMED_S)
    if not verdict.passed:
        print(f"the tests fail without any fault:\n{verdict.said}")
    return verdict.passed


@contextmanager
def a_copy(mutant: Mutant | None) -> Iterator[Path]:
    """Make a copy of the source, with the fault in it; for one in trials of these, too, with the documents that they look at."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name) / "src"
        copy.parent.chmod(0o755)  # some tests look at it as nobody
        # What is compiled comes along: only the changed file is compiled anew.
        shutil.copytree(ROOT / "src", copy)
        if mutant is not None:
            target = copy.parent / place_of(mutant.file)
            if not target.exists():
                shutil.copytree(ROOT / "trials", copy.parent / "trials")
                (copy.parent / "docs").symlink_to(ROOT / "docs")
            target.write_text(target.read_text().replace(mutant.old, mutant.new))
        yield copy


def area_of(file: str) -> str:
    """Return the directory, of those that have tests of their own, that ``file`` is in."""
    # What stands in no directory puts all parts together, for a command.
    return max((area for area in TESTS if file.startswith(f"{area}/")), key=len, default="cli")


def without_postgres(mutants: list[Mutant]) -> list[Mutant]:
    """Return those that can be noticed on a machine without PostgreSQL."""
    return [mutant for mutant in mutants if area_of(mutant.file) != "storage/postgres"]


def near(file: str, tests: list[str]) -> list[str]:
    """Return those of ``tests`` that most faults in ``file`` are found by; to begin with all costs five times as much."""
    stem = Path(file).stem
    names = {f"test_{name}.py" for name in NEAREST.get(stem, (stem,))}
    return [path for path in tests if Path(path).name in names]


def ranked(mutant: Mutant, own: list[str]) -> tuple[list[str], list[str]]:
    """Return the test files among ``own``, and all others: first those that have most of the fault's rare words."""
    words, seen = words_of_tests()
    asked = set(WORD.findall(f"{mutant.file} {mutant.old} {mutant.why}".lower()))
    files = sorted(words, key=lambda path: -sum(1 / seen[word] for word in asked & words[path]))
    mine = set(test_files(own))
    return [path for path in files if path in mine], [path for path in files if path not in mine]


@cache
def words_of_tests() -> tuple[dict[str, set[str]], Counter[str]]:
    """Return the words of each test file of the suite, and in how many files each word is."""
    words = {path: set(WORD.findall((ROOT / path).read_text().lower())) for path in test_files(["tests"])}
    return words, Counter(word for found in words.values() for word in found)


def test_files(names: list[str]) -> list[str]:
    """Return the test files in these directories, and these files."""
    paths = [path for name in names for path in (sorted((ROOT / name).rglob("test_*.py")) or [ROOT / name])]
    return [str(path.relative_to(ROOT)) for path in paths]


def run_tests(
    source: Path,
    tests: list[str],
    *,
    plain: bool,
    selected: str = QUICK,
    hangs_s: float = HANGS_S,
    patience_s: float = PATIENCE_S,
) -> Verdict:
    """Run tests on the package in ``source``; return whether they passed, and what they said."""
    if not tests:
        return Verdict(passed=True)
    quick = ["-m", selected, f"--timeout={hangs_s}", "-o", "timeout_func_only=true"]
    command = ["-x", "-q", *quick, "-p", "no:cacheprovider", "-p", "no:schemathesis", *tests]
    # Of plugins that were loaded before nothing is rewritten: no assertion of theirs is looked at.
    command += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    if plain:
        command += ["-p", "pytest_timeout", "-c", os.devnull, "--rootdir", str(ROOT)]
        command += ["--import-mode=importlib", "-o", f"pythonpath={ROOT}"]
    said = source.parent / "said"
    process = FORKS.Process(target=judge, args=(source, command, said), kwargs={"plain": plain})
    process.start()
    process.join(patience_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        return Verdict(passed=False, said=f"they took more than {patience_s:g} s")
    code, text = process.exitcode, said.read_text(errors="replace")
    if code in (0, NO_QUICK_TEST):
        return Verdict(passed=True)
    return Verdict(passed=False, said=text if code == 1 else f"pytest ended with {code}:\n{text}")


def judge(source: Path, command: list[str], said: Path, *, plain: bool) -> None:
    """Run pytest on the package in ``source``, in a process of its own; its exit code is pytest's."""
    with said.open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.path.insert(0, str(source))
    sys.dont_write_bytecode = True
    # For the programs that tests start.
    os.environ |= {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.pop("COVERAGE_FILE", None)
    if plain:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    if (source.parent / "trials").is_dir():
        # Loaded first, it stays the copy wherever the tests look for it.
        sys.path.insert(0, str(source.parent))
        importlib.import_module("trials")
        sys.path.pop(0)
    pytest = importlib.import_module("pytest")
    code = pytest.main(command)
    loaded = sys.modules.get("bunqueue_trio")
    if loaded is None or not str(loaded.__file__).startswith(str(source)):
        print("it is not the copy that was tested")
        code = 3
    sys.exit(int(code))


def main() -> int:
    """Run the chosen mutants; return 0 when the tests noticed each of them."""
    parser = argparse.ArgumentParser(description="Check that the tests notice faults put into the code on purpose.")
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in file or reason")
    parser.add_argument(
        "--part", type=int, help=f"only every {PARTS}th one, from this on; after the last part comes the first again"
    )
    arguments = parser.parse_args()
    words = arguments.words
    bootstrap.reexec()

    FORKS.set_forkserver_preload(PRELOADED)
    begun = time.monotonic()
    chosen = [m for m in MUTANTS if not words or any(word in m.file or word in m.why for word in words)]
    if problems := rot(chosen):  # whatever part is run
        print("\n".join(problems))
        return 1
    if not has_postgres():
        without = without_postgres(chosen)
        print(f"faults that wait for a machine with PostgreSQL: {len(chosen) - len(without)}")
        chosen = without
    if arguments.part is not None:
        part = arguments.part % PARTS
        print(f"part {part} of {PARTS}")
        chosen = chosen[part::PARTS]
    if waiting := [mutant for mutant in chosen if mutant.open]:
        print(f"faults that wait for a test that notices them: {len(waiting)}")
        chosen = [mutant for mutant in chosen if not mutant.open]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        survivors = 0
        noticing: dict[bool, set[str]] = {True: set(), False: set()}
        for mutant, verdict in zip(chosen, pool.map(run, chosen), strict=True):
            if verdict.late:
                print(
                    f"{mutant.file}: {mutant.why}: only {verdict.late} notices it: name it in planted/tests.py",
                    flush=True,
                )
            elif verdict.passed or verdict.unclear:
                survivors += 1
                print(
                    f"SURVIVED {mutant.file}: {mutant.why} ({mutant.old!r} -> {mutant.new!r})\n{verdict.said}",
                    flush=True,
                )
            elif by := NOTICED.search(verdict.said):
                noticing[area_of(mutant.file) in PLAIN].add(by[1])
        passing = pool.map(lambda one: pass_unharmed(sorted(one[1]), plain=one[0]), noticing.items())
        if not all(list(passing)):
            return 1
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed in {time.monotonic() - begun:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    with nothing_left():
        raise SystemExit(main())
