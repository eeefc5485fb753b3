"""What the numbers belong to: commit, date, processor and versions. No names of hosts, users or directories."""

import datetime as dt
import os
import platform
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import apsw

from trials.lib.places import ROOT


def describe(filesystem: str) -> dict[str, Any]:
    """Return it all."""
    return {
        "commit": commit(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load_before": round(os.getloadavg()[0], 2),
        "file_system": filesystem,
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": f"{platform.python_version()} ({build_of(str(sysconfig.get_config_var('CONFIG_ARGS')))})",
        "sqlite": apsw.sqlite_lib_version(),
    }


def commit() -> str:
    """Return the short hash of the checkout's commit, with a mark when the code differs from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + (" with changes" if _git("status", "--porcelain", "--", "src", "scripts", "trials") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def build_of(options: str) -> str:
    """Return how an interpreter that was configured with ``options`` was optimised, as far as they say; Debian's do not."""
    has_pgo, has_lto = "--enable-optimizations" in options, "--with-lto" in options
    if has_pgo and has_lto:
        return "PGO and LTO"
    return "PGO" if has_pgo else "LTO" if has_lto else "says nothing of PGO or LTO"


def cpu_model() -> str:
    """Return the processor's name for itself."""
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
