"""Programs that start others: whatever becomes of a test, they and all below them end with it."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from scripts import leftovers

LASTING: "list[subprocess.Popen[Any]]" = []
"""Programs that serve many tests; the end of the run ends them."""


def end_lasting() -> None:
    """End the programs that serve many tests."""
    while LASTING:
        end_family(LASTING.pop())


def run_to_its_end(command: list[Any], *, within_s: float, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program; after `within_s`, which is for what hangs, it and all that it started are killed.

    `subprocess.run` kills the program alone, and then waits for ever for those that hold its output.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=within_s)
        except BaseException:
            end_family(process)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@cache
def usage_of(script: Path) -> str:
    """Return what a program of ours says to `--help`; it costs a second of a core, and several tests look at it."""
    return subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def end_family(process: "subprocess.Popen[Any]") -> None:
    """Kill a process and all below it: a Hypercorn has children that outlive it."""
    children = leftovers.below(process.pid) if process.poll() is None else []
    process.kill()
    process.wait()
    leftovers.end(children)
