"""What the demo works on: the files, the job each becomes, and the result each must have."""

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TypedDict

QUEUE = "files"
SKIPPED_DIRECTORIES = {"__pycache__", "site-packages", "dist-packages", ".git"}
ONE_IN = 20  # one job in 20 (5 %) fails on purpose at the first try


class Facts(TypedDict):
    """What is found out about one file."""

    sha256: str
    words: int
    bytes: int


def list_files(tree: Path, limit: int | None = None) -> list[str]:
    """Return the first `limit` readable files under `tree`, in an order that is always the same."""
    return list(islice(_walk(tree), limit))


def _walk(tree: Path) -> Iterator[str]:
    """Yield every readable regular file below `tree`, directory by directory."""
    for directory, names, files in os.walk(tree):
        names[:] = sorted(set(names) - SKIPPED_DIRECTORIES)
        for name in sorted(files):
            path = Path(directory, name)
            if path.is_file() and os.access(path, os.R_OK):
                yield str(path)


def examine(path: str) -> Facts:
    """Compute the digest, the number of words and the size of one file."""
    content = Path(path).read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "words": len(content.split()),
        "bytes": len(content),
    }


def job_id(path: str) -> str:
    """Derive the job's id from its path, so that pushing a file twice makes one job."""
    return f"file-{_digest(path)[:32]}"


def fails_first(path: str) -> bool:
    """Tell whether this file's job fails on purpose at its first try."""
    return int(_digest(path)[:8], 16) % ONE_IN == 0


def _digest(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()
