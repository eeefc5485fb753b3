"""Checks that all that a user imports has types, in full: `python3 scripts/verify_types.py`.

It is the strictest question a type checker asks of a package (`--verifytypes`). The public modules are those below; the
server's own modules may be imported too, but nobody is asked to, and their share is only shown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from typing import Any

import bootstrap

PUBLIC = (
    "bunqueue_trio", "bunqueue_trio.client", "bunqueue_trio.errors", "bunqueue_trio.protocol", "bunqueue_trio.sync",
    "bunqueue_trio.testing",
)  # fmt: skip


def untyped(symbols: list[dict[str, Any]], modules: list[str]) -> list[str]:
    """List the public symbols whose type is unknown, or for another type checker to guess."""
    names = []
    for symbol in symbols:
        home = max((m for m in modules if f"{symbol['name']}.".startswith(f"{m}.")), key=len)
        is_public = home in PUBLIC or home.startswith(tuple(f"{module}." for module in PUBLIC[1:]))
        if symbol["isExported"] and is_public and (not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]):
            told = "; ".join(diagnostic["message"] for diagnostic in symbol["diagnostics"])
            names.append(f"{symbol['name']}: {' '.join(told.split())}")
    return names


def main() -> int:
    """Print what has no type; 0 when nothing lacks one."""
    argparse.ArgumentParser(description="Check that all that a user imports has types, in full.").parse_args()
    bootstrap.reexec()
    environment = os.environ | {
        "VIRTUAL_ENV": str(bootstrap.VENV),
        "PATH": f"{bootstrap.PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    command = [
        str(bootstrap.PYTHON.with_name("basedpyright")), "--pythonpath", str(bootstrap.PYTHON),
        "--verifytypes", "bunqueue_trio", "--ignoreexternal", "--outputjson",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=bootstrap.ROOT, env=environment, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)["typeCompleteness"]
    missing = untyped(report["symbols"], [module["name"] for module in report["modules"]])
    for line in missing:
        print(line)
    public = "100 %" if not missing else f"{len(missing)} symbols without"
    print(f"types of the public modules: {public}; of the whole package: {report['completenessScore']:.1%}")
    return 1 if missing or not report["symbols"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
