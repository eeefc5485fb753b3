"""The last deadline ends a process whatever hangs in it, and nothing that is over in time."""

import subprocess
import sys

import pytest

HANGS = {
    "a shield": "with trio.CancelScope(shield=True): await trio.sleep_forever()",
    "a thread": "await trio.to_thread.run_sync(time.sleep, 600)",
    "an async generator": "kept.append(generate()); await anext(kept[0])",
    "the loop": "time.sleep(600)",
}


def run(body: str) -> subprocess.CompletedProcess[str]:
    code = f"""
import time, trio
from bunqueue_trio.logs.lines import configure_logging
from bunqueue_trio.runtime.deadline import LastDeadline

async def generate():
    try:
        yield
    finally:
        with trio.CancelScope(shield=True): await trio.sleep_forever()

kept = []

async def main(last):
    last.set(600, 9)
    {body}

configure_logging("info", "json")
with LastDeadline() as last:
    trio.run(main, last)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("hang", HANGS)
def test_a_process_that_hangs_is_ended_with_the_code_that_was_set(hang: str):
    done = run(f"last.set(0.1, 7)\n    {HANGS[hang]}")
    assert (done.returncode, "has not come to its end" in done.stdout + done.stderr) == (7, True)


@pytest.mark.slow
def test_what_is_over_in_time_ends_as_it_would():
    assert run("pass").returncode == 0
