"""``python -m bunqueue_trio``: the same as the command ``bunqueue-trio``."""

from bunqueue_trio.cli import main

main()
