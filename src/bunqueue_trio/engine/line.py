"""A line in order, which anything can enter and leave at its place.

Most enter at the end and leave at the front, which costs the same at any length. Anywhere else it is two searches by
halves, since the line is kept in blocks: a list of short lists. A place must not change while somebody stands there.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, Generic, TypeVar

T = TypeVar("T")

BLOCK_MAX = 512  # to leave at the front moves the rest of a block: 4 KB, 0.1 µs


class Line(Generic[T]):
    """Things in the order of ``place``, which gives each its own; no two stand in the same."""

    __slots__ = ("_place", "blocks")

    def __init__(self, place: Callable[[T], Any]) -> None:
        self._place = place
        self.blocks: list[list[T]] = []
        """None of them is empty."""

    def __len__(self) -> int:
        """Return how many stand in it; looks at every block."""
        return sum(map(len, self.blocks))

    def __bool__(self) -> bool:
        return bool(self.blocks)

    def __iter__(self) -> Iterator[T]:
        """Iterate in order; nothing may enter or leave meanwhile."""
        return chain.from_iterable(self.blocks)

    def first(self) -> T | None:
        """Return who stands at the front, or None."""
        return self.blocks[0][0] if self.blocks else None

    def add(self, one: T) -> None:
        """Let ``one`` stand at its place."""
        blocks = self.blocks
        if not blocks:
            blocks.append([one])
            return
        place = self._place(one)
        block = blocks[-1]
        if self._place(block[-1]) < place:
            if len(block) < BLOCK_MAX:
                block.append(one)
            else:
                blocks.append([one])
            return
        at = self._block(place)
        block = blocks[at]
        block.insert(bisect_left(block, place, key=self._place), one)
        if len(block) > BLOCK_MAX:
            half = len(block) // 2
            blocks.insert(at + 1, block[half:])
            del block[half:]

    def fill(self, many: list[T]) -> None:
        """Let all of ``many``, which get sorted, stand in a line that is empty."""
        many.sort(key=self._place)
        self.blocks += [many[i : i + BLOCK_MAX] for i in range(0, len(many), BLOCK_MAX)]

    def remove(self, one: T) -> None:
        """Let ``one``, who stands here, leave."""
        blocks = self.blocks
        if blocks[0][0] is one:
            at, block, i = 0, blocks[0], 0
        else:
            place = self._place(one)
            at = self._block(place)
            block = blocks[at]
            i = block.index(one, bisect_left(block, place, key=self._place))
        del block[i]
        if not block:
            del blocks[at]

    def __contains__(self, one: T) -> bool:
        place = self._place(one)
        at = self._block(place)
        if at == len(self.blocks):
            return False
        block = self.blocks[at]
        return block[bisect_left(block, place, key=self._place)] is one

    def after(self, place: Any) -> Iterator[T]:
        """Iterate over who stands behind ``place``, whoever stands there; nothing may enter or leave meanwhile."""
        blocks = self.blocks
        at = bisect_right(blocks, place, key=self._end)
        if at == len(blocks):
            return iter(())
        start = bisect_right(blocks[at], place, key=self._place)
        return chain(islice(blocks[at], start, None), chain.from_iterable(blocks[at + 1 :]))

    def _block(self, place: Any) -> int:
        """Return in which block ``place`` is, or would be; the number of blocks if it is behind all."""
        blocks = self.blocks
        if blocks and place <= self._end(blocks[0]):
            return 0  # what comes back, and what is to be first, are there
        return bisect_left(blocks, place, key=self._end)

    def _end(self, block: list[T]) -> Any:
        return self._place(block[-1])
