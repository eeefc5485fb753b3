"""The benchmarks run: they start real processes, find numbers and say so. How good the numbers are is not a test's business."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import run_to_its_end

BENCH = Path(__file__).parents[1] / "scripts" / "bench.py"


def bench(directory: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Run the script; return what it printed and the numbers that it wrote."""
    report = directory / "report.json"
    command = [sys.executable, BENCH, *arguments, "--quick", "--json", report, "--data-dir", directory]
    done = run_to_its_end(command, within_s=290)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(report.read_text())


@pytest.mark.slow
@pytest.mark.timeout(300)  # several processes, and two starts of a server, on a machine that may be busy
def test_engine_benchmark_measures_operations_memory_and_start(tmp_path: Path) -> None:
    """Every operation has a cost at both backlogs, and so has a waiting job in a real server."""
    sizes = ["--jobs", "2000", "--backlogs", "100", "2000", "--repeats", "2", "--server-jobs", "3000"]

    shown, report = bench(tmp_path, "engine", *sizes)

    assert "nothing is judged" in shown
    for backlog in ("100", "2000"):
        costs = report["engine"]["backlogs"][backlog]["median"]
        assert all(costs[operation] > 0 for operation in ("push", "pull", "ack"))
    assert report["engine"]["growth"] > 0
    assert report["backlog"]["start_s"] > 0
    assert report["backlog"]["full_mb"] > report["backlog"]["idle_mb"]


@pytest.mark.slow
@pytest.mark.timeout(300)  # seconds of load are what it is about
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_comparison_measures_this_server_when_the_original_is_left_out(tmp_path: Path) -> None:
    """One measurement on one server: every answer is good and agrees with the server's own count, or it would fail."""
    shown, report = bench(tmp_path, "compare", "--no-original", "--only", "http-push-8", "--only", "pull-ack")

    assert "the original is left out" in shown
    for name, unit in (("http-push-8", "jobs"), ("pull-ack", "cycles")):
        series = report["series"][name]
        assert series["unit"] == unit
        assert series["median"]["bunqueue-trio"]["rate"] > 0
        assert series["advantage"] == {}
