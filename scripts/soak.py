"""Put mixed load on a real server for hours, and look whether anything grows: `python3 scripts/soak.py --hours 1`.

This file only makes sure of the environment; the load and the verdict are in `trials/soak/`.
"""

import sys
from importlib import import_module

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    sys.path.insert(0, str(bootstrap.ROOT))
    with nothing_left():
        raise SystemExit(import_module("trials.soak.command").main())
