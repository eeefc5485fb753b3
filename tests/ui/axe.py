"""axe-core, which finds faults of pages for those who cannot see or point; npm brings it, and its hash says that it is the one."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

VERSION = "4.10.3"
HASH = "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg=="
"""SHA-512 of the package, as npm tells it."""

RUN = """axe.run(document, {resultTypes: ["violations"]}).then((found) => found.violations.map(
  (each) => `${each.id}: ${each.help}: ${each.nodes.map((node) => node.html.slice(0, 100)).slice(0, 3).join(" | ")}`
))"""
"""What is run on a page that has the source: a text for each fault."""


def source(folder: Path) -> str | None:
    """Return the source of axe-core, None where it cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    got = subprocess.run(
        [npm, "pack", f"axe-core@{VERSION}", "--silent", "--prefer-offline"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if got.returncode:
        return None
    package = folder / got.stdout.split()[-1]
    assert base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() == HASH
    with tarfile.open(package) as files:
        found = files.extractfile("package/axe.min.js")
        assert found is not None
        return found.read().decode()
