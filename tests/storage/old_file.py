"""Writes `files/schemaN.store`, which a version of schema N wrote: jobs in every state, records, events.

`python -m tests.storage.old_file FILE`, run in a checkout of the version whose file is wanted.
"""

import sys
from pathlib import Path

from tests.operations.stores import make_store

if __name__ == "__main__":
    make_store(Path(sys.argv[1]))
