"""Kill a real server under load, again and again, and look whether everything that it had answered is still there.

`python3 scripts/crashtest.py --data DIR` is `bunqueue-trio crashtest --data DIR` in an environment that is made for it.
"""

import sys

import bootstrap
from leftovers import nothing_left

if __name__ == "__main__":
    bootstrap.reexec()
    from bunqueue_trio.cli import main

    with nothing_left():
        main(["crashtest", *sys.argv[1:]])  # exits
