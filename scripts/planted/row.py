"""What one planted fault is."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault: `old`, which is in the file exactly once, becomes `new`."""

    file: str
    old: str
    new: str
    why: str
    open: bool = False
    """No test notices it yet: it is not planted, and stands here so that one gets written."""
