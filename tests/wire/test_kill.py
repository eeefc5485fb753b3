"""SIGKILL under load: nothing answered is lost, nothing ended comes back."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import leftovers
from tests.programs import run_to_its_end

SCRIPT = Path(__file__).parents[2] / "scripts" / "crashtest.py"


def crashtest(*arguments: str, within_s: float) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), *arguments]
    return run_to_its_end(command, within_s=within_s)


def answered(shown: str) -> int:
    """How many changes the clients were answered, in a run that lost none of them."""
    (count,) = re.findall(
        r"^\d+ rounds?, ([\d,]+) answered changes?, .* nothing was lost that was promised$", shown, re.MULTILINE
    )
    return int(count.replace(",", ""))


@pytest.mark.slow
def test_kills_lose_nothing_that_was_answered(tmp_path: Path):
    done = crashtest("--kills", "5", "--seed", "1", "--data", str(tmp_path), within_s=590)
    assert done.returncode == 0, done.stdout + done.stderr
    assert answered(done.stdout) >= 5, "one a life: how many more there are is a matter of the machine"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.timeout(1500)  # 200 s on a quiet machine
@pytest.mark.parametrize("mode", [[], ["--power-loss"], ["--power-loss", "--durable"]], ids="".join)
def test_a_hundred_ends_lose_nothing_that_was_promised(tmp_path: Path, mode: list[str]):
    done = crashtest("--kills", "100", "--seed", "2", "--data", str(tmp_path), *mode, within_s=1490)
    assert done.returncode == 0, done.stdout + done.stderr
    assert answered(done.stdout) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_installed_command_leaves_no_server_behind(tmp_path: Path, signum: signal.Signals):
    command = [sys.executable, "-m", "bunqueue_trio", "crashtest", "--rounds", "1000", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("crashtest: 1,000 kills")
        assert process.stdout.readline().startswith("kill    1: ")
        process.send_signal(signum)
        assert process.wait(60) == 130
        (kept,) = tmp_path.iterdir()
        assert process.stderr.read() == f"interrupted; the files are in {kept}\n"
    assert not [pid for pid in leftovers.below(os.getpid()) if str(tmp_path) in leftovers.name(pid)]


@pytest.mark.slow
def test_wrong_usage_is_one_line(tmp_path: Path):
    missing = str(tmp_path / "missing")
    for arguments, told in ((["--data", missing], missing), (["--kills", "0"], "x>=1")):
        done = crashtest(*arguments, within_s=120)
        assert done.returncode == 2
        assert told in done.stderr
