"""Kill, suspend, restart and cut off real servers on a real PostgreSQL, again and again: `python3 scripts/chaos.py --rounds 200`.

Clients count what they were answered; after each round the database is compared with that. This file only makes sure of the
environment; the rounds are in `trials/chaos/`.
"""

import sys
from importlib import import_module

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    sys.path.insert(0, str(bootstrap.ROOT))
    with nothing_left():
        raise SystemExit(import_module("trials.chaos.command").main())
