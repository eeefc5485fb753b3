"""Make the pictures of the dashboard in `docs/dashboard/`: a night in a simulated server, seen by Debian's Chromium.

    python3 scripts/pictures.py        needs `chromium`; about half a minute

This file only makes sure of the environment; the night is in `tests/ui/night.py`, the camera in `tests/ui/camera.py`.
"""

import sys
from importlib import import_module

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    sys.path.insert(0, str(bootstrap.ROOT))
    with nothing_left():
        raise SystemExit(import_module("tests.ui.camera").main())
