"""What a program started ends with it: after a failure, after a signal, and when a process between them has gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import leftovers
from tests.patience import PATIENCE_S
from tests.programs import end_family, run_to_its_end

SCRIPTS = Path(__file__).parents[1] / "scripts"

# A child, and a child of a child that has gone and left it alone, in a session of its own.
PROGRAM = """
import subprocess, sys, time
sys.path.insert(0, {scripts!r})
from leftovers import nothing_left
with nothing_left():
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(sleeper)
    start = f"import subprocess; print(subprocess.Popen({{sleeper!r}}, start_new_session=True, stdout=subprocess.DEVNULL).pid)"
    orphan = subprocess.run([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True).stdout.strip()
    print(child.pid, orphan, flush=True)
    {then}
"""


def program(then: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(scripts=str(SCRIPTS), then=then)]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(("then", "code"), [("pass", 0), ("raise ValueError", 1), ("raise KeyboardInterrupt", 130)])
def test_a_program_ends_what_it_started(then: str, code: int):
    done = run_to_its_end(program(then), within_s=PATIENCE_S)
    assert done.returncode == code, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    assert not any(runs(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_program_ends_what_it_started(signum: signal.Signals):
    with subprocess.Popen(program("time.sleep(600)"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(runs(pid) for pid in pids)
        process.send_signal(signum)
        assert process.wait(PATIENCE_S) == 130
    assert not any(runs(pid) for pid in pids)


@pytest.mark.slow
def test_a_program_behind_nohup_ends_by_sigterm_alone():
    ignoring = (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    )
    interpreter, option, code = program("print('again', flush=True); time.sleep(600)")
    with subprocess.Popen([interpreter, option, ignoring + code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert process.stdout.readline() == "again\n"
        for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(signum)
        assert process.wait(PATIENCE_S) == 130
    assert not any(runs(pid) for pid in pids)


@pytest.mark.slow
def test_a_program_that_hangs_is_ended_with_what_it_started():
    with subprocess.Popen(program("time.sleep(600)"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        end_family(process)
    assert process.returncode == -signal.SIGKILL
    assert len(pids) == 2
    assert not any(runs(pid) for pid in pids)


@pytest.mark.slow
def test_output_that_a_child_holds_is_not_waited_for():
    """`subprocess.run` would wait for ever."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    code = f"import subprocess; subprocess.Popen({sleeper!r}).wait()"
    with pytest.raises(subprocess.TimeoutExpired):
        run_to_its_end([sys.executable, "-c", code], within_s=1)


@pytest.mark.slow
def test_what_is_left_is_named_with_its_test():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "sleep(600)" not in (named := leftovers.name(child.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)  # until it has become another program
        assert "sleep(600)" in named
        assert "test_what_is_left_is_named_with_its_test" in named
        assert child.pid in leftovers.below(os.getpid())
    finally:
        end_family(child)
    assert child.pid not in leftovers.below(os.getpid())
