"""Kill a real server under load, again and again, and look whether everything that it had answered is still there.

`python3 scripts/crashtest.py --data DIR` tries your own disk. This file only makes sure of the environment; the crash test
is in `trials/crash/command.py`.
"""

import sys
from importlib import import_module

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    sys.path.insert(0, str(bootstrap.ROOT))
    with nothing_left():
        raise SystemExit(import_module("trials.crash.command").main())
