"""Coverage-guided fuzzing of what reads bytes: `python3 scripts/fuzz.py codec|http|websocket … --seconds N`.

Inputs are made by atheris (libFuzzer), which keeps what reaches new code, and judged by tests/fuzz/harness.py. It starts
from tests/fuzz/corpus/TARGET. A failure leaves its input in build/fuzz, with the traceback on the terminal; run it again
with `--input FILE`, and put it into the corpus when it is mended: the tests run every file there.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import bootstrap

ROOT = bootstrap.ROOT
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
BUILD = ROOT / "build" / "fuzz"
ROOMS = ("protocol", "api", "transports")
INPUT_MAX = 4096  # bytes; longer ones reach nothing new and are slow


def main() -> int:
    """Fuzz each target for a time, or run one input."""
    parser = argparse.ArgumentParser(description="Fuzz what reads bytes, guided by coverage.")
    parser.add_argument("targets", nargs="+", choices=("codec", "http", "websocket"), metavar="codec|http|websocket")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--input", type=Path, help="run this one and stop")
    options = parser.parse_args()
    bootstrap.reexec()
    sys.path.insert(0, str(ROOT))
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["bunqueue_trio", "websockets"], exclude=unwatched()):
        judges = importlib.import_module("tests.fuzz.harness").TARGETS
    if options.input is not None:
        judges[options.targets[0]](options.input.read_bytes())
        return 0
    failed = 0
    for target in options.targets:
        # A process has one target; to load the code so that it can be watched takes longer than a short look.
        child = os.fork()
        if not child:
            fuzz(atheris, target, judges[target], options)
            os._exit(1)
        failed |= os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 1 if failed else 0


def unwatched() -> list[str]:
    """Return the modules that read no bytes: atheris knows whole packages and single modules only."""
    source = ROOT / "src"
    parts = [path.relative_to(source).with_suffix("").parts for path in source.rglob("*.py")]
    return [".".join(each).removesuffix(".__init__") for each in parts if each[1] not in ROOMS]


def fuzz(atheris: Any, target: str, judge: Any, options: argparse.Namespace) -> None:
    """Fuzz one target; the process ends with it."""
    found = BUILD / target
    found.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", f"-max_len={INPUT_MAX}", "-timeout=20"]
    where = [f"-artifact_prefix={BUILD}/{target}-", str(found), str(CORPUS / target)]
    atheris.Setup([sys.argv[0], *limits, "-verbosity=0", "-print_final_stats=1", *where], judge)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
