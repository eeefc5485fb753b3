"""What the checks find on the machine, or put there where they may: programs that some tests need, and that no test installs."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path


def has_postgres() -> bool:
    """Return whether there is a PostgreSQL for the tests to start."""
    return shutil.which("postgres") is not None or any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


def has_pgbouncer() -> bool:
    """Return whether there is a PgBouncer to put in front of it."""
    return shutil.which("pgbouncer") is not None or Path("/usr/sbin/pgbouncer").exists()


def install() -> None:
    """Install Debian's Chromium, PostgreSQL and PgBouncer where that is possible; elsewhere the tests that need them skip themselves."""
    wanted = [] if shutil.which("chromium") else ["chromium"]
    wanted += [] if has_postgres() else ["postgresql"]
    wanted += [] if has_pgbouncer() else ["pgbouncer"]
    if not wanted or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    commands = [["apt-get", "update", "-qq"], *(["apt-get", "install", "-y", "-qq", name] for name in wanted)]
    for command in commands:
        try:
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False, timeout=240)
        except subprocess.TimeoutExpired:
            return


if __name__ == "__main__":
    argparse.ArgumentParser(
        description="Install the programs that some tests need, where that is possible."
    ).parse_args()
    install()
