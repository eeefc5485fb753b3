"""The benchmarks run: they start real processes, find numbers and say so. How good the numbers are is not a test's business."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import run_to_its_end
from trials.bench import kept
from trials.lib.machine import build_of, describe

BENCH = Path(__file__).parents[1] / "scripts" / "bench.py"


def bench(directory: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Run the script; return what it printed and the numbers that it wrote."""
    report = directory / "report.json"
    command = [sys.executable, BENCH, *arguments, "--quick", "--json", report, "--data-dir", directory]
    done = run_to_its_end(command, within_s=290)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(report.read_text())


def test_the_machine_says_how_its_interpreter_was_built() -> None:
    assert build_of("'--enable-optimizations' '--with-lto=full'") == "PGO and LTO"
    assert build_of("'--enable-optimizations'") == "PGO"
    assert build_of("'--with-lto'") == "LTO"
    assert build_of("'--enable-shared'") == "says nothing of PGO or LTO"
    assert "(" in describe("ext4")["python"]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_ways_in_are_measured_beside_a_plain_push(tmp_path: Path) -> None:
    ways = "over TLS", "pulls that wait", "reads all events", "10 jobs at once"
    only = [word for way in ways for word in ("--only", way)]
    done = run_to_its_end([sys.executable, BENCH, "ways", "--quick", *only, "--data-dir", tmp_path], within_s=290)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout.splitlines()[1:]
    assert len(shown) == len(ways)
    assert all(any(way in line for line in shown) for way in ways), shown
    assert all(line.endswith("×") for line in shown), shown


@pytest.mark.slow
def test_worker_benchmark_measures_both_loops(tmp_path: Path) -> None:
    """Jobs that are done, jobs that fail and single pushes, of our own worker and client."""
    shown, report = bench(tmp_path, "workers")

    assert "nothing is judged" in shown
    assert {loop: sorted(found) for loop, found in report["loops"].items()} == {
        loop: ["done", "failed", "failed_to_done", "pushed"] for loop in ("trio", "asyncio")
    }
    assert all(rate > 0 for found in report["loops"].values() for rate in found.values())


def test_what_is_kept_beside_a_job_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes parts of the engine away, which it has to know."""
    monkeypatch.setattr(kept, "JOBS", 20)
    monkeypatch.setattr(kept, "PAIRS", 1)
    kept.main()
    shown = capsys.readouterr().out
    assert "a failure that is tried again, and the next delivery, the same text: " in shown
    assert "bytes of the file: a job " in shown
