"""A line in order, which anything can enter and leave at its place.

Most enter at the end and leave at the front, which costs the same at any length. Anywhere else it is two searches by
halves, since the line is kept in blocks: a list of short lists. Who gets another place leaves first.

Full blocks between the first and the last are tuples: whoever collects garbage looks at all that a list holds, and at nothing of
a tuple in which it has once found only jobs. With 3,000,000 jobs that was a stop of 50 ms.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct

T = TypeVar("T")

# To leave at the front moves the rest of a block: 4 KB, 0.1 µs.
BLOCK_MAX = 512


def _closed(block: list[T]) -> list[T]:
    """Return a full block as one that does not change for now."""
    return cast("list[T]", tuple(block))


# Whoever collects garbage looks into the blocks only; a server may have a line for each of 100,000 queues.
class Line(Struct, Generic[T], eq=False, gc=False):
    """Things in the order of ``place``, which gives each its own; no two stand in the same."""

    place: Callable[[T], Any]
    blocks: list[list[T]] = []
    """None of them is empty. Those that are tuples are full, and are made lists before they change."""

    def __len__(self) -> int:
        """Return how many stand in it; looks at every block."""
        return sum(map(len, self.blocks))

    def __bool__(self) -> bool:
        return bool(self.blocks)

    def __iter__(self) -> Iterator[T]:
        """Iterate in order; nothing may be added or removed meanwhile."""
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
        place = self.place(one)
        block = blocks[-1]
        if self.place(block[-1]) < place:
            if len(block) < BLOCK_MAX:
                block.append(one)
                return
            if len(blocks) > 1:
                blocks[-1] = _closed(block)
            blocks.append([one])
            return
        # What has failed together comes in any order, but near the end.
        at = len(blocks) - 1 if self.place(block[0]) < place else self._block(place)
        block = self._opened(at)
        block.insert(bisect_left(block, place, key=self.place), one)
        if len(block) > BLOCK_MAX:
            half = len(block) // 2
            blocks.insert(at + 1, block[half:])
            del block[half:]

    def fill(self, many: list[T]) -> None:
        """Let all of ``many``, which get sorted, stand in a line that is empty."""
        many.sort(key=self.place)
        self.blocks += [many[i : i + BLOCK_MAX] for i in range(0, len(many), BLOCK_MAX)]
        self.blocks[1:-1] = map(_closed, self.blocks[1:-1])

    def remove(self, one: T) -> None:
        """Let ``one`` leave its place.

        Raises:
            ValueError: it does not stand there.
        """
        blocks = self.blocks
        if blocks and blocks[0][0] is one:
            at, i = 0, 0
        else:
            at, i = self._find(one)
        block = blocks[at] if type(blocks[at]) is list else self._opened(at)
        del block[i]
        if not block:
            del blocks[at]

    def _opened(self, at: int) -> list[T]:
        """Return a block that is to be changed."""
        block: Any = self.blocks[at]
        if isinstance(block, tuple):
            block = self.blocks[at] = list(block)
        opened: list[T] = block
        return opened

    def _find(self, one: T) -> tuple[int, int]:
        blocks, place = self.blocks, self.place(one)
        at = self._block(place)
        i = bisect_left(blocks[at], place, key=self.place) if at < len(blocks) else 0
        while at < len(blocks):
            block = blocks[at]
            # A damaged file may have given a place twice.
            while i < len(block) and self.place(block[i]) == place:
                # Names and numbers come from many sources.
                if block[i] == one:
                    return at, i
                i += 1
            if i < len(block):
                break
            at, i = at + 1, 0
        raise ValueError("it stands somewhere else, or in no line")

    def __contains__(self, one: T) -> bool:
        """Return whether ``one`` stands at its place."""
        try:
            self._find(one)
        except ValueError:
            return False
        return True

    def rank(self, one: T) -> int:
        """Return how many stand before ``one``, who stands here at its place; looks at every block before."""
        place = self.place(one)
        at = self._block(place)
        return sum(map(len, self.blocks[:at])) + bisect_left(self.blocks[at], place, key=self.place)

    def after(self, place: Any) -> Iterator[T]:
        """Iterate over who stands behind ``place``, whoever stands there; nothing may be added or removed meanwhile."""
        blocks = self.blocks
        at = bisect_right(blocks, place, key=self._end)
        if at == len(blocks):
            return iter(())
        start = bisect_right(blocks[at], place, key=self.place)
        return chain(islice(blocks[at], start, None), chain.from_iterable(blocks[at + 1 :]))

    def before(self, place: Any) -> Iterator[T]:
        """Iterate backwards over who stands before ``place``; nothing may be added or removed meanwhile."""
        blocks, at = self.blocks, self._block(place)
        near = blocks[at][: bisect_left(blocks[at], place, key=self.place)] if at < len(blocks) else []
        return chain(reversed(near), chain.from_iterable(map(reversed, reversed(blocks[:at]))))

    def _block(self, place: Any) -> int:
        """Return in which block ``place`` is, or would be; the number of blocks if it is behind all."""
        blocks = self.blocks
        if blocks and place <= self._end(blocks[0]):
            # What comes back, and what is to be first, are there.
            return 0
        return bisect_left(blocks, place, key=self._end)

    def _end(self, block: list[T]) -> Any:
        return self.place(block[-1])
