"""A server that may open too few files for itself does not start: its first clients would take those that it still needs."""

import subprocess
import sys

import pytest

from bunqueue_trio.config import DESCRIPTORS_KEPT


@pytest.mark.slow
@pytest.mark.parametrize("files", [40, DESCRIPTORS_KEPT - 1, DESCRIPTORS_KEPT])
def test_too_few_descriptors_are_said_in_a_line(files: int):
    program = f"ulimit -n {files}; exec {sys.executable} -m bunqueue_trio config"
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, timeout=60, check=False)
    if files == DESCRIPTORS_KEPT:
        assert done.returncode == 0
        return
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"ulimit -n is {files}: a server needs {DESCRIPTORS_KEPT} files for itself" in line
