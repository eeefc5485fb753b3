"""Texts in order: as quick to change as to look at, whatever clients make them begin with.

A ``Line`` is the same for things that have a place; where they are their own, a change costs a quarter of that.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import chain, islice

# Keys in a block: to add one moves the others behind it.
_BLOCK_MAX = 512


class Shelf:
    """Keys in order, in blocks."""

    __slots__ = ("_blocks", "_firsts")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """Begin with these, which are in order."""
        keys = list(keys)
        self._blocks = [keys[i : i + _BLOCK_MAX] for i in range(0, len(keys), _BLOCK_MAX)]
        """None of them is empty."""
        self._firsts = [block[0] for block in self._blocks]
        """The first key of each."""

    def __iter__(self) -> Iterator[str]:
        """Iterate in order; nothing may be added or removed meanwhile."""
        return chain.from_iterable(self._blocks)

    def add(self, key: str) -> None:
        """Put it at its place."""
        if not self._blocks:
            self._blocks, self._firsts = [[key]], [key]
            return
        at = self._where(key)
        block = self._blocks[at]
        insort(block, key)
        self._firsts[at] = block[0]
        if len(block) > _BLOCK_MAX:
            half = len(block) // 2
            self._blocks.insert(at + 1, block[half:])
            self._firsts.insert(at + 1, block[half])
            del block[half:]

    def remove(self, key: str) -> bool:
        """Take it away, which is there; return whether it was the last."""
        at = self._where(key)
        block = self._blocks[at]
        del block[bisect_left(block, key)]
        if block:
            self._firsts[at] = block[0]
        else:
            del self._blocks[at], self._firsts[at]
        return not self._blocks

    def after(self, last: str) -> Iterator[str]:
        """Iterate over the keys behind ``last``, in order; nothing may change meanwhile."""
        if not self._blocks:
            return iter(())
        at = self._where(last)
        block = self._blocks[at]
        return chain(islice(block, bisect_right(block, last), None), chain.from_iterable(self._blocks[at + 1 :]))

    def _where(self, key: str) -> int:
        """Return in which block a key is, or would be."""
        return max(0, bisect_right(self._firsts, key) - 1)
