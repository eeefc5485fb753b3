"""Where the checkout is, and what a program of it needs to find its modules."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
# This checkout's code, whatever is installed.
PYTHONPATH = os.pathsep.join([str(SOURCE), str(ROOT)])
