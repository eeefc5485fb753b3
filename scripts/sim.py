"""Simulate the whole server on virtual time, with everything that can go wrong: `docs/proof.md` says what and how.

    python3 scripts/sim.py --seed 7 --hours 1      one world; prints the SHA-256 of its log, the same each time
    python3 scripts/sim.py --seeds 0-299           many, in as many processes as there are cores
    python3 scripts/sim.py --cluster --seed 7      a cluster: several brokers on one database

This file only makes sure of the environment; the worlds are in `tests/sim/sim_world.py` and `tests/cluster/cluster_world.py`.
"""

import sys
from importlib import import_module

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    sys.path.insert(0, str(bootstrap.ROOT))
    with nothing_left():
        raise SystemExit(import_module("tests.sim.command").main())
