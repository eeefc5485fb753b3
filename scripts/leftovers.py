"""No process outlives the program that started it: who is left is found, named and ended.

A process whose parent ends goes to PID 1, where nobody knows whose it was. A program that adopts orphans (Linux:
`PR_SET_CHILD_SUBREAPER`) gets them instead, however many parents were between, and whatever group they made for themselves.
"""

from __future__ import annotations  # so that an older Python gets as far as being told by bootstrap

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
ENDED_WITHIN_S = 10.0  # after SIGKILL: only a process in the middle of a disk access takes longer
TOLD = ("DATA_PATH=", "PYTEST_CURRENT_TEST=")  # of its environment: they tell who started it


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends; elsewhere than on Linux do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def below(pid: int) -> list[int]:
    """Return the running processes below `pid`, parents first; those that have ended and were not waited for are none."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    members = [pid]
    for member in members:
        members += children.get(member, [])
    return members[1:]


def name(pid: int) -> str:
    """Return the command of a process, and what its environment tells of who started it."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return " ".join([f"{pid}:", command, *(entry for entry in environment if entry.startswith(TOLD))])
    return f"{pid}: has ended"


def end(pids: list[int]) -> None:
    """Kill these processes, and wait until they are gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + ENDED_WITHIN_S
    while any(pid in below(os.getpid()) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def end_below() -> None:
    """Kill all processes below this one, also those that a dying one has just started."""
    deadline = time.monotonic() + ENDED_WITHIN_S
    while (left := below(os.getpid())) and time.monotonic() < deadline:
        end(left)
    with contextlib.suppress(ChildProcessError):  # there is none any more
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _interrupt(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """End with the block all processes that it started; SIGTERM and SIGHUP end the block as Ctrl-C does.

    SIGHUP and Ctrl-C stay without effect where they were at the start: under ``nohup``, and behind a shell's ``&``.
    """
    adopt_orphans()
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        yield
    except BaseException as error:
        subgroup = getattr(error, "subgroup", lambda _: None)  # Trio's nurseries raise groups
        if not isinstance(error, KeyboardInterrupt) and subgroup(KeyboardInterrupt) is None:
            raise
        print("interrupted", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None  # noqa: ASYNC104 - an interrupt was found in it
    finally:
        end_below()
