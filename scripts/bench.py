"""Measure the engine, the server against the original it is compatible with, and the floor below both.

    python3 scripts/bench.py engine     the engine alone, memory per job, start-up; checked against what is required
    python3 scripts/bench.py compare    the same load on this server and on the original, in turn
    python3 scripts/bench.py peers      RQ, Celery, Dramatiq and Huey, installed for it, beside this project
    python3 scripts/bench.py floor      SQLite alone and a bare Trio socket: what no server here can beat

Add `--quick` to see that it works, `--help` for the rest. Absolute numbers are the machine's; ratios of pairs
measured one right after the other are what the comparison is about.

This file only makes sure of the environment; the commands are in `bench_cli.py`.
"""

import bootstrap

if __name__ == "__main__":
    bootstrap.reexec()

    from bench_cli import main
    from leftovers import nothing_left

    with nothing_left():
        raise SystemExit(main())
