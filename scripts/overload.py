"""Attack a real server, and measure what it costs its other clients: `python3 scripts/overload.py --quick`.

This file only makes sure of the environment; the attacks are in `trials/overload/`.
"""

import sys
from importlib import import_module

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    sys.path.insert(0, str(bootstrap.ROOT))
    with nothing_left():
        raise SystemExit(import_module("trials.overload.command").main())
