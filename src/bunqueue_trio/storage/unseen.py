"""The part of a store that has no file of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bunqueue_trio.errors import StoreError


class Unseen:
    """The part of a store whose pages are not ours to look at: in memory there are none, and a database looks after its own."""

    damage = None
    file: Path | None = None
    shrinks: bool = False

    def parts(self) -> Sequence[str]:
        """Return nothing."""
        return ()

    def look_over(self, part: str, is_over: Callable[[], bool]) -> bool:
        """Look at nothing."""
        return True

    def copy_to(self, target: Path, on_progress: Callable[[int, int], None]) -> int:
        """Refuse: there is no file."""
        raise StoreError("there is no file to copy")
