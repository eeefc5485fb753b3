"""What the checks run in the place of flake8-async finds what that finds."""

import subprocess
import sys
from pathlib import Path

import pytest

FAULTY = """
import trio

async def waits_when_all_is_over():
    try:
        pass
    finally:
        await trio.sleep(1)

async def yields_from_within():
    async with trio.open_nursery():
        yield 1

async def is_let_off():
    async with trio.open_nursery():
        yield 1  # noqa: ASYNC101

async def swallows():
    try:
        await trio.sleep(1)
    except BaseException:
        pass

async def waits_for_nothing():
    return 1
"""
ONLY_A_FINALLY = FAULTY.partition("async def yields")[0]
ONLY_LET_OFF = ONLY_A_FINALLY.replace("sleep(1)", "sleep(1)  # noqa: ASYNC102")


@pytest.mark.slow
def test_it_finds_the_same(tmp_path: Path):
    names = []
    for name, text in (("faulty", FAULTY), ("finally", ONLY_A_FINALLY), ("let_off", ONLY_LET_OFF), ("empty", "")):
        names.append(str(tmp_path / f"{name}.py"))
        Path(names[-1]).write_text(text)
    said = []
    for program in (["-m", "flake8_async"], [Path(__file__).parents[1] / "scripts" / "async_lint.py"]):
        done = subprocess.run([sys.executable, *program, *names], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
    assert [line.count("ASYNC101") for line in said[0].splitlines()].count(1) == 1
    assert {line.split()[1] for line in said[0].splitlines()} == {
        "ASYNC101",
        "ASYNC102",
        "ASYNC103",
        "ASYNC119",
        "ASYNC124",
    }
    assert names[2] not in said[0]
