"""Measure the engine, the server against the original it is compatible with, and the floor below both.

    python3 scripts/bench.py engine     the engine alone, memory per job, start-up; checked against what is required
    python3 scripts/bench.py compare    the same load on this server and on the original, in turn
    python3 scripts/bench.py peers      RQ, Celery, Dramatiq and Huey, installed for it, beside this project
    python3 scripts/bench.py floor      SQLite alone and a bare Trio socket: what no server here can beat
    python3 scripts/bench.py workers    one worker on Trio and on asyncio; checked against what is required
    python3 scripts/bench.py crowd      looks at and acts on a million jobs in a thousand queues
    python3 scripts/bench.py cluster    CPU of a leader with doors, and of one on PostgreSQL beside the original there; checked against what is required
    python3 scripts/bench.py idle       what idle readers cost, and a command over WebSocket
    python3 scripts/bench.py ways       what a request costs by every way it may come, and with many queues; checked

Add `--quick` to see that it works, `--help` for the rest. Absolute numbers are the machine's; ratios of pairs
measured one right after the other are what the comparison is about.

This file only makes sure of the environment; the commands are in `trials/bench/command.py`.
"""

import sys
from importlib import import_module

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    sys.path.insert(0, str(bootstrap.ROOT))
    with nothing_left():
        raise SystemExit(import_module("trials.bench.command").main())
