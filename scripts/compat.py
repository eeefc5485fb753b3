"""Put the same calls to the original, bunqueue, and to this server, and compare what they answer.

    python3 scripts/compat.py                 what differs and is not declared; whether docs/compatibility.md says what is found
    python3 scripts/compat.py --write-docs    put the tables that are found into the page

npm installs the original once. What is asked is in `trials/compat/scenario.py`, the sentences that say why something
differs are in `trials/compat/notes.py`. This file only makes sure of the environment.
"""

import sys
from importlib import import_module

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    sys.path.insert(0, str(bootstrap.ROOT))
    with nothing_left():
        raise SystemExit(import_module("trials.compat.command").main())
