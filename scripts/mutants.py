"""Puts faults into copies of the source, one at a time, and fails when the tests let one live: tests of the tests.

`python3 scripts/mutants.py` runs them all, `… WORD` those whose file or reason has the word in it. A new part of the
code adds its rows to `planted/` and its tests to TESTS. The source itself is never touched.
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bootstrap
from leftovers import nothing_left
from machine import has_postgres
from planted import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src") / "bunqueue_trio"
PARTS = 24
TIMEOUT_S = 25  # a fault may be an endless loop, or a wait for what never comes; that is noticed, too

# Without test_model.py: it finds nothing that the seeds do not, and would shrink what it finds.
ENGINE = (
    "timers", "ready", "listing", "jobs", "dead", "job", "handlers", "engine", "facts", "gates", "edits", "clear", "why",
    "line", "bounds", "rates", "actions", "fingerprint", "groups", "attempts", "logs", "find", "many", "bulk", "timing", "schedules", "cancel", "workers", "reruns", "auto_retries", "figures", "configs", "marks", "seeded",
)  # fmt: skip

TESTS = {
    "engine": [f"tests/engine/test_{name}.py" for name in ENGINE],
    "protocol": ["tests/protocol", "tests/doors/test_again.py"],
    "runtime": [
        f"tests/runtime/test_{name}.py"
        for name in (
            "core",
            "bulk",
            "journal_alone",
            "handing",
            "budget",
            "ends",
            "statistics",
            "pressure",
            "auto_retries",
            "avalanche",
            "distant",
            "lease",
            "lookups",
            "services",
            "many",
            "schedules",
            "history",
            "hub",
            "quiet",
            "reads",
        )
    ]
    + ["tests/stream/test_gone.py", "tests/stream/test_reported.py", "tests/ui/test_cluster_findings.py"],
    "storage": [
        "tests/ui/test_cluster.py",
        "tests/ui/test_cluster_findings.py",
        "tests/storage/test_memory.py",
        "tests/storage/test_sqlite.py",
        "tests/storage/test_opening.py",
        "tests/storage/test_log.py",
        "tests/operations/test_backup.py",
        "tests/operations/test_restore.py",
        "tests/storage/test_copying.py",
        "tests/storage/test_large_rows.py",
        "tests/engine/test_cancel.py",
    ],
    "storage/postgres": [
        "tests/storage/test_postgres_store.py",
        "tests/storage/test_postgres_schema.py",
        "tests/storage/test_postgres_inspect.py",
        "tests/storage/test_copying.py",
        "tests/storage/test_postgres.py",
    ],
    "api": [
        "tests/stream/test_virtual.py",
        "tests/stream/test_bulk.py",
        "tests/stream/test_access.py",
        "tests/ui/test_access.py",
        "tests/stream/test_named_events.py",
        "tests/stream/test_reported.py",
        "tests/stream/test_hot.py",
    ],
    "config": ["tests/operations/test_spelling.py", "tests/operations/test_config.py"],
    "doors": [
        f"tests/doors/test_{name}.py"
        for name in (
            "frames",
            "splice",
            "handshake",
            "remote",
            "waiting_room",
            "local",
            "room",
            "ends",
            "hanging",
            "again",
        )
    ],
    "pages": [
        "tests/ui/test_cluster.py",
        "tests/ui/test_cluster_findings.py",
        "tests/ui/test_findings.py",
        "tests/ui/test_unsure.py",
        "tests/ui/test_actions.py",
        "tests/operations/test_actions.py",
        "tests/operations/test_findings.py",
    ],
    "cli": [
        "tests/operations/test_sisters.py",
        "tests/operations/test_findings.py",
        "tests/ui/test_same_in_a_shell.py",
    ],
    "ui": [
        f"tests/ui/test_{name}.py"
        for name in (
            "payload",
            "access",
            "actions",
            "undo",
            "operating",
            "hostile",
            "screens",
            "unsure",
            "same_in_a_shell",
            "cluster",
        )
    ]
    + ["tests/operations/test_findings.py"],
    "transports": [
        *(f"tests/stream/test_{name}.py" for name in ("hot", "heads", "frames", "virtual", "gone", "bulk")),
        "tests/doors/test_room.py",
    ],
    "client": [
        f"tests/client/test_{name}.py"
        for name in (
            "taken_back",
            "kit",
            "kit_asyncio",
            "orderly",
            "cancelling",
            "known_workers",
            "waiting",
            "says",
            "traces",
            "failures",
            "sizes",
            "idle_pulls",
            "given",
            "names",
            "fate",
            "payloads",
            "run",
            "outcomes",
        )
    ],
    "sync": ["tests/client/test_kit.py"],
    "testing": ["tests/client/test_kit.py", "tests/client/test_kit_asyncio.py"],
}
"""Which tests must notice a fault, by the directory it is in."""

NEAREST = {
    "answering": ("frames",),
    "asking": ("again", "frames"),
    "lane": ("frames", "room"),
    "door": ("room",),
    "remote": ("remote", "hanging"),
    "moves": ("engine", "dead", "attempts", "logs", "cancel"),
    "holding": ("engine", "dead", "handlers", "attempts"),
    "push": ("engine", "handlers", "bulk", "jobs"),
    "journal": ("bulk", "pressure", "reads"),
    "turn": ("bulk", "journal_alone"),
    "hub": ("hub", "reported"),
    "session": ("bulk", "access", "reported", "virtual"),
    "waiting": ("core", "waiting", "handing", "quiet", "gone"),
    "express": ("hot", "virtual", "gone"),
    "websocket": ("frames", "bulk", "virtual", "gone"),
    "listener": ("room", "virtual", "gone"),
    "worker": ("says", "orderly", "sizes", "given", "names"),
    "client": ("idle_pulls", "names"),
    "app": ("names",),
    "jobs": ("jobs", "no_cost"),
    "backend": ("given", "orderly"),
    "pushing": ("fate",),
    "link": ("taken_back", "sizes", "payloads", "postgres_store", "local"),
    "options": ("engine", "handlers", "job", "said"),
    "report": ("handlers", "bulk"),
    "find": ("find", "many"),
    "deliver": ("engine", "handlers"),
    "queues": ("gates", "listing"),
    "manage": ("edits", "handlers"),
    "lookup": ("handlers", "engine"),
    "inspect": ("backup",),
    "tokens": ("spelling",),
    "queue": ("engine", "listing"),
    "planner": ("schedules",),
    "before": ("actions",),
    "acts": ("actions",),
    "restoring": ("undo",),
    "putting": ("schedules",),
    "firing": ("schedules",),
    "cron": ("timing",),
    "zones": ("timing",),
    "store": ("postgres_store",),
    "standby": ("postgres_store",),
    "announcer": ("postgres_store", "postgres_schema"),
    "leading": ("local",),
    "terms": ("postgres_store", "postgres_inspect", "postgres_schema"),
    "cluster": ("postgres_inspect", "cluster", "cluster_findings"),
    "statistics": ("cluster_findings", "statistics"),
    "tail": ("postgres_store",),
    "prometheus": ("cluster",),
    "0001_initial": ("postgres_store",),
    "arrays": ("postgres_schema",),
    "schema": ("postgres_schema",),
    "place": ("postgres_schema",),
}
"""The tests, without ``test_``, that find most faults in a file; of others those that are called as the file is."""

PLAIN = {"engine", "protocol"}
"""Directories whose tests need no pytest plugin and no setting of pyproject.toml; loading those costs a second a run."""

FORKS = multiprocessing.get_context("forkserver")
PRELOADED = ["pytest", "msgspec", "apsw", "trio.testing", "structlog"]
"""What each run begins with; never the package itself, of which every run has another copy."""


def rot(mutants: list[Mutant]) -> list[str]:
    """Tell which rows do not fit the source any more."""
    found = []
    for mutant in mutants:
        times = (ROOT / PACKAGE / mutant.file).read_text().count(mutant.old)
        if times != 1:
            found.append(f"{mutant.file}: {mutant.old!r} is there {times} times, not once")
    return found


def run(mutant: Mutant | None) -> tuple[bool, str]:
    """Run the tests on a copy with the fault in it; return whether they passed, and what they said."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name) / "src"
        copy.parent.chmod(0o755)  # some tests look at it as nobody
        # What is compiled comes along: only the changed file is compiled anew.
        shutil.copytree(ROOT / "src", copy)
        areas = set(TESTS)
        if mutant is not None:
            target = copy / PACKAGE.name / mutant.file
            target.write_text(target.read_text().replace(mutant.old, mutant.new))
            areas = {area_of(mutant.file)}
        tests = [*dict.fromkeys(path for area in sorted(areas) for path in TESTS[area])]
        plain = areas <= PLAIN
        if mutant is not None and (nearest := near(mutant.file, tests)):
            passed, said = run_tests(copy, nearest, plain=plain, patience_s=TIMEOUT_S)
            if not passed:
                return False, said
        return run_tests(copy, tests, plain=plain, patience_s=TIMEOUT_S if mutant is not None else 20 * TIMEOUT_S)


def area_of(file: str) -> str:
    """Return the directory, of those that have tests of their own, that ``file`` is in."""
    return max((area for area in TESTS if file.startswith(f"{area}/")), key=len)


def without_postgres(mutants: list[Mutant]) -> list[Mutant]:
    """Return those that can be noticed on a machine without PostgreSQL."""
    return [mutant for mutant in mutants if area_of(mutant.file) != "storage/postgres"]


def near(file: str, tests: list[str]) -> list[str]:
    """Return those of ``tests`` that most faults in ``file`` are found by; to begin with all costs five times as much."""
    stem = Path(file).stem
    names = {f"test_{name}.py" for name in NEAREST.get(stem, (stem,))}
    return [path for path in tests if Path(path).name in names]


def run_tests(source: Path, tests: list[str], *, plain: bool, patience_s: float) -> tuple[bool, str]:
    """Run tests on the package in ``source``; return whether they passed, and what they said."""
    command = ["-x", "-q", "-m", "not slow and not long and not bench", "-p", "no:cacheprovider", *tests]
    if plain:
        command += ["-c", os.devnull, "--rootdir", str(ROOT), "--import-mode=importlib", "-o", f"pythonpath={ROOT}"]
    said = source.parent / "said"
    process = FORKS.Process(target=judge, args=(source, command, said), kwargs={"plain": plain})
    process.start()
    process.join(patience_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        return False, "timeout"
    text = said.read_text(errors="replace")
    if process.exitcode not in (0, 1):  # 2 and more: the tests did not get to judge
        return False, f"pytest ended with {process.exitcode}:\n{text}"
    return process.exitcode == 0, text


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
        print(f"{len(chosen) - len(without)} faults wait for a machine with PostgreSQL")
        chosen = without
    if arguments.part is not None:
        part = arguments.part % PARTS
        print(f"part {part} of {PARTS}")
        chosen = chosen[part::PARTS]
    if waiting := [mutant for mutant in chosen if mutant.open]:
        print(f"{len(waiting)} faults wait for a test that notices them")
        chosen = [mutant for mutant in chosen if not mutant.open]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        unharmed, *judged = pool.map(run, [None, *chosen])
        passed, said = unharmed
        if not passed:
            print(f"the tests fail without any fault:\n{said}")
            return 1
        survivors = []
        for mutant, (survived, said) in zip(chosen, judged, strict=True):
            if survived or said.startswith("pytest ended"):
                survivors.append(mutant)
                print(f"SURVIVED {mutant.file}: {mutant.why} ({mutant.old!r} -> {mutant.new!r})", flush=True)
                print(said if said.startswith("pytest ended") else "", end="", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed in {time.monotonic() - begun:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    with nothing_left():
        raise SystemExit(main())
